"""A request outlives its client's connection, for as long as the client waits, and no longer."""

import asyncio
import secrets

import pytest
import rogue
from limits import LIMIT_S
from parties import ALL, SERVERS, Parties, some_tokens
from rogue import RogueNode
from uploads import TOKENS, announce, asks_in_vain, turned_away, upload

from mpcnet.errors import RemoteAbort
from mpcnet.launch.party import clients, frames, queue
from mpcnet.launch.party.client import Connection
from mpcnet.launch.party.control_frames import FETCH, QUEUED, READY, RESULT, TAKEN
from mpcnet.launch.party.node import Node
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

LATE = some_tokens([3], seed=2)


def cut(parties: Parties, role: str, other: str = "client") -> None:
    """The link between them: neither hears a goodbye."""
    for channel in parties.nodes[role].channels:
        if channel.peer == other:
            channel._tcp.abandon()


async def fetched(parties: Parties, name: bytes, role: str, client: str = "client") -> Peer:
    peer = await parties.node(client).dial(role)
    await frames.send(peer, FETCH, id=name)
    return peer


@pytest.mark.parametrize("role", SERVERS)
async def test_a_link_that_is_cut_in_the_queue(parties: Parties, role: str) -> None:
    for each in ALL:
        parties.start(each)
    asked = parties.ask(TOKENS)
    for each in SERVERS:
        await parties.said(each, "queued: 1")
    cut(parties, role)
    await parties.said("client", "coming back for the answer")
    parties.start("owner")
    await parties.answered(TOKENS, asked)
    await parties.stop()
    assert parties.lost() == []


@pytest.mark.parametrize("role", SERVERS)
async def test_a_link_that_is_cut_in_the_run(parties: Parties, role: str) -> None:
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    asked = parties.ask(TOKENS)
    await asyncio.wait_for(slow.did.wait(), LIMIT_S)
    cut(parties, role)
    slow.released.set()
    await parties.answered(TOKENS, asked)
    await parties.stop()
    assert parties.lost() == []


