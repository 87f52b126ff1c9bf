"""Guests and time: who is turned away while the service goes on, what ends it, and what keeps it alive."""

import asyncio
import secrets
from dataclasses import replace

import pytest
import torch
from integration.parties import LABELS, SERVERS, SHAPE, Parties, some_tokens, tiny

from launch import frames, owner
from launch.client import Answer
from launch.wire_names import READY, REQUEST, TOKENS
from models.text import Tokens
from mpcnet import ring
from mpcnet.errors import LocalConfigError, LocalInputError, RemoteAbort, RemoteMismatchError
from mpcnet.mesh import Peer
from mpcnet.rounds import Part

TOKENS_5 = some_tokens([5])
ALL = (*SERVERS, "dealer")


async def refused(peer: Peer) -> str:
    """Why a server turns this guest away."""
    with pytest.raises(RemoteAbort) as caught:
        await frames.receive(peer, READY, frames.exactly(peer, READY, ()))
    return caught.value.reason


async def request(peer: Peer, mask: torch.Tensor, name: object = None, copies: int = 1) -> None:
    array = Part(1, tuple(mask.shape)), ring.pack(mask, 1)
    await frames.send(peer, REQUEST, [array] * copies, id=name or secrets.token_bytes(16))


async def still_serves(parties: Parties) -> None:
    """One request is answered, and everybody ends in order."""
    assert isinstance(await parties.ask(TOKENS_5), Answer)
    assert set((await parties.end(*ALL)).values()) == {0}


# --- turned away ----------------------------------------------------------------------------------------------


async def test_second_owner(parties: Parties) -> None:
    parties.serve()
    await parties.give_weights()
    with pytest.raises(RemoteAbort, match="the weights are here already; restart the parties to change them"):
        await parties.give_weights()
    await still_serves(parties)


async def test_requests_that_are_none(parties: Parties) -> None:
    parties.serve()
    await parties.give_weights()
    some, name = torch.ones(2, 5), secrets.token_bytes(16)
    cases = [
        (dict(mask=torch.ones(1, SHAPE.positions + 1)), "want up to 256 sentences of 16 tokens, got 1 of 17"),
        (dict(mask=torch.ones(257, 1)), "got 257 of 1"),
        (dict(mask=torch.ones(0, 1)), "got 0 of 1"),
        (dict(mask=torch.ones(5)), r"want one mask of [batch, length], got 1 parts"),
        (dict(mask=some, copies=2), "got 2 parts"),
        (dict(mask=torch.zeros(2, 5)), "want a token in every sentence, got a sentence without"),
        (dict(mask=some, name="short"), "want a request id of 16 bytes"),
        (dict(mask=some, name=name), None),  # stays in the queue of server1, which waits for server0's order
        (dict(mask=some, name=name), "this request id has been used"),
    ]
    for case, words in cases:
        peer = await parties.node("client").dial("server1")
        await request(peer, **case)
        if words is not None:
            assert words in await refused(peer)
    peer = await parties.node("client").dial("server0")
    await frames.send(peer, TOKENS)
    assert "want control frame 'request', got control frame 'tokens'" in await refused(peer)
    await still_serves(parties)


async def test_client_that_leaves_the_queue(parties: Parties) -> None:
    """server0 takes the next one; server1 never hears of it."""
    parties.serve()
    peers = [await parties.node("client").dial(role) for role in SERVERS]
    for peer in peers:
        await request(peer, torch.ones(1, 3), name=bytes(range(16)))
    for peer in peers:
        await peer.channel.close()
    await parties.give_weights()
    await still_serves(parties)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (some_tokens([SHAPE.positions + 1]), "want at most 16 positions, got 17"),
        (replace(TOKENS_5, ids=TOKENS_5.ids + SHAPE.vocab), r"want ids in 0 \.\.\. 63, got one outside"),
        (replace(TOKENS_5, mask=torch.zeros(1, 5).long()), "want a valid token in every row"),
        (replace(TOKENS_5, types=TOKENS_5.types[:, 1:]), "of one shape"),
        (Tokens(*(torch.zeros(0, 0).long(),) * 3), "of one shape"),
    ],
)
async def test_tokens_that_are_none(parties: Parties, tokens: Tokens, words: str) -> None:
    """Refused before anybody is dialled."""
    with pytest.raises(LocalInputError, match=words):
        await parties.ask(tokens)


async def test_owner_of_another_model(parties: Parties) -> None:
    other = tiny(LABELS).checkpoint
    with pytest.raises(LocalConfigError, match=r"the program is for BertShape.*the model has BertShape"):
        await owner.main(parties.node("owner"), other)


