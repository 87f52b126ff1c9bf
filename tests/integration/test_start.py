"""Parties that do not fit together: nothing is served, each says why, and all is well once the right one is started."""

import shutil
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from parties import ALL, Parties, some_tokens

from mpcnet.launch.deployment.certs import create_deployment
from mpcnet.models.families.config import Config
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.private import program
from mpcnet.transport.tls import parse_address

DAY = timedelta(days=1)
TOKENS = some_tokens([5])


def another_suite(config: Config) -> Config:
    return replace(config, suite=program.SUITES["secformer"])


def another_calibration(config: Config) -> Config:
    rows = dict(config.formats.rows)
    site = next(iter(rows))
    rows[site] = replace(rows[site], high=rows[site].high * 1.01)
    return replace(config, formats=replace(config.formats, rows=rows))


def another_shape(config: Config) -> Config:
    return replace(config, shape=replace(config.shape, eps=1e-6))


def another_prompt(config: Config) -> Config:
    return replace(config, preprocessing=Preprocessing("0" * 64, prompt="query: "))


def others(role: str) -> list[str]:
    return [other for other in ALL if other != role]


def nobody_was_served(parties: Parties) -> None:
    assert not [line for role in ALL for line in parties.logs[role].lines if "connected with" in line]


@pytest.mark.slow
@pytest.mark.parametrize("role", ALL)
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (another_suite, "suite"),
        (another_calibration, "calibration"),
        (another_shape, "model.eps"),
        (another_prompt, "texts.prompt"),
    ],
)
async def test_another_program(parties: Parties, role: str, change, name: str) -> None:
    """It and the others name what differs."""
    path = parties.made.config(role).parent / "program.json"
    right = path.read_bytes()
    program.save(change(program.read(path)), path)
    parties.serve()
    difference = rf"runs another program: .*{name}: ours .*, theirs "
    await parties.all_say(f"{role} {difference}", *others(role))
    for other in others(role):
        await parties.has_said(role, f"{other} {difference}")  # whichever it heard of first
    await parties.stop(role)
    nobody_was_served(parties)
    path.write_bytes(right)
    parties.start(role)
    await parties.answered(TOKENS)


async def test_dealer_that_cannot_be_reached(parties: Parties) -> None:
    """The servers say so, and so does who asks them meanwhile; nobody gives up."""
    for role in ("server0", "server1", "owner"):
        parties.start(role)
    reason = r"dealer: 127\.0\.0\.1:\d+: Connection refused"
    for role in ("server0", "server1"):
        await parties.has_said(role, f"waiting for {reason}")
    asked = parties.ask(TOKENS)
    for role in ("server0", "server1"):
        await parties.has_said("client", f"waiting for {role}: it has our request, and waits .*for {reason}")
    parties.start("dealer")
    await parties.answered(TOKENS, asked)


def replace_identity(parties: Parties, role: str, source: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(source / name, parties.made.config(role).parent / name)


async def test_expired_certificate(parties: Parties, tmp_path: Path) -> None:
    """Of all parties: who dials refuses who listens, and says so; the listener says what it was told."""
    start = datetime.now(UTC) - 2 * DAY
    create_deployment(tmp_path / "expired", ALL, not_before=start, not_after=start + DAY)
    for role in ALL:
        replace_identity(parties, role, tmp_path / "expired" / role)
    parties.serve()
    for role, other in (("server0", "dealer"), ("server1", "server0"), ("server1", "dealer")):
        await parties.has_said(role, f"waiting for {other}: {other} at .* is refused: certificate has expired")
    await parties.said("dealer", r"refused a connection from 127\.0\.0\.1")
    await parties.stop()
    nobody_was_served(parties)


async def test_certificate_of_another_authority(parties: Parties, tmp_path: Path) -> None:
    create_deployment(tmp_path / "other", ALL)
    right = tmp_path / "right"
    shutil.copytree(parties.made.config("server1").parent, right)
    replace_identity(parties, "server1", tmp_path / "other" / "server1")
    parties.serve()
    await parties.said("server1", "its certificate is refused: self-signed certificate in certificate chain")
    for role in ("server0", "dealer"):
        await parties.said(role, r"refused a connection from 127\.0\.0\.1")
    await parties.stop("server1")
    nobody_was_served(parties)
    replace_identity(parties, "server1", right)
    parties.start("server1")
    await parties.answered(TOKENS)


@pytest.mark.parametrize("theirs", ["owner", "dealer"])
async def test_certificate_of_another_role(parties: Parties, theirs: str) -> None:
    replace_identity(parties, "server1", parties.made.config(theirs).parent)
    parties.serve()
    assert await parties.fails("server1") == f"we are to be server1, our certificate says {theirs}"
    await parties.said("server0", "waiting for server1: has not dialled us")
    nobody_was_served(parties)


@pytest.mark.parametrize("role", ALL)
async def test_port_in_use(parties: Parties, role: str) -> None:
    address = parties.node(role).settings.addresses[role]
    with socket.socket() as taken:
        taken.bind(parse_address(address))  # it does not listen, so that who dials is refused at once
        parties.serve()
        words = f"cannot listen on {address}: the port is in use; end its owner or take another"
        assert await parties.fails(role) == words
        await parties.all_say("waiting for", *others(role))
        nobody_was_served(parties)
    parties.start(role)
    await parties.answered(TOKENS)


async def test_addresses_of_each_other(parties: Parties) -> None:
    """Who dials a port and finds somebody else there says who it is."""
    text = parties.made.config("server1").read_text()
    addresses = parties.node("server1").settings.addresses
    swapped = text.replace(addresses["server0"], "here").replace(addresses["dealer"], addresses["server0"])
    parties.made.config("server1").write_text(swapped.replace("here", addresses["dealer"]))
    parties.serve()
    await parties.said("server1", "waiting for dealer: .*want role dealer, got certificate of server0")
    await parties.stop("server1")
    nobody_was_served(parties)
    parties.made.config("server1").write_text(text)
    parties.start("server1")
    await parties.answered(TOKENS)
