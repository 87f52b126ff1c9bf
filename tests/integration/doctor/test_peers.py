"""`mpcnet doctor`: peers that are not as they should be, and what is said of them."""

import asyncio
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from parties import tiny
from sockets import until
from visits import config_of, doctor, levels, listening

from mpcnet.launch.deployment import settings
from mpcnet.launch.deployment.certs import LISTENERS, ROLES, create_deployment
from mpcnet.launch.doctor import peers as doctor_peers
from mpcnet.launch.party import client, dealer, owner, party
from mpcnet.launch.party.node import open_node
from mpcnet.models.private import program
from mpcnet.models.private.prepare import random_tokens
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.tls import parse_address


async def test_all_is_well(place: Path) -> None:
    """And the parties that were looked at see a visitor that left before the handshake, and nothing else."""
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
    same = doctor_peers.Look(doctor_peers.FORMAT_VERSION, ours.digest, ours.settings, 0.0)
    assert doctor_peers.compare("dealer", ours, same).level == "ok"
    for changed, words in (
        (replace(same, version=99), f"format version: ours {doctor_peers.FORMAT_VERSION}, theirs 99"),
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