# --- the end of everything ------------------------------------------------------------------------------------


async def test_owner_with_another_program(parties: Parties) -> None:
    parties.serve()
    other, node = tiny(LABELS), parties.node("owner")
    with pytest.raises(RemoteMismatchError, match=r"model\.labels: ours 3, theirs 0"):
        await owner.main(replace(node, config=other.config()), other.checkpoint)
    lines = await parties.fail(*ALL)
    assert any(
        "owner runs another program: " in line and "model.labels: ours 0, theirs 3" in line for line in lines.values()
    )


async def test_client_that_sends_nonsense_when_its_turn_has_come(parties: Parties) -> None:
    parties.serve()
    await parties.give_weights()
    peers, name = [await parties.node("client").dial(role) for role in SERVERS], secrets.token_bytes(16)
    for peer in peers:
        await request(peer, torch.ones(1, 5), name=name)
    for peer in peers:
        await frames.receive(peer, READY, frames.exactly(peer, READY, ()))
        await frames.send(peer, TOKENS, [(Part(8, (3,)), ring.pack(torch.ones(3), 8))])
    lines = await parties.fail(*ALL)
    assert any("client, tokens: want [(8, (32,))" in line and "got [(8, (3,))]" in line for line in lines.values()), (
        lines
    )


async def test_client_that_leaves_in_mid_run(parties: Parties) -> None:
    parties.serve()
    await parties.give_weights()
    peers, name = [await parties.node("client").dial(role) for role in SERVERS], secrets.token_bytes(16)
    for peer in peers:
        await request(peer, torch.ones(1, 5), name=name)
    for peer in peers:
        await frames.receive(peer, READY, frames.exactly(peer, READY, ()))
        await peer.channel.close()
    lines = await parties.fail(*ALL)
    assert any("client closed the channel" in line for line in lines.values()), lines


@pytest.mark.parametrize("parties", [{"timeout_s": 0.5}], indirect=True, ids=["0.5 s"])
async def test_client_of_one_server_only(parties: Parties) -> None:
    parties.serve()
    await parties.give_weights()
    await request(await parties.node("client").dial("server0"), torch.ones(1, 5))
    lines = await parties.fail(*ALL)
    assert any("server1 waited 0.5 s for client to send its request" in line for line in lines.values()), lines


@pytest.mark.parametrize("parties", [{"timeout_s": 0.5}], indirect=True, ids=["0.5 s"])
async def test_owner_that_never_comes(parties: Parties) -> None:
    parties.serve()
    lines = await parties.fail(*ALL)
    assert any("waited 0.5 s for owner to send the weights; is it running?" in line for line in lines.values()), lines


@pytest.mark.parametrize("parties", [{"timeout_s": 0.5}], indirect=True, ids=["0.5 s"])
async def test_nobody_else_comes(parties: Parties) -> None:
    parties.serve()
    for role in ("dealer", "server1"):
        parties.tasks.pop(role).cancel()
    assert "waited 0.5 s for dealer" in (await parties.fail("server0"))["server0"]


@pytest.mark.parametrize("parties", [{"timeout_s": 1.0}], indirect=True, ids=["1 s"])
@pytest.mark.parametrize("role", ALL)
async def test_a_party_stopped_while_all_wait(parties: Parties, role: str) -> None:
    """As by SIGTERM: the others learn it, and no later than their next sign of life."""
    parties.serve()
    await parties.give_weights()
    parties.tasks.pop(role).cancel()
    lines = await parties.fail(*(other for other in ALL if other != role))
    assert all(f"{role}: was stopped" in line for line in lines.values()), lines


# --- patience -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [{"timeout_s": 1.0}], indirect=True, ids=["1 s"])
async def test_waiting_longer_than_the_timeout(parties: Parties) -> None:
    """Signs of life: a client in the queue until the owner comes, then nobody for long."""
    parties.serve(2)
    early = parties.ask(TOKENS_5, name="early")
    await asyncio.sleep(0.6)
    await parties.give_weights()
    assert isinstance(await early, Answer)
    await asyncio.sleep(2.2)
    await still_serves(parties)


@pytest.mark.parametrize("parties", [{"timeout_s": 1.0, "net": "rtt=200ms"}], indirect=True, ids=["1 s"])
async def test_a_run_longer_than_the_timeout(parties: Parties) -> None:
    """The dealer waits for its next order, and the client for its answer."""
    parties.serve()
    await parties.give_weights()
    answer = await parties.ask(TOKENS_5)
    assert answer.seconds_online > 2.0
    assert set((await parties.end(*ALL)).values()) == {0}
