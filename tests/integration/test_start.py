"""Parties that do not fit together: none of them starts, and each says why."""

import shutil
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from integration.parties import SERVERS, Parties

from launch.certs import create_deployment
from models import program
from models.bert import Config

ALL = (*SERVERS, "dealer")
DAY = timedelta(days=1)
SHORT = pytest.mark.parametrize("parties", [{"timeout_s": 1.0}], indirect=True, ids=["1 s"])


def another_suite(config: Config) -> Config:
    return replace(config, suite=program.SUITES["secformer"])


def another_calibration(config: Config) -> Config:
    rows = dict(config.numbers.rows)
    site = next(iter(rows))
    rows[site] = (rows[site][0], rows[site][1] * 1.01)
    return replace(config, numbers=replace(config.numbers, rows=rows))


def another_shape(config: Config) -> Config:
    return replace(config, shape=replace(config.shape, layers=2))


@pytest.mark.parametrize("role", ALL)
@pytest.mark.parametrize(
    ("change", "name"),
    [(another_suite, "suite"), (another_calibration, "calibration"), (another_shape, "model.layers")],
)
async def test_another_program(parties: Parties, role: str, change, name: str) -> None:
    """Both servers and the dealer end, and each names what differs."""
    path = parties.made.config(role).parent / "program.json"
    program.save(change(program.read(path)), path)
    parties.serve()
    for line in (await parties.fail(*ALL)).values():
        assert "runs another program" in line and f"{name}: ours " in line and ", theirs " in line, line


def replace_identity(parties: Parties, role: str, source: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(source / name, parties.made.config(role).parent / name)


@SHORT
async def test_expired_certificate(parties: Parties, tmp_path: Path) -> None:
    """Of all parties: each refuses its peers."""
    start = datetime.now(UTC) - 2 * DAY
    create_deployment(tmp_path, ALL, not_before=start, not_after=start + DAY)
    for role in ALL:
        replace_identity(parties, role, tmp_path / role)
    parties.serve()
    lines = await parties.fail(*ALL)
    for role in SERVERS:
        assert "its certificate is refused: certificate has expired" in lines[role], lines
    assert "waited 1 s for server" in lines["dealer"]


@SHORT
async def test_certificate_of_another_authority(parties: Parties, tmp_path: Path, capsys) -> None:
    create_deployment(tmp_path, ALL)
    replace_identity(parties, "server1", tmp_path / "server1")
    parties.serve()
    lines = await parties.fail(*ALL)
    assert "its certificate is refused: self-signed certificate in certificate chain" in lines["server1"]
    assert "waited 1 s for server1 to dial" in lines["server0"]
    assert "refused a connection from 127.0.0.1" in capsys.readouterr().err


@SHORT
@pytest.mark.parametrize("theirs", ["owner", "dealer"])
async def test_certificate_of_another_role(parties: Parties, theirs: str) -> None:
    """A program that lies about its own role finds nobody who believes it."""
    replace_identity(parties, "server1", parties.made.config(theirs).parent)
    parties.serve()
    lines = await parties.fail(*ALL)
    assert lines["server1"] == f"we are to be server1, our certificate says {theirs}"
    assert "waited 1 s for server1 to dial server0; is it running?" in lines["server0"]


@SHORT
@pytest.mark.parametrize("role", ALL)
async def test_port_in_use(parties: Parties, role: str) -> None:
    address = parties.node(role).settings.addresses[role]
    with socket.socket() as taken:
        taken.bind((address.partition(":")[0], int(address.partition(":")[2])))
        taken.listen()
        parties.serve()
        lines = await parties.fail(*ALL)
    assert lines[role] == f"cannot listen on {address}: the port is in use; end its owner or take another"
    for other in ALL:
        assert other == role or "waited 1 s for" in lines[other] or "could not connect" in lines[other], lines
