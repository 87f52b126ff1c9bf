"""How a party does, for Prometheus (/metrics) and for a supervisor (/healthz), on the loopback only.

Only counts, sizes, times and public reasons come here; nothing of a text, a weight, a share or a key. A label is one of
a fixed set of our own words, never a word of a peer. docs/operations.md lists the metrics.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, make_wsgi_app

import mpcnet
from mpcnet.errors import (
    ChannelBusy,
    ChannelError,
    ChannelTimeout,
    LocalConfigError,
    LocalStorageError,
    MpcError,
    RemoteAbort,
    RemoteError,
    RemoteIdentityError,
    RemoteMismatchError,
    one_line,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Cause: TypeAlias = Literal[
    "closed", "timeout", "abort", "protocol", "identity", "mismatch", "stopped", "storage", "local", "bug"
]  # fmt: skip
Outcome: TypeAlias = Literal["answered", "refused", "failed"]
HOST: Final = "127.0.0.1"  # nobody is asked for a name here, so nobody from elsewhere may come
# From a short text on a LAN to a long one on a WAN.
BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CLIENT_S: Final = 5.0  # a client that sends nothing for so long is dropped
POLL_S: Final = 0.1  # how long `close` may take
DAY_S: Final = 86400.0
_CAUSES: Final[tuple[tuple[type[BaseException], Cause], ...]] = (  # the first that fits
    (RemoteAbort, "abort"),
    (RemoteIdentityError, "identity"),
    (RemoteMismatchError, "mismatch"),
    (RemoteError, "protocol"),
    (ChannelTimeout, "timeout"),
    (ChannelBusy, "local"),
    (ChannelError, "closed"),
    (LocalStorageError, "storage"),
    (MpcError, "local"),
    (asyncio.CancelledError, "stopped"),
    (KeyboardInterrupt, "stopped"),
)


def cause_of(error: BaseException) -> Cause:
    """The class of an error, as a label; an error that is none of ours is a `bug`."""
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "bug")


@dataclass(frozen=True, slots=True)
class _State:
    """Whether the party can serve; if not, for whom it waits. `since_s`: unix time at which it became so."""

    waits_for: str | None
    since_s: float


@dataclass(frozen=True, slots=True)
class _Families:
    """Makes metrics in a registry."""

    registry: CollectorRegistry

    def counter(self, name: str, text: str) -> Counter:
        return Counter(f"mpcnet_{name}", text, registry=self.registry)

    def counters(self, name: str, label: str, values: Iterable[str], text: str) -> dict[str, Counter]:
        """One for each label, from the start at 0, so that the first one counted shows as an increase."""
        family = Counter(f"mpcnet_{name}", text, [label], registry=self.registry)
        return {value: family.labels(value) for value in values}

    def gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"mpcnet_{name}", text, registry=self.registry)

    def histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"mpcnet_{name}", text, buckets=BUCKETS_S, registry=self.registry)


class Metrics:
    """What one party counts, in a registry of its own. Safe to use from any thread."""

    def __init__(self, role: str, *, clock: Callable[[], float] = time.time) -> None:
        """A party that is starting. `clock` tells the unix time in seconds."""
        self.role, self.registry = role, CollectorRegistry()
        self._clock, self._lock = clock, threading.Lock()
        self._state = _State("starting", clock())
        self._expires_s, self._queued, self._runs = math.nan, 0, 0
        make, causes = _Families(self.registry), get_args(Cause)
        self._ready = make.gauge("ready", "1 if the party is able to serve, 0 while it waits for somebody.")
        self._began = make.counter("sessions", "Sessions begun with the other computing parties.")
        self._ended = make.counters("sessions_ended", "cause", causes, "Sessions ended, by the class of the cause.")
        self._aborts = make.counters("aborts", "cause", causes, "Aborts told to the peers, by the class of the cause.")
        self._requests = make.counters("requests", "outcome", get_args(Outcome), "Requests of clients, by outcome.")
        self._sentences = make.counter("sentences", "Sentences answered.")
        self._rounds = make.counter("rounds", "Communication rounds of requests.")
        self._sent = make.counter("sent_bytes", "Bytes of requests' rounds sent to the other server.")
        self._received = make.counter("received_bytes", "Bytes of requests' rounds received from the other server.")
        self._offline = make.histogram("offline_seconds", "Seconds an answered request waited for its corrections.")
        self._online = make.histogram("online_seconds", "Seconds of an answered request's online phase.")
        self._queue = make.gauge("queued_requests", "Requests that wait for their turn.")
        self._buffered_runs = make.gauge("buffered_runs", "Runs whose corrections are buffered.")
        self._buffered_bytes = make.gauge("buffered_bytes", "Bytes of corrections buffered.")
        self._refused = make.counter("refused_connections", "Connections that were refused.")
        self._expiry = make.gauge("certificate_expiry_timestamp_seconds", "Unix time at which our certificate expires.")
        self._expiry.set(math.nan)  # until it is known: 0 would be long ago
        build = Info("mpcnet_build", "Role and version of the party.", registry=self.registry)
        build.info({"role": role, "version": mpcnet.__version__})
        ProcessCollector(registry=self.registry)

    def waiting(self, reason: str) -> None:
        """Unable to serve, for a public reason such as `for dealer at 10.0.0.3:4100: Connection refused`."""
        self._become(one_line(reason))

    def ready(self) -> None:
        """Able to serve."""
        self._become(None)

    @property
    def waits_for(self) -> str | None:
        """A reason such as `for dealer: 10.0.0.3:4100: Connection refused`; None if the party is able to serve."""
        return self._state.waits_for

    def session_began(self) -> None:
        """The computing parties are connected and agree."""
        self._began.inc()

    def session_ended(self, cause: Cause) -> None:
        """The session is over; see `cause_of`."""
        self._ended[cause].inc()

    def request_done(
        self,
        outcome: Outcome,
        *,
        rounds: int = 0,
        sent_bytes: int = 0,
        received_bytes: int = 0,
        offline_s: float = 0.0,
        online_s: float = 0.0,
        sentences: int = 0,
    ) -> None:
        """A request is over. Its traffic always counts; its seconds and sentences only if it was answered."""
        self._requests[outcome].inc()
        self._rounds.inc(rounds)
        self._sent.inc(sent_bytes)
        self._received.inc(received_bytes)
        if outcome == "answered":
            self._sentences.inc(sentences)
            self._offline.observe(offline_s)
            self._online.observe(online_s)

    def queue(self, depth: int) -> None:
        """So many requests wait for their turn."""
        self._queued = depth
        self._queue.set(depth)

    def buffered(self, runs: int, nbytes: int) -> None:
        """Corrections for so many runs, of so many bytes, are here."""
        self._runs = runs
        self._buffered_runs.set(runs)
        self._buffered_bytes.set(nbytes)

    def abort(self, cause: Cause) -> None:
        """We gave up and told our peers; see `cause_of`."""
        self._aborts[cause].inc()

    def refused_connection(self) -> None:
        """Somebody was not let in."""
        self._refused.inc()

    def certificate_expires(self, when: datetime) -> None:
        """The end of our own certificate, a time with its zone."""
        self._expires_s = when.timestamp()
        self._expiry.set(self._expires_s)

    def health(self) -> dict[str, str | int | float | None]:
        """The body of /healthz: `status` is ready or waiting, `since_s` how long already."""
        state, now_s = self._state, self._clock()
        days = None if math.isnan(self._expires_s) else math.floor((self._expires_s - now_s) / DAY_S)
        return {
            "role": self.role,
            "status": "ready" if state.waits_for is None else "waiting",
            "reason": state.waits_for,
            "since_s": round(max(0.0, now_s - state.since_s), 1),  # the wall clock may be set back
            "version": mpcnet.__version__,
            "certificate_days_left": days,
            "queue": self._queued,
            "buffered_runs": self._runs,
        }

    def _become(self, waits_for: str | None) -> None:
        """Another reason to wait does not restart `since_s`: what matters is how long nobody was served."""
        with self._lock:
            same = (waits_for is None) == (self._state.waits_for is None)
            self._state = _State(waits_for, self._state.since_s if same else self._clock())
            self._ready.set(waits_for is None)


class Monitor:
    """The HTTP endpoint: GET /metrics and /healthz, nothing else, in a daemon thread."""

    def __init__(self, metrics: Metrics, port: int) -> None:
        """On 127.0.0.1; port 0 takes a free one, and `port` tells it once started."""
        self.port = port
        self._app = _application(metrics)
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Listen.

        :raises ChannelBusy: the port is in use.
        :raises LocalConfigError: the port is not to be had by us.
        """
        try:
            server = make_server(HOST, self.port, self._app, server_class=_Server, handler_class=_Handler)
        except (OSError, OverflowError) as error:
            where = f"monitor: cannot listen on {HOST}:{self.port}"
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise ChannelBusy(f"{where}: the port is in use; end its owner or take another") from None
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise LocalConfigError(f"{where}: {reason}; take a port from 1024 to 65535") from None
        self.port, self._server = server.server_port, server
        threading.Thread(target=server.serve_forever, args=(POLL_S,), name="monitor", daemon=True).start()

    def close(self) -> None:
        """Stop listening; harmless if it never began, or twice. Takes 0.1 s at most."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


def _application(metrics: Metrics) -> WSGIApplication:
    exposition = make_wsgi_app(metrics.registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path not in ("/metrics", "/healthz"):
            return _reply(start_response, "404 Not Found", {"error": "there are /metrics and /healthz"})
        if method != "GET":
            return _reply(start_response, "405 Method Not Allowed", {"error": "read-only: GET"}, [("Allow", "GET")])
        if path == "/metrics":
            page: Iterable[bytes] = exposition(environ, start_response)
            return page
        health = metrics.health()
        return _reply(start_response, "200 OK" if health["reason"] is None else "503 Service Unavailable", health)

    return application


def _reply(
    start_response: StartResponse, status: str, body: dict[str, Any], headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json"), *headers])
    return [json.dumps(body).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each client, so that one that sends nothing holds up nobody."""

    daemon_threads = True
    allow_reuse_port = False  # or a second party would share the port unnoticed

    def handle_error(self, request: object, client_address: object) -> None:
        """Here come only clients that leave early or send nothing in time: no news."""


class _Handler(WSGIRequestHandler):
    """A request, without an access log."""

    timeout = CLIENT_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line each scrape would bury those that matter."""
