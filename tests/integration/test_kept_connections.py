"""A client's connection from one request to the next: who may stay, for how long, and what it costs others."""

import asyncio
import secrets

import pytest
from limits import LIMIT_S
from parties import ALICE, SERVERS, SHAPE, Parties, some_tokens
from patience import too_long
from sockets import until
from uploads import announce, request, turned_away, upload

from mpcnet.errors import LocalStateError, RemoteAbort
from mpcnet.launch.api.session import Session
from mpcnet.launch.party import clients, edge, frames
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.control_frames import READY, RESULT, SHARES, TAKEN
from mpcnet.transport.channel import CONTROL
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header, Stage, encode

FIRST, SECOND = some_tokens([5, 3]), some_tokens([4], seed=1)


async def begin(parties: Parties) -> Session:
    """All serve, and a client has been answered once."""
    parties.serve()
    session = Session(parties.node("client"))
    await ask(parties, session, FIRST)
    return session


async def ask(parties: Parties, session: Session, tokens) -> None:
    async with asyncio.timeout(LIMIT_S):
        answer = await session.ask(tokens, audit=False)
    parties.model.check(tokens, answer.values)


async def queued(parties: Parties, session: Session) -> asyncio.Task[Answer]:
    """A request that both servers have, in a session that has just ended."""
    for role in SERVERS:
        await parties.said(role, "session ended")  # what was queued before this line is the first request
    asked = asyncio.ensure_future(session.ask(SECOND, audit=False))
    for role in SERVERS:
        await parties.said(role, "queued: 1")
    return asked


def greeted(parties: Parties) -> list[int]:
    """How often each server has greeted somebody."""
    return [len(parties.nodes[role].channels) for role in SERVERS]


async def test_requests_share_one_connection(parties: Parties) -> None:
    session = await begin(parties)
    before = greeted(parties)
    for tokens in (SECOND, FIRST, SECOND):
        await ask(parties, session, tokens)
    assert greeted(parties) == before
    await session.close()
    with pytest.raises(LocalStateError, match="client: want an open one, got one that was closed"):
        await session.ask(FIRST)
    await parties.stop()
    assert parties.lost() == []
    assert not [line for role in SERVERS for line in parties.logs[role].lines if "turned away" in line]


async def test_calls_at_once_have_a_connection_each(parties: Parties) -> None:
    session = await begin(parties)
    before = greeted(parties)
    await asyncio.gather(*(ask(parties, session, tokens) for tokens in (FIRST, SECOND, FIRST)))
    assert greeted(parties) == [count + 2 for count in before]
    await session.close()
    await parties.stop()


async def test_a_restart_between_requests_costs_no_attempt(parties: Parties) -> None:
    session = await begin(parties)
    await parties.kill("server1")
    parties.start("server1")
    await ask(parties, session, SECOND)
    await session.close()
    await parties.stop()


async def test_a_failure_in_the_midst_costs_one(parties: Parties) -> None:
    """And the next attempt has connections of its own."""
    session = await begin(parties)
    await parties.stop("owner")
    await parties.kill("dealer")
    asked = await queued(parties, session)
    await parties.kill("server1")
    parties.start("server1")
    with pytest.raises(RemoteAbort, match="want a request that is here, got an id of none; ask again"):
        await asyncio.wait_for(asked, LIMIT_S)
    again = Session(parties.node("client"), attempts=2)
    asked = asyncio.ensure_future(again.ask(SECOND, audit=False))
    for role in ("dealer", "owner"):
        parties.start(role)
    parties.model.check(SECOND, (await asyncio.wait_for(asked, LIMIT_S)).values)
    await again.close()
    await parties.stop()


async def test_a_cancelled_call_leaves_the_queue(parties: Parties) -> None:
    session = await begin(parties)
    await parties.stop("owner")
    await parties.kill("dealer")
    asked = await queued(parties, session)
    asked.cancel()
    for role in SERVERS:
        await parties.said(role, "queued: 0")
    for role in ("dealer", "owner"):
        parties.start(role)
    await ask(parties, session, FIRST)
    await session.close()
    await parties.stop()


