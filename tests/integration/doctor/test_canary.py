"""`mpcnet doctor` of a client: whether the deployment answers, and if not, what it waits for."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from limits import LIMIT_S
from parties import ALL, Parties
from visits import config_of, doctor, levels

from mpcnet.launch.doctor import canary
from mpcnet.launch.doctor.canary import ask_canary
from mpcnet.launch.doctor.command import examine
from mpcnet.launch.party import client
from mpcnet.models.private import program


def place_of(parties: Parties) -> Path:
    return parties.made.config("client").parents[1]


async def serve(parties: Parties) -> None:
    parties.serve()
    for role in ("server0", "server1"):
        await parties.said(role, "weights opened")


async def test_it_is_answered(parties: Parties) -> None:
    await serve(parties)
    found = await doctor(place_of(parties), "client", canary_s=LIMIT_S)
    assert found["answer"].found.startswith("one word was asked, and answered in ") and levels(found) == {}
    assert list(found)[-1] == "answer"
    await parties.stop()
    assert parties.lost() == []


async def test_what_it_waits_for(parties: Parties) -> None:
    """All run, and are reached; only the weights are missing."""
    for role in ALL:
        parties.start(role)
    for role in ("server0", "server1"):
        await parties.said(role, "waiting for the model owner")
    found = await doctor(place_of(parties), "client", canary_s=0.5)
    assert levels(found) == {"answer": "error"}
    assert (
        "not answered within 0.5 s: server0: it has our request, and waits for the model owner" in found["answer"].found
    )
    parties.start("owner")
    assert levels(await doctor(place_of(parties), "client", canary_s=LIMIT_S)) == {}


async def test_it_is_left_out(parties: Parties) -> None:
    await serve(parties)
    found = await doctor(place_of(parties), "client", canary_s=0.0)
    assert "answer" not in found and levels(found) == {}
    found = await doctor(place_of(parties), "owner", canary_s=LIMIT_S)
    assert "answer" not in found


async def test_it_asks_nobody_who_is_not_well(parties: Parties) -> None:
    """Whatever is wrong was said already."""
    found = await doctor(place_of(parties), "client", canary_s=LIMIT_S, timeout_s=0.5)
    assert "answer" not in found and levels(found)["server0"] == "error"


async def test_servers_that_refuse(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    await serve(parties)
    monkeypatch.setattr(canary.program, "answers", lambda config: ("logits",))
    settings = config_of(place_of(parties), "client")

    async def refuse(*arguments: object) -> object:
        return await client.Connection.open(replace(parties.node("client"), config=other))

    other = replace(program.read(settings.program_path), answers=("logits",))
    monkeypatch.setattr(canary.client, "ask", refuse)
    finding = await ask_canary(settings, LIMIT_S)
    assert finding.level == "error" and "not answered: server" in finding.found


@pytest.mark.parametrize("parties", [{"embedding": "client"}], indirect=True)
async def test_a_table_that_it_has_not(parties: Parties) -> None:
    await serve(parties)
    finding = await ask_canary(config_of(place_of(parties), "client"), LIMIT_S)
    assert finding.level == "ok" and "a client needs the model" in finding.found


async def test_by_default(parties: Parties) -> None:
    """A client's doctor asks unless it is told not to."""
    await serve(parties)
    found = await asyncio.wait_for(examine(parties.made.config("client"), LIMIT_S), LIMIT_S)
    assert found[-1].check == "answer" and found[-1].level == "ok"
