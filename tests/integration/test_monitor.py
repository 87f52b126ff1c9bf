"""What Prometheus and a supervisor read from a party."""

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from limits import LIMIT_S
from prometheus_client.parser import text_string_to_metric_families

import mpcnet
from mpcnet import errors
from mpcnet.launch.party.monitor import BUCKETS_S, Metrics, Monitor, cause_of

DAY_S = 86400.0


class Clock:
    """The unix time, as the test sets it."""

    def __init__(self) -> None:
        self.now_s = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics("server0", clock=clock)


@pytest.fixture
def monitor(metrics: Metrics) -> Iterator[Monitor]:
    monitor = Monitor(metrics, 0)
    monitor.start()
    yield monitor
    monitor.close()


def ask(monitor: Monitor, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=LIMIT_S)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.headers.get("Content-Type", ""), reply.read()
    finally:
        connection.close()


def health(monitor: Monitor) -> tuple[int, dict[str, object]]:
    status, kind, body = ask(monitor, "/healthz")
    assert kind == "application/json"
    return status, json.loads(body)


def samples(monitor: Monitor) -> dict[str, float]:
    """Every sample, as `name{label}`; of our labels each metric has at most one."""
    status, kind, body = ask(monitor, "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    families = text_string_to_metric_families(body.decode())
    found = [sample for family in families for sample in family.samples]
    return {"".join([s.name, *(f"{{{value}}}" for value in s.labels.values())]): s.value for s in found}


def test_health_of_a_party(monitor: Monitor, metrics: Metrics, clock: Clock) -> None:
    nothing = {"role": "server0", "version": mpcnet.__version__, "queue": 0, "buffered_runs": 0}
    expected = nothing | {"status": "waiting", "reason": "starting", "since_s": 0.0, "certificate_days_left": None}
    assert health(monitor) == (503, expected)

    metrics.certificate_expires(datetime.fromtimestamp(clock.now_s + 361.5 * DAY_S, UTC))
    metrics.waiting("for dealer at 10.0.0.3:4100: Connection refused")
    clock.now_s += 12.34
    metrics.waiting("for server1 at 10.0.0.2:4100: no\nroute")  # another reason, the same wait
    expected |= {"reason": "for server1 at 10.0.0.2:4100: no route", "since_s": 12.3, "certificate_days_left": 361}
    assert health(monitor) == (503, expected)

    metrics.ready()
    metrics.queue(3)
    metrics.buffered(2, 1 << 20)
    clock.now_s += 5
    metrics.ready()
    expected |= {"status": "ready", "reason": None, "since_s": 5.0, "queue": 3, "buffered_runs": 2}
    assert health(monitor) == (200, expected)

    metrics.waiting("for the model owner")
    clock.now_s -= 60  # the clock is set back
    status, body = health(monitor)
    assert (status, body["since_s"]) == (503, 0.0)

    clock.now_s += 400 * DAY_S
    assert health(monitor)[1]["certificate_days_left"] == -39


def test_metrics_count(monitor: Monitor, metrics: Metrics) -> None:
    metrics.ready()
    metrics.session_began()
    metrics.request_done(
        "answered", rounds=168, sent_bytes=1000, received_bytes=900, offline_s=0.3, online_s=45.0, sentences=4
    )
    metrics.request_done("failed", rounds=7, sent_bytes=10, received_bytes=9, offline_s=0.3, online_s=1.0, sentences=4)
    metrics.request_done("refused")
    metrics.queue(3)
    metrics.buffered(2, 1 << 20)
    metrics.abort("timeout")
    metrics.session_ended("timeout")
    metrics.refused_connection()
    metrics.certificate_expires(datetime(2030, 1, 1, tzinfo=UTC))
    got = samples(monitor)
    expected = {
        "mpcnet_ready": 1,
        "mpcnet_sessions_total": 1,
        "mpcnet_sessions_ended_total{timeout}": 1,
        "mpcnet_sessions_ended_total{bug}": 0,
        "mpcnet_aborts_total{timeout}": 1,
        "mpcnet_aborts_total{closed}": 0,
        "mpcnet_requests_total{answered}": 1,
        "mpcnet_requests_total{failed}": 1,
        "mpcnet_requests_total{refused}": 1,
        "mpcnet_sentences_total": 4,  # of those that were answered
        "mpcnet_rounds_total": 175,  # of all: they took place
        "mpcnet_sent_bytes_total": 1010,
        "mpcnet_received_bytes_total": 909,
        "mpcnet_offline_seconds_count": 1,
        "mpcnet_offline_seconds_bucket{0.25}": 0,
        "mpcnet_offline_seconds_bucket{0.5}": 1,
        "mpcnet_online_seconds_sum": 45,
        "mpcnet_online_seconds_bucket{30.0}": 0,
        "mpcnet_online_seconds_bucket{60.0}": 1,
        "mpcnet_queued_requests": 3,
        "mpcnet_buffered_runs": 2,
        "mpcnet_buffered_bytes": 1 << 20,
        "mpcnet_refused_connections_total": 1,
        "mpcnet_certificate_expiry_timestamp_seconds": datetime(2030, 1, 1, tzinfo=UTC).timestamp(),
    }
    assert {name: got[name] for name in expected} == expected
    assert f"mpcnet_build_info{{server0}}{{{mpcnet.__version__}}}" in got
    assert got["process_resident_memory_bytes"] > 1 << 20
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.1, 600)


