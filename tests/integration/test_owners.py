"""The model owner at the servers: who is turned away, who is served, and that nobody else suffers from it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from parties import ALL, LABELS, SERVERS, Parties, some_tokens, tiny

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalConfigError, RemoteMismatchError
from mpcnet.launch.party import edge, frames, owner, sharing
from mpcnet.launch.party.control_frames import WANT, WEIGHTS
from mpcnet.rounds import Part

TOKENS = some_tokens([5])


async def still_serves(parties: Parties) -> None:
    """A request is answered, everybody ends in order, and no session was lost meanwhile."""
    await parties.answered(TOKENS)
    await parties.stop()
    assert parties.lost() == []


async def test_owner_of_another_model(parties: Parties) -> None:
    other = tiny(LABELS).checkpoint
    with pytest.raises(
        LocalConfigError,
        match=r"head: the program has embedding, the model classification; .*; run mpcnet init again with it",
    ):
        await owner.main(parties.node("owner"), other, once=True)


async def test_owner_that_leaves(parties: Parties) -> None:
    """With `once`, as soon as both servers have the weights; they serve on without it."""
    for role in ALL:
        parties.start(role)
    assert await owner.main(parties.node("owner"), parties.model.checkpoint, once=True) == 0
    await still_serves(parties)


async def test_second_owner(parties: Parties) -> None:
    """The newest is kept, for the next session."""
    parties.serve()
    await parties.answered(TOKENS)
    node = parties.node("owner")
    peers = [await node.dial(role) for role in SERVERS]
    await parties.said("owner", "another owner has connected; one is enough")
    await parties.stop("owner")
    for peer in peers:
        peer.channel.abort("the test is over")
    await still_serves(parties)


async def test_owner_comes_though_clients_hold_all_places(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the owner: it must not wait for them."""
    monkeypatch.setattr(edge, "MAX_CONNECTIONS", 2)
    for role in ALL:
        parties.start(role)
    waiting = [parties.ask(TOKENS) for _ in range(2)]
    for role in SERVERS:
        await parties.said(role, "queued: 2")
    parties.start("owner")
    for asked in waiting:
        await parties.answered(TOKENS, asked)
    await still_serves(parties)


async def test_owner_with_another_program(parties: Parties) -> None:
    for role in ALL:
        parties.start(role)
    other, node = tiny(LABELS), parties.node("owner")
    with pytest.raises(RemoteMismatchError, match=r"model\.labels: ours 3, theirs 0"):
        await replace(node, config=other.config()).dial("server0")
    await parties.said("server0", "turned away owner: owner runs another program: .*model.labels: ours 0, theirs 3")
    parties.start("owner")
    await still_serves(parties)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([], r"owner, weights: want \[\(8, \(32,\)\)\], got \[\]"),
        ([(sharing.SEED, np.zeros(32, np.uint8))], "owner: its weights are for another session"),
    ],
    ids=["no seed", "another session"],
)
async def test_owner_that_sends_something_else(parties: Parties, arrays: list[tuple[Part, Bytes]], words: str) -> None:
    """The session ends; an owner that keeps to the protocol is served in the next one."""
    for role in ALL:
        parties.start(role)
    node = parties.node("owner")
    peers = await asyncio.gather(*(node.dial(role) for role in SERVERS))
    await asyncio.gather(*(frames.receive_bare(peer, WANT, patient=True) for peer in peers))
    await frames.send(peers[0], WEIGHTS, arrays, id=bytes(16))
    await parties.said("server0", f"the session ended: {words}; connecting anew")
    for peer in peers:
        peer.channel.abort("the test is over")
    parties.start("owner")
    await parties.answered(TOKENS)
