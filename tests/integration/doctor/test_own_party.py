"""`mpcnet doctor`: whether our own party runs here, or could; and the command."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from visits import DAY, NOW, config_of, doctor, levels, listening

from mpcnet.launch.deployment import settings
from mpcnet.launch.doctor.command import doctor_command
from mpcnet.launch.doctor.findings import Finding
from mpcnet.launch.doctor.running import check_monitor
from mpcnet.launch.party.monitor import Metrics, Monitor
from mpcnet.launch.simulation.network import free_addresses
from mpcnet.transport.identity import Identity, read_certificate


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
