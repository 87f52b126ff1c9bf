"""Clients and time: who is turned away while the service goes on, and what keeps it alive."""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rogue
import torch
from limits import LIMIT_S, PATIENT_S
from parties import ALICE, ALL, LABELS, SERVERS, SHAPE, Parties, some_tokens
from patience import a_long_time
from rogue import RogueNode
from uploads import TOKENS, Arrays, announce, mask_of, request, turned_away, upload

from mpcnet.errors import ChannelClosed, LocalInputError, RemoteAbort
from mpcnet.launch.party import clients, edge, follower, frames, leader, queue
from mpcnet.launch.party.control_frames import READY, REQUEST, RESULT, SHARES
from mpcnet.models.texts.tokens import Tokens
from mpcnet.rounds import Part
from mpcnet.transport import tls_channel
from mpcnet.transport.channel import CONTROL
from mpcnet.transport.handshake import Peer
from mpcnet.transport.tls import TlsChannel, parse_address
from mpcnet.transport.wire import Header

NOT_AT_SERVER1 = "server1 has not got this request, or got another size, mask, upload or answer"


def open_channels(parties: Parties, *roles: str) -> list[TlsChannel]:
    """Of these roles, or of all that run."""
    nodes = [parties.nodes[role] for role in roles or parties.nodes]
    return [channel for node in nodes for channel in node.channels if channel._failure is None]


async def serve(parties: Parties) -> None:
    """All are there, and one request was answered."""
    parties.serve()
    await parties.answered(TOKENS)


async def still_serves(parties: Parties) -> None:
    """A request is answered, everybody ends in order, and no session was lost meanwhile."""
    await parties.answered(TOKENS)
    await parties.stop()
    assert parties.lost() == []


# --- turned away ----------------------------------------------------------------------------------------------


async def test_requests_that_are_none(parties: Parties) -> None:
    """By what they announce, and by the shares behind that."""
    await serve(parties)
    good, dial = request(parties, 1), parties.node("client").dial
    wide_indices, one_hot = (
        (Part(16, shape), np.zeros(Part(16, shape).nbytes, np.uint8)) for shape in ((1, 3), (1, 3, 64))
    )
    announced: list[tuple[dict[str, object], str]] = [
        ({"batch": 257}, "request: batch: want a whole number in 1 ... 256, got 257"),
        ({"batch": 0}, "request: batch: want a whole number in 1 ... 256, got 0"),
        ({"length": SHAPE.positions + 1}, "request: length: want a whole number in 1 ... 16, got 17"),
        ({"length": None}, "request: length: want a whole number in 1 ... 16, got None"),
        ({"id": b"short"}, "want a request id of 16 bytes"),
        ({"id": 7}, "want a request id of 16 bytes"),
        *(({"audit": audit}, "client: want a request to say if it is audited") for audit in ("yes", 1, None)),
        *(({"wait_s": wait}, "client: want a request to say how long it waits") for wait in (0.0, -1.0, 1e9, 5, None)),
        *(
            ({"answer": answer}, "client, answer: want logits of a model of embeddings, got")
            for answer in ("label", "everything", 1, None)
        ),
        *(({"extent": dim}, "client, dim: want 1 to 32 columns, got") for dim in (33, -1, True, "all", None)),
        ({"more": 1}, "client, request: want fields ["),
    ]
    for changes, words in announced:
        peer = await dial("server1")
        await announce(peer, **changes)
        assert words in await turned_away(peer)
    shared: list[tuple[Arrays, str]] = [
        ([], "client, shares: want [(1, (1, 5)), (8, (32,)), ("),
        (good[1:], "client, shares: want [(1, (1, 5)), (8, (32,)), ("),
        ([*good, good[1]], "client, shares: want [(1, (1, 5)), (8, (32,)), ("),
        (good[:3], "(6, (1, 3)), (2, (1, 3))], got [(1, (1, 5)), (8, (32,)), (6, (1, 3))]"),
        ([*good[:2], good[3], good[2]], "(6, (1, 3)), (2, (1, 3))], got"),
        ([*good[:2], wide_indices, good[3]], "(6, (1, 3)), (2, (1, 3))], got"),
        ([*good[:2], one_hot, good[3]], "(6, (1, 3)), (2, (1, 3))], got"),
        ([mask_of(torch.ones(1, 4)), *good[1:]], "client, shares: want [(1, (1, 5)), (8, (32,)), ("),
        ([mask_of(torch.zeros(1, 5)), *good[1:]], "want a token in every sentence, got a sentence without"),
    ]
    for arrays, words in shared:
        peer = await dial("server1")
        await announce(peer)
        await frames.send(peer, SHARES, arrays, others=bytes(32))
        assert words in await turned_away(peer)
    for none in ({}, {"others": b"short"}, {"others": "0" * 32}):
        peer = await dial("server1")
        await announce(peer)
        await frames.send(peer, SHARES, good, **none)
        assert "client, shares: others: want 1 digest(s) of 32 bytes, got something else" in await turned_away(peer)
    peer = await dial("server0")
    await frames.send(peer, RESULT)
    assert "want control frame 'request', got control frame 'result'" in await turned_away(peer)
    peer = await dial("server0")
    await peer.channel.send(Header(CONTROL, peer.session, stream=1, label=REQUEST))
    assert "control frame 'request' belongs to no stream" in await turned_away(peer)
    await still_serves(parties)


