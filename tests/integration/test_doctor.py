"""`mpcnet doctor`: a folder, a machine or a peer that is not as it should be, and what is said of it."""

import asyncio
import json
import math
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from integration.parties import tiny
from integration.sockets import until
from typer.testing import CliRunner

from launch import client, dealer, owner, party, settings
from launch.certs import ROLES, create_deployment
from launch.deploy import write_deployment
from launch.doctor import host as doctor_host
from launch.doctor import peers as doctor_peers
from launch.doctor.command import doctor_command, examine
from launch.doctor.findings import Finding
from launch.doctor.host import check_disk, check_memory, check_program, memory_bytes
from launch.doctor.keys import check_keys
from launch.doctor.running import check_monitor
from launch.monitor import Metrics, Monitor
from launch.network import LISTENERS, free_addresses
from launch.node import open_node
from models import program
from models.bert import Config
from models.prepare import random_tokens
from models.program import Plans, Size
from mpcnet.errors import MpcError
from mpcnet.identity import Identity, Roster, read_certificate
from mpcnet.memory import Memory
from mpcnet.mesh import handshake
from mpcnet.tls import TlsChannel, listen, parse_address
from protocols.suites import SUITES

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A whole deployment, with addresses of this machine."""
    write_deployment(tmp_path, tiny().config(), dict(zip(LISTENERS, free_addresses(3), strict=True)))
    return tmp_path


def config_of(place: Path, role: str) -> settings.Settings:
    return settings.read(place / role / settings.FILE)


class Listening:
    """A party that greets whoever comes; what became of each handshake is in `ended`."""

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self.program, self.clock = program.agreement(config), clock
        self.ended: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def arrive(self, channel: TlsChannel, role: str) -> None:
        self.tasks.add(asyncio.ensure_future(self.greet(channel, role)))

    async def greet(self, channel: TlsChannel, role: str) -> None:
        try:
            await handshake(channel, role, self.program, self.clock)
            self.ended.append("")
        except MpcError as error:
            self.ended.append(str(error))
        finally:
            channel.abort("test")


@asynccontextmanager
async def listening(
    place: Path, role: str, keys: Path | None = None, config: Config | None = None, ahead_s: float = 0.0
) -> AsyncIterator[Listening]:
    """`role` of the deployment, with other keys, another program or another clock if they are given."""
    ours = config_of(place, role)
    party = Listening(config or program.read(ours.program_path), lambda: doctor_peers.time.time() + ahead_s)
    server = await listen(
        ours.addresses[role],
        Identity.in_folder(keys or ours.folder),
        Roster(),
        [name for name in ROLES if name != role],
        lambda channel: party.arrive(channel, role),
        linger_s=0.2,
    )
    try:
        yield party
    finally:
        await asyncio.gather(*party.tasks)
        await server.close()


async def doctor(place: Path, role: str, timeout_s: float = 5.0) -> dict[str, Finding]:
    return by_check(await examine(place / role / settings.FILE, timeout_s))


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    assert len(found) == len(findings)
    assert all((finding.level == "ok") == (finding.advice == "") for finding in findings)
    return found


def levels(found: dict[str, Finding]) -> dict[str, str]:
    """Those that are not well."""
    return {check: finding.level for check, finding in found.items() if finding.level != "ok"}


# --- peers ----------------------------------------------------------------------------------------------------


async def test_all_is_well(place: Path) -> None:
    """And the parties that were looked at see a guest that left before the handshake, and nothing else."""
    async with listening(place, "dealer") as dealer, listening(place, "server0") as server0:
        found = await doctor(place, "server1")
        await until(lambda: bool(dealer.ended and server0.ended))
    assert levels(found) == {}
    assert dealer.ended == server0.ended == ["server1 aborted: a look by the doctor of server1"]
    for role in ("dealer", "server0"):
        assert "a round trip takes at most" in found[role].found
        assert found[f"program of {role}"].level == found[f"clock of {role}"].level == "ok"
    assert "does not run" in found["own port"].found
    assert "1 x 16 tokens need" in found["memory"].found


async def test_peer_does_not_run(place: Path) -> None:
    found = await doctor(place, "server0")
    assert levels(found) == {"dealer": "error"}
    assert "Connection refused" in found["dealer"].found and "start dealer" in found["dealer"].advice


async def test_peer_does_not_answer(place: Path) -> None:
    """Its port takes connections, and nobody greets."""
    with socket.create_server(parse_address(config_of(place, "server0").addresses["dealer"])):
        found = await doctor(place, "server0", 0.1)
    assert "waited 0.1 s for dealer" in found["dealer"].found


async def test_peer_is_something_else(place: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    host, port = parse_address(config_of(place, "server0").addresses["dealer"])
    async with await asyncio.start_server(answer, host, port):
        found = await doctor(place, "server0")
    assert "not our TLS" in found["dealer"].found and "is addresses.dealer right" in found["dealer"].advice


@pytest.mark.parametrize("theirs", ["server1", "stranger"])
async def test_peer_is_somebody_else(place: Path, tmp_path: Path, theirs: str) -> None:
    create_deployment(tmp_path / "other", ["dealer"])
    keys = tmp_path / "other" / "dealer" if theirs == "stranger" else place / theirs
    async with listening(place, "dealer", keys):
        found = await doctor(place, "server0")
    words = "its certificate is refused" if theirs == "stranger" else "got certificate of server1"
    assert words in found["dealer"].found and "they must be of one deployment" in found["dealer"].advice


async def test_peer_has_another_program(place: Path) -> None:
    config = tiny().config()
    async with listening(place, "dealer", config=replace(config, suite=SUITES["secformer"])):
        found = await doctor(place, "server0")
    assert levels(found) == {"program of dealer": "error"}
    assert found["program of dealer"].found == "suite: ours fast, theirs secformer"


async def test_differences_that_no_setting_shows() -> None:
    ours = program.agreement(tiny().config())
    same = doctor_peers.Look(doctor_peers.VERSION, ours.digest, ours.settings, 0.0)
    assert doctor_peers.compare("dealer", ours, same).level == "ok"
    for changed, words in (
        (replace(same, version=99), "handshake version: ours"),
        (replace(same, digest=bytes(32)), "theirs 0000000000000000"),
        (replace(same, settings={**ours.settings, "new": "x" * 999}), "new: ours nothing, theirs xxx"),
    ):
        finding = doctor_peers.compare("dealer", ours, changed)
        assert finding.level == "error" and words in finding.found and len(finding.found) < 200


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [(60.0, "warning", "s ahead of ours"), (-60.0, "warning", "s behind ours"), (4000.0, "error", "s ahead of ours")],
)
async def test_peer_has_another_time(place: Path, ahead_s: float, level: str, words: str) -> None:
    async with listening(place, "dealer", ahead_s=ahead_s):
        found = await doctor(place, "server0")
    assert levels(found) == {"clock of dealer": level}
    assert words in found["clock of dealer"].found and "NTP" in found["clock of dealer"].advice


@pytest.mark.parametrize(
    ("skew_s", "level"),
    [(0.0, "ok"), (5.0, "ok"), (-5.1, "warning"), (300.0, "warning"), (-300.1, "error"), (math.inf, "error")],
)
def test_limits_of_a_clock(skew_s: float, level: str) -> None:
    assert doctor_peers.check_clock("dealer", skew_s).level == level


async def test_name_that_is_not_known(place: Path) -> None:
    path = place / "server0" / settings.FILE
    ours = settings.read(path)
    settings.write(replace(ours, addresses={**ours.addresses, "dealer": "dealer.invalid:4100"}))
    found = await doctor(place, "server0")
    assert levels(found) == {"address of dealer": "error"} and "dealer" not in found


async def test_running_parties_go_on(place: Path) -> None:
    """The doctor of every role comes by in the midst of a session, and the session serves on."""
    model = tiny()
    nodes = {role: open_node(config_of(place, role)) for role in ROLES}
    works = [party.main(nodes["server0"]), party.main(nodes["server1"]), dealer.main(nodes["dealer"])]
    running = [
        asyncio.ensure_future(work) for work in (*works, owner.main(nodes["owner"], model.checkpoint, once=False))
    ]
    tokens = random_tokens(model.checkpoint, 1, 5)
    await client.ask(nodes["client"], tokens)
    for role in ROLES:
        found = await doctor(place, role)
        assert levels(found) == {}
        assert role not in LISTENERS or "which is running" in found["own port"].found
    answer = await client.ask(nodes["client"], tokens)
    assert (answer.values - model.plain(tokens)).abs().max() < 0.03
    for role in ("server0", "server1", "dealer"):
        samples = [sample for family in nodes[role].metrics.registry.collect() for sample in family.samples]
        began = [sample.value for sample in samples if sample.name == "mpcnet_sessions_total"]
        assert began == [1.0]
    for node in nodes.values():
        node.stopping.set()
    await asyncio.gather(*running)


# --- our own folder -------------------------------------------------------------------------------------------


def expire(place: Path, days: float) -> None:
    """A new deployment of the same layout, whose certificates end `days` after NOW."""
    for role in (*ROLES, "authority"):
        for name in ("ca.pem", "cert.pem", "key.pem", "roster.json", "ca-key.pem"):
            (place / role / name).unlink(missing_ok=True)
    create_deployment(place, ROLES, not_before=NOW - 400 * DAY, not_after=NOW + days * DAY)


def swap(place: Path, name: str, source: str = "dealer") -> None:
    shutil.copy(place / source / name, place / "server0" / name)


def other_authority(place: Path) -> None:
    create_deployment(place / "other", ["server0"])
    shutil.copy(place / "other/server0/ca.pem", place / "server0/ca.pem")


def other_roster(place: Path) -> None:
    create_deployment(place / "other", ["server0"])
    shutil.copy(place / "other/server0/roster.json", place / "server0/roster.json")


@pytest.mark.parametrize(
    ("change", "check", "level", "words"),
    [
        (lambda place: (place / "server0/key.pem").chmod(0o640), "key.pem", "error", "mode 0640: others"),
        (lambda place: (place / "server0").chmod(0o777), "folder", "error", "anybody can replace"),
        (lambda place: (place / "server0/cert.pem").unlink(), "files", "error", "no cert.pem beside"),
        (lambda place: swap(place, "key.pem"), "key", "error", "not the key of cert.pem"),
        (lambda place: swap(place, "cert.pem"), "certificate", "error", "of dealer, but the settings are of server0"),
        (lambda place: (place / "server0/cert.pem").write_text("no"), "keys", "error", "cert.pem: "),
        (lambda place: (place / "server0/key.pem").write_text("no"), "keys", "error", "want a private key"),
        (other_authority, "authority", "error", "ca.pem has not signed"),
        (other_roster, "roster", "error", "pins another certificate for server0"),
        (lambda place: expire(place, -1), "certificate's time", "error", "expired 1.0 days ago"),
        (lambda place: expire(place, 29), "certificate's time", "warning", "expires in 29.0 days"),
        (lambda place: expire(place, 31), "certificate's time", "ok", "31 days left"),
    ],
)
def test_keys(place: Path, change: Callable[[Path], object], check: str, level: str, words: str) -> None:
    (place / "server0").chmod(0o700)
    change(place)
    found = by_check(check_keys(config_of(place, "server0"), NOW))
    assert found[check].level == level and words in found[check].found, found


def test_certificate_of_the_future(place: Path) -> None:
    found = by_check(check_keys(config_of(place, "server0"), datetime(2020, 1, 1, tzinfo=UTC)))
    for check in ("certificate's time", "authority's time"):
        assert found[check].level == "error" and "not valid before" in found[check].found
    assert "clock" in found["certificate's time"].advice


def test_unpinned_client(place: Path) -> None:
    (place / "client/roster.json").write_text('{"version": 2, "roles": {}}')
    assert "by the authority alone" in by_check(check_keys(config_of(place, "client"), NOW))["roster"].found


async def test_broken_settings(place: Path) -> None:
    (place / "dealer" / settings.FILE).write_text("role = 3")
    found = await doctor(place, "dealer")
    assert list(found) == ["settings"] and "addresses is missing" in found["settings"].found


async def test_broken_program(place: Path) -> None:
    """Everything else is still looked at."""
    (place / "server0/program.json").write_text("{}")
    async with listening(place, "dealer", config=tiny().config()):
        found = await doctor(place, "server0")
    assert levels(found) == {"program": "error"}
    assert found["dealer"].level == "ok" and "program of dealer" not in found


# --- program and machine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((0.5, math.inf), "got 0.5 and inf"),
        ((math.nan, 1.0), "got nan and 1"),
        ((2.0, 2.0), "got 2 and 2"),
        ((-1.0, 2.0), "got -1 and 2"),
        (None, "embedding.square_sum: want a range, got none"),
    ],
)
def test_calibration(pair: tuple[float, float] | None, words: str) -> None:
    config = tiny().config()
    rows = {site: range_ for site, range_ in config.numbers.rows.items() if site != "embedding.square_sum"}
    rows |= {"embedding.square_sum": pair} if pair else {}
    found = by_check(check_program(replace(config, numbers=replace(config.numbers, rows=rows))))
    assert found["calibration"].level == "error" and words in found["calibration"].found


def test_calibration_of_other_numbers() -> None:
    config = tiny().config(softmax="2quad")
    assert levels(by_check(check_program(config))) == {}
    rows = {site: pair for site, pair in config.numbers.rows.items() if not site.endswith("row_sum")}
    for changes, words in (
        ({"rows": rows}, "layer0.row_sum: want a range"),
        ({"value_max": math.inf}, "value_max: want a number > 0, got inf"),
        ({"longest": 17}, "longest: want 1 to 16 tokens, got 17"),
        ({"table_frac": 30}, "table: want fraction bits in a ring, got 30"),
    ):
        found = by_check(check_program(replace(config, numbers=replace(config.numbers, **changes))))
        assert words in found["calibration"].found


def test_memory(tmp_path: Path) -> None:
    memory = Memory()
    plans = Plans(tiny().config(), memory)
    need = doctor_host.RUNTIME_BYTES
    levels = [check_memory(plans, memory, total).level for total in (need, int(1.1 * need), 10 * need)]
    assert levels == ["error", "warning", "ok"]
    limit = tmp_path / "memory.max"
    physical = memory_bytes(limit)
    for text, expected in (("max\n", physical), ("1000\n", 1000), (f"{10 * physical}\n", physical)):
        limit.write_text(text)
        assert memory_bytes(limit) == expected


def test_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = replace(config_of(place, "server0"), tapes="tapes", ahead_sizes=(Size(2, 16),), ahead_runs=3)
    plans = Plans(tiny().config())
    dealt = [max(plans.infer(size).ledger.total().dealt_bytes) for size in (Size(1, 16), Size(2, 16))]
    need = dealt[0] + 3 * dealt[1]
    for free, level in ((need - 1, "error"), (need, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        finding = check_disk(plans, ours)
        assert finding.level == level and "4 runs need" in finding.found
    late = check_disk(plans, replace(ours, ahead_sizes=(Size(1, 16), Size(3, 17))))
    assert late.level == "error" and "ahead: 3x17, the program takes 16 tokens" in late.found
    (place / "server0/tapes").write_text("a file")
    assert "no folder that we may write to" in check_disk(plans, ours).found


async def test_tapes_are_looked_at(place: Path) -> None:
    settings.write(replace(config_of(place, "server0"), tapes="tapes"))
    async with listening(place, "dealer"):
        found = await doctor(place, "server0")
    assert found["tapes"].level == "ok" and not (place / "server0/tapes").exists()


# --- our own party --------------------------------------------------------------------------------------------


async def test_own_party_runs(place: Path) -> None:
    async with listening(place, "dealer"):
        found = await doctor(place, "dealer")
    assert levels(found) == {}
    assert "in use by dealer, which is running" in found["own port"].found


async def test_somebody_else_has_our_port(place: Path) -> None:
    async with listening(place, "dealer", place / "server0"):
        found = await doctor(place, "dealer")
    assert levels(found) == {"own port": "error"}
    assert "by nobody who proves to be dealer" in found["own port"].found


async def test_on_another_host(place: Path) -> None:
    ours = config_of(place, "dealer")
    settings.write(replace(ours, addresses={**ours.addresses, "dealer": "192.0.2.1:4100"}))  # nobody's, by RFC 5737
    found = await doctor(place, "dealer")
    assert levels(found) == {"own port": "error"}
    assert "run this on the host of dealer" in found["own port"].advice
    settings.write(replace(config_of(place, "dealer"), listen=free_addresses(1)[0]))  # behind NAT
    assert levels(await doctor(place, "dealer")) == {}


@pytest.fixture
def monitor() -> Iterator[tuple[Metrics, Monitor]]:
    metrics = Metrics("dealer")
    monitor = Monitor(metrics, 0)
    monitor.start()
    yield metrics, monitor
    monitor.close()


async def test_health(place: Path, monitor: tuple[Metrics, Monitor]) -> None:
    metrics, server = monitor
    identity = Identity.in_folder(place / "dealer")

    async def health(role: str = "dealer") -> Finding:
        return await check_monitor(role, server.port, identity, datetime.now(UTC), 5.0)

    metrics.certificate_expires(read_certificate(identity.certificate).not_valid_after_utc)
    metrics.waiting("for server0")
    finding = await health()
    assert finding.level == "warning" and "dealer runs and waits: for server0" in finding.found
    metrics.ready()
    assert (await health()).found == "dealer is ready"
    assert "another party" in (await health("server0")).found
    metrics.certificate_expires(datetime.now(UTC) + 3 * DAY)
    finding = await health()
    assert finding.level == "warning" and finding.advice == "restart dealer"


async def test_no_health(place: Path) -> None:
    identity = Identity.in_folder(place / "dealer")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert (await check_monitor("dealer", port, identity, NOW, 0.1)).level == "error"
    assert "is free" in (await check_monitor("dealer", port, identity, NOW, 5.0)).found


# --- the command ----------------------------------------------------------------------------------------------


def command(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(doctor_command)
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return ended.exit_code, ended.stdout


def test_command(place: Path) -> None:
    """The dealer dials nobody: all is well, and then its key is open to all."""
    path = place / "dealer" / settings.FILE
    code, shown = command("--config", path)
    assert code == 0 and "error" not in shown
    code, shown = command("--config", path, "--json")
    found = json.loads(shown)
    assert code == 0 and found["ok"] is True
    os.chmod(place / "dealer/key.pem", 0o644)
    code, shown = command("--config", path)
    lines = [line.split() for line in shown.splitlines()]
    assert code == 1 and [line[:2] for line in lines if line[0] != "ok"] == [["error", "key.pem"]]
    assert len(lines) == len(found["findings"]) and "chmod 600 key.pem" in shown
    code, shown = command("--config", path, "--json")
    wrong = [finding for finding in json.loads(shown)["findings"] if finding["level"] != "ok"]
    assert code == 1 and [finding["check"] for finding in wrong] == ["key.pem"]
    assert set(wrong[0]) == {"check", "level", "found", "advice"}