async def test_who_stays_too_long_is_parted_from(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says so, nobody is warned, and the client connects anew when it has something to ask."""
    parties.serve()
    session = Session(parties.node("client"))
    for tokens in (FIRST, SECOND, FIRST):
        asked = asyncio.ensure_future(ask(parties, session, tokens))
        for role in SERVERS:
            await parties.said(role, "queued: 1")
        with monkeypatch.context() as patch:  # not before: to connect and ask may take longer on a busy machine
            patch.setattr(clients, "KEPT_S", 0.05)
            await asked
            [kept] = session._free
            for peer, role in zip(kept.peers, SERVERS, strict=True):
                assert await turned_away(peer) == f"{role}: no request in time; connect again"
        assert not await kept.alive()
    await session.close()
    await parties.stop()
    assert not [line for role in SERVERS for line in parties.logs[role].lines if "turned away" in line]


async def test_no_connection_lasts_for_ever(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificate may have expired meanwhile, or its pin may be gone."""
    monkeypatch.setattr(clients, "LASTS_S", 0.0)
    session = await begin(parties)
    before = greeted(parties)
    for tokens in (SECOND, FIRST):
        await ask(parties, session, tokens)
    assert greeted(parties) == [count + 2 for count in before]
    await session.close()
    await parties.stop()


async def test_who_is_idle_makes_room_for_newcomers(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest idle first, and nobody who waits for an answer."""
    asked, idle = clients.Clients._asked, asyncio.Semaphore(0)

    async def told(self: clients.Clients, peer: Peer, limit_s: float) -> Header:
        idle.release()
        return await asked(self, peer, limit_s)

    monkeypatch.setattr(clients.Clients, "_asked", told)
    session = await begin(parties)
    for _ in range(4):  # each server waits for a first request, and, when it has heard `taken`, for a second one
        await asyncio.wait_for(idle.acquire(), LIMIT_S)
    monkeypatch.setattr(edge, "MAX_CONNECTIONS", 1)  # this client's; the owner's is none of them
    await parties.answered(SECOND, parties.ask(SECOND, ALICE, "client"))
    [kept] = session._free
    for peer, role in zip(kept.peers, SERVERS, strict=True):
        assert await turned_away(peer) == f"{role} needs the place for others; connect again"
    await session.close()
    await parties.stop()


async def test_a_kept_client_that_stalls_in_the_midst_of_a_request(parties: Parties) -> None:
    """It has as long as a first request has; others are served meanwhile, and it is told."""
    parties.serve()
    peers = await upload(parties, secrets.token_bytes(16), *SERVERS)
    links = [each for role in SERVERS for each in parties.nodes[role].channels if each.peer == "client"]
    for peer in peers:
        await frames.receive_bare(peer, READY, patient=True)
        await frames.receive(peer, RESULT, lambda header: None, patient=True)
        await frames.send(peer, TAKEN)
        large = some_tokens([SHAPE.positions] * 64)  # a payload that pings do not fill meanwhile
        await announce(peer, large)
        parts = tuple(part for part, _ in request(parties, SERVERS.index(peer.name), large))
        whole = encode(Header(CONTROL, peer.session, label=SHARES, parts=parts))
        peer.channel._tls.write(memoryview(whole))  # the header, and then nothing
        peer.channel._flush()
    await parties.answered(SECOND)
    for peer, link in zip(peers, links, strict=True):
        await until(lambda link=link: link._decoder.stage is Stage.PAYLOAD)
        await too_long(link)
        assert await turned_away(peer) == "waited 60 s for the rest of a frame"
    await parties.answered(FIRST)
    await parties.stop()
    assert parties.lost() == []


async def test_a_second_request_before_the_first_is_answered(parties: Parties) -> None:
    """It is against the protocol, and costs that client both."""
    for role in (*SERVERS, "dealer"):
        parties.start(role)
    peers = await upload(parties, secrets.token_bytes(16), *SERVERS)
    for peer in peers:
        await announce(peer)
        assert "client: want nothing behind its request, got control frame 'request'" in await turned_away(peer)
    for role in SERVERS:
        await parties.said(role, "queued: 0")
    parties.start("owner")
    await parties.answered(FIRST)
    await parties.stop()