async def test_request_id_that_is_in_use(parties: Parties) -> None:
    for role in ALL:
        parties.start(role)
    name = secrets.token_bytes(16)
    [first] = await upload(parties, name, "server1")
    second = await parties.node("client").dial("server1")
    await announce(second, id=name)
    assert "this request id has been used" in await turned_away(second)
    first.channel.abort("the test is over")
    parties.start("owner")
    await still_serves(parties)


async def test_client_that_leaves_the_queue(parties: Parties) -> None:
    """Nobody hears of it again."""
    for role in ALL:
        parties.start(role)
    for peer in await upload(parties, bytes(range(16)), *SERVERS):
        await peer.channel.close()
    for role in SERVERS:
        await parties.said(role, "queued: 0")
    parties.start("owner")
    await still_serves(parties)
    assert not [line for line in parties.logs["server0"].lines if "run 2" in line]


async def test_client_that_leaves_in_mid_run(parties: Parties) -> None:
    """Its run goes on to the end; nobody waits for it."""
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    peers = await upload(parties, bytes(range(16)), *SERVERS)
    await asyncio.gather(*(frames.receive_bare(peer, READY, patient=True) for peer in peers))
    await asyncio.wait_for(slow.did.wait(), LIMIT_S)
    await peers[0].channel.close()
    peers[1].channel._tcp.abandon()
    assert isinstance(await peers[1].channel.gone(), ChannelClosed)
    slow.released.set()
    await parties.said("server0", "run 1: answered")
    await still_serves(parties)


async def test_client_that_sends_more_than_a_request(parties: Parties) -> None:
    await serve(parties)
    peers = await upload(parties, bytes(range(16)), *SERVERS)
    for peer in peers:
        await frames.send(peer, RESULT)
    await still_serves(parties)
    for peer in peers:
        peer.channel.abort("the test is over")