def test_before_anything_happened(monitor: Monitor) -> None:
    """All that can be counted is there at 0, and an unknown expiry raises no alert."""
    got = {name: value for name, value in samples(monitor).items() if name.startswith("mpcnet_")}
    assert got.pop("mpcnet_ready") == 0
    assert not got["mpcnet_certificate_expiry_timestamp_seconds"] < 1e18
    assert sum("mpcnet_aborts_total{" in name for name in got) == 10
    counted = {name: value for name, value in got.items() if name.endswith("_total") or "_total{" in name}
    assert counted and not any(counted.values())


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/metrics/", "GET", 404),
        ("/healthz/../metrics", "GET", 404),
        ("/favicon.ico", "GET", 404),
        ("/anything", "POST", 404),
        ("/metrics", "POST", 405),
        ("/healthz", "DELETE", 405),
        ("/metrics?name[]=mpcnet_ready", "GET", 200),
        ("/healthz?verbose", "GET", 503),
    ],
)
def test_there_is_nothing_else(
    monitor: Monitor, path: str, method: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(monitor, path, method)[0] == status
    assert capfd.readouterr() == ("", "")  # no access log


def test_a_label_is_never_a_peers_word(metrics: Metrics) -> None:
    for count in (metrics.abort, metrics.session_ended, metrics.request_done):
        with pytest.raises(KeyError):
            count("what a peer said")


def test_parties_of_one_process_do_not_share(monitor: Monitor) -> None:
    other = Metrics("server1")
    other.session_began()
    other.ready()
    got = samples(monitor)
    assert (got["mpcnet_sessions_total"], got["mpcnet_ready"]) == (0, 0)


def test_silent_clients_hold_up_nobody(monitor: Monitor, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        socket.create_connection(("127.0.0.1", monitor.port)),
        socket.create_connection(("127.0.0.1", monitor.port)) as rude,
    ):
        rude.sendall(b"\xff\x00 not HTTP at all\r\n\r\n")
        assert health(monitor)[0] == 503
    assert health(monitor)[0] == 503
    assert capfd.readouterr() == ("", "")


def test_loopback_only(monitor: Monitor) -> None:
    """All of 127/8 is this machine, so another address of it shows what is listened on."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", monitor.port), timeout=LIMIT_S)


def test_a_taken_port(monitor: Monitor, metrics: Metrics) -> None:
    line = (
        rf"^monitor: cannot listen on 127\.0\.0\.1:{monitor.port}: the port is in use; end its owner or take another$"
    )
    with pytest.raises(errors.ChannelBusy, match=line):
        Monitor(metrics, monitor.port).start()


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(metrics: Metrics, port: int) -> None:
    with pytest.raises(errors.LocalConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: no such port"):
        Monitor(metrics, port).start()


def test_closing_frees_the_port(monitor: Monitor, metrics: Metrics) -> None:
    assert health(monitor)[0] == 503
    monitor.close()
    monitor.close()
    with pytest.raises(ConnectionRefusedError):
        ask(monitor, "/healthz")
    again = Monitor(metrics, monitor.port)
    again.start()
    assert health(again)[0] == 503
    again.close()
    Monitor(metrics, 0).close()  # never started


CAUSES: list[tuple[BaseException, str]] = [
    (errors.ChannelClosed("x"), "closed"),
    (errors.ChannelTimeout("x"), "timeout"),
    (errors.ChannelBusy("x"), "local"),
    (errors.RemoteAbort("server1", "what a peer said"), "abort"),
    (errors.RemoteProtocolError("x"), "protocol"),
    (errors.RemoteIdentityError("x"), "identity"),
    (errors.RemoteMismatchError("x"), "mismatch"),
    (errors.LocalStorageError("x"), "storage"),
    (errors.LocalConfigError("x"), "local"),
    (errors.LocalStateError("x"), "local"),
    (asyncio.CancelledError(), "stopped"),
    (KeyboardInterrupt(), "stopped"),
    (ValueError("a secret"), "bug"),
]


@pytest.mark.parametrize(("error", "cause"), CAUSES, ids=[type(error).__name__ for error, _ in CAUSES])
def test_cause(monitor: Monitor, metrics: Metrics, error: BaseException, cause: str) -> None:
    metrics.abort(cause_of(error))
    got = samples(monitor)
    assert {name for name, value in got.items() if name.startswith("mpcnet_aborts_total") and value} == {
        f"mpcnet_aborts_total{{{cause}}}"
    }