@pytest.mark.parametrize("party", range(2))
async def test_a_link_that_is_cut_again_on_the_way_back(
    parties: Parties, party: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client comes back as often as it takes."""
    opened, met = Connection.open, list[Connection]()

    async def then_cut(node: Node, timeout_s: float | None = None) -> Connection:
        met.append(await opened(node, timeout_s))
        if len(met) in (2, 3):
            met[-1].peers[party].channel._tcp.abandon()  # type: ignore[attr-defined]
        return met[-1]

    monkeypatch.setattr(Connection, "open", then_cut)
    for each in ALL:
        parties.start(each)
    asked = parties.ask(TOKENS)
    for each in SERVERS:
        await parties.said(each, "queued: 1")
    cut(parties, SERVERS[party])
    await parties.said("client", "coming back for the answer")
    parties.start("owner")
    await parties.answered(TOKENS, asked)
    assert len(met) == 4
    await parties.stop()
    assert parties.lost() == []


async def test_an_answer_is_kept_until_it_is_taken(parties: Parties) -> None:
    """Whoever has lost it behind the reveal gets the same shares again; then it is gone."""
    parties.serve()
    name = secrets.token_bytes(16)
    found = []
    for peer in await upload(parties, name, *SERVERS):
        await frames.receive_bare(peer, READY, patient=True)
    for attempt in range(2):
        shares = []
        for role in SERVERS:
            peer = await fetched(parties, name, role)
            await frames.receive_bare(peer, QUEUED)
            await frames.receive_bare(peer, READY, patient=True)
            shares.append((await frames.receive(peer, RESULT, lambda header: None, patient=True))[1][0].tobytes())
            if attempt:
                await frames.send(peer, TAKEN)
                await peer.channel.close()
            else:
                peer.channel._tcp.abandon()
        found.append(shares)
    assert found[0] == found[1]
    for role in SERVERS:
        assert "an id of none; ask again" in await turned_away(await fetched(parties, name, role))
    await parties.stop()


async def test_an_answer_is_for_its_client_only(parties: Parties) -> None:
    for role in ALL:
        parties.start(role)
    name = secrets.token_bytes(16)
    await upload(parties, name, *SERVERS)
    assert "an id of none" in await turned_away(await fetched(parties, name, "server0", "client:alice"))
    await parties.cancel()


async def test_an_answer_that_nobody_fetches_is_forgotten(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PICKUP_S", 0.05)
    parties.serve()
    name = secrets.token_bytes(16)
    peers = await upload(parties, name, *SERVERS)
    for peer in peers:
        await frames.receive_bare(peer, READY, patient=True)
        peer.channel._tcp.abandon()
    await parties.said("server0", "answered in")
    async with asyncio.timeout(LIMIT_S):
        while await is_kept(await fetched(parties, name, "server0")):
            pass
    await parties.stop()


async def is_kept(peer: Peer) -> bool:
    try:
        await frames.receive_bare(peer, QUEUED)
    except RemoteAbort as error:
        assert "an id of none; ask again" in error.reason
        return False
    peer.channel._tcp.abandon()
    return True


async def test_a_request_waits_as_long_as_its_client(parties: Parties) -> None:
    """Both ends look at the clock: nobody waits for ever for servers that cannot serve."""
    for role in ALL:
        parties.start(role)  # and no owner
    await asks_in_vain(parties)
    for role in SERVERS:
        await parties.has_said(role, "queued: 1")
        await parties.said(role, "queued: 0")
    peers = await upload(parties, secrets.token_bytes(16), *SERVERS, wait_s=0.05)
    for peer in peers:
        assert "not answered within the 0.05 s that it waits; ask again" in await turned_away(peer)
    parties.start("owner")
    await parties.answered(LATE)
    await parties.stop()


async def test_who_leaves_in_the_run_takes_no_place_afterwards(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is kept for nobody."""
    monkeypatch.setattr(queue, "PER_CLIENT", 1)
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), misdeed=rogue.held)
    parties.serve(slow)
    peers = await upload(parties, secrets.token_bytes(16), *SERVERS)
    await asyncio.wait_for(slow.did.wait(), LIMIT_S)
    for peer in peers:
        peer.channel.abort("it wants no answer any more")
    slow.released.set()
    for role in SERVERS:
        await parties.said(role, "run 1: answered")
    await parties.answered(TOKENS)
    await parties.stop()


async def test_a_client_that_closes_in_order_has_left(parties: Parties) -> None:
    for role in ALL:
        parties.start(role)
    name = secrets.token_bytes(16)
    for peer in await upload(parties, name, *SERVERS):
        await peer.channel.close()
    for role in SERVERS:
        await parties.said(role, "queued: 0")
        assert "an id of none" in await turned_away(await fetched(parties, name, role))
    parties.start("owner")
    await parties.answered(TOKENS)
    await parties.stop()


async def test_a_session_that_ends_lets_go_of_what_was_to_run(parties: Parties) -> None:
    """server1 has said that it has the request; the run never begins, and the client leaves."""

    def of_order(header: Header) -> bool:
        return header.fields.get("what") == "run"

    parties.serve(parties.node("server0", RogueNode, victim="server1", which=of_order, misdeed=rogue.cut, when=1))
    one, two = await upload(parties, secrets.token_bytes(16), *SERVERS)
    await parties.said("server1", "queued: 1")
    assert "ask again" in await turned_away(one)
    await two.channel.close()
    await parties.said("server1", "queued: 0")
    await parties.answered(TOKENS)
    await parties.stop()


async def test_a_request_may_be_announced_and_never_come(parties: Parties) -> None:
    """It takes a place of its client, and nobody else's time."""
    parties.serve()
    peer = await parties.node("client:alice").dial("server0")
    await announce(peer)
    await parties.answered(TOKENS)
    peer.channel.abort("the test is over")
    await parties.stop()