async def test_client_of_one_server_only(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so by whom it asked; others are answered meanwhile."""
    await serve(parties)
    alone = [(await upload(parties, bytes([i] * 16), role))[0] for i, role in enumerate(SERVERS)]
    await parties.answered(TOKENS)
    with monkeypatch.context() as patched:
        patched.setattr(leader, "GRACE_S", 0.0)
        patched.setattr(follower, "GRACE_S", 0.0)
        with suppress(RemoteAbort):  # it makes the leader ask; without grace it may itself be at one server only
            await parties.answered(TOKENS)
        assert await turned_away(alone[0]) == f"server0: {NOT_AT_SERVER1}; ask again"
        assert await turned_away(alone[1]) == "server1: server0 has not got this request; ask again"
    await still_serves(parties)


async def test_half_requests_hold_up_nobody(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long their grace is, and whichever server has them."""
    monkeypatch.setattr(leader, "GRACE_S", 3600.0)
    monkeypatch.setattr(follower, "GRACE_S", 3600.0)
    await serve(parties)
    alone = [(await upload(parties, bytes([i] * 16), role, client=ALICE))[0] for i, role in enumerate(SERVERS * 3)]
    for _ in range(3):
        await parties.answered(TOKENS)
    for peer in alone:
        peer.channel.abort("the test is over")
    await still_serves(parties)


async def test_a_request_that_comes_while_server1_is_asked_is_asked_about_too(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that leaves slowly, about a half-request, holds up nobody either."""
    monkeypatch.setattr(leader, "GRACE_S", 3600.0)
    monkeypatch.setattr(follower, "GRACE_S", 3600.0)
    await serve(parties)
    send, asking, released = frames.send, asyncio.Event(), asyncio.Event()

    async def slowly(peer: Peer, name: str, *arrays: Any, **fields: Any) -> None:
        if fields.get("what") == "ask" and not released.is_set():
            asking.set()
            await released.wait()
        await send(peer, name, *arrays, **fields)

    monkeypatch.setattr(leader.frames, "send", slowly)
    [alone] = await upload(parties, bytes(16), "server0", client=ALICE)
    await asyncio.wait_for(asking.wait(), LIMIT_S)
    honest = parties.ask(TOKENS)
    await parties.said("server0", "queued: 2")
    await parties.said("server1", "queued: 1")
    released.set()
    await parties.answered(TOKENS, honest)
    alone.channel.abort("the test is over")
    await still_serves(parties)


@pytest.mark.parametrize("parties", [{"labels": LABELS}], indirect=True, ids=["classifier"])
@pytest.mark.parametrize(
    ("lengths", "answer", "audit"),
    [([4], "logits", False), ([5, 5], "logits", False), ([5], "label", False), ([5], "logits", True)],
    ids=["length", "batch", "answer", "audit"],
)
async def test_client_that_tells_the_servers_different_sizes(
    parties: Parties, lengths: list[int], answer: str, audit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs its own request only, though another client's is of the same run."""
    for role in ALL:
        parties.start(role)
    [first] = await upload(parties, bytes(range(16)), "server0")
    [second] = await upload(
        parties, bytes(range(16)), "server1", tokens=some_tokens(lengths), answer=answer, audit=audit
    )
    honest = parties.ask(TOKENS)
    for role in SERVERS:
        await parties.said(role, "queued: 2")
    parties.start("owner")
    await parties.answered(TOKENS, honest)
    words = "server1: server0 has got another size, mask, upload or answer of this request; ask again"
    assert await turned_away(second) == words
    monkeypatch.setattr(leader, "GRACE_S", 0.0)
    await parties.answered(TOKENS)
    assert await turned_away(first) == f"server0: {NOT_AT_SERVER1}; ask again"
    await still_serves(parties)


async def test_client_that_says_nothing(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is idle, and has its place as long as nobody else needs it, but not for ever."""
    await serve(parties)
    monkeypatch.setattr(clients, "KEPT_S", 0.05)
    peer = await parties.node("client").dial("server0")
    assert await turned_away(peer) == "server0: no request in time; connect again"
    monkeypatch.undo()
    await still_serves(parties)


async def test_more_requests_than_fit(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client's, and those of all together; who had to leave may come again."""
    monkeypatch.setattr(queue, "PER_CLIENT", 2)
    for role in ALL:
        parties.start(role)
    first = [await upload(parties, bytes([i] * 16), *SERVERS) for i in range(2)]
    words = await parties.refused(parties.ask(TOKENS))
    assert "client has 2 requests here; ask again when one is answered" in words
    monkeypatch.setattr(edge, "MAX_CONNECTIONS", 2)
    words = await parties.refused(parties.ask(TOKENS, ALICE))
    assert "clients have 2 connections; try again in a moment" in words
    monkeypatch.setattr(edge, "PER_IDENTITY", 2)
    words = await parties.refused(parties.ask(TOKENS))
    assert "client has 2 connections; try again in a moment" in words
    for peers in first:
        for peer in peers:
            await peer.channel.close()
    for role in SERVERS:
        await parties.said(role, "queued: 0")
    monkeypatch.undo()
    parties.start("owner")
    await still_serves(parties)


async def test_strangers_by_the_hundred(parties: Parties) -> None:
    """Connections that never greet are dropped, the oldest first; who does greet is let in."""
    await serve(parties)
    writers = []
    for role in SERVERS:
        host, port = parse_address(parties.nodes[role].settings.addresses[role])
        opened = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(150)))
        writers += [writer for _, writer in opened]
    asked = parties.ask(TOKENS)
    for index, writer in enumerate(writers):
        if index % 2:
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * (index % 7))
    await parties.answered(TOKENS, asked)
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
    await still_serves(parties)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (some_tokens([SHAPE.positions + 1]), "want at most 16 positions, got 17"),
        (replace(TOKENS, ids=TOKENS.ids + SHAPE.vocab), r"want ids in 0 \.\.\. 63, got one outside"),
        (replace(TOKENS, mask=torch.zeros(1, 5).long()), "want a valid token in every row"),
        (replace(TOKENS, types=TOKENS.types[:, 1:]), "of one shape"),
        (Tokens(*(torch.zeros(0, 0).long(),) * 3), "of one shape"),
    ],
)
async def test_tokens_that_are_none(parties: Parties, tokens: Tokens, words: str) -> None:
    """Refused before anybody is dialled."""
    with pytest.raises(LocalInputError, match=words):
        await parties.ask(tokens)


# --- patience -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_channel, "PING_S", 0.02)


async def test_waiting_longer_than_the_timeout(parties: Parties, quick: None) -> None:
    """Signs of life are enough: for who waits for the owner, in the queue, or for somebody to ask."""
    for role in ALL:
        parties.start(role)
    early = parties.ask(TOKENS)
    for role in SERVERS:
        await parties.said(role, "queued: 1")
    await a_long_time(open_channels(parties), PATIENT_S)
    parties.start("owner")
    await parties.answered(TOKENS, early)
    await a_long_time(open_channels(parties, *ALL), PATIENT_S)
    await still_serves(parties)


async def test_a_run_longer_than_the_timeout(parties: Parties, quick: None) -> None:
    """The dealer waits for its next order, and the client for its answer."""
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    asked = parties.ask(TOKENS)
    await asyncio.wait_for(slow.did.wait(), LIMIT_S)
    await a_long_time(open_channels(parties, "dealer", "client"), PATIENT_S)
    slow.released.set()
    await parties.answered(TOKENS, asked)
    await still_serves(parties)
