"""Clients of a virtual cluster: what they do, and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mpcnet.errors import MpcError, RemoteAbort
from mpcnet.launch.party import client, frames
from mpcnet.launch.party.control_frames import QUEUED
from mpcnet.transport.handshake import Peer
from tests.cluster import model
from tests.cluster.plain import REVOKED
from tests.cluster.requests import WAIT_S, upload
from tests.cluster.roles import SERVERS
from tests.cluster.scenario import Visitor
from tests.cluster.world import World

BEHIND_S = 10.0  # its client's channels have ended so long behind that
ANSWERED_S = 60.0  # in a gentle world an honest client has its answer by then, though its own line may break
TRIES = 4  # of which the last must succeed there: a request whose line breaks before it is queued is asked anew
TOLD_S = 8.0  # a request of which nothing can come is ended so long behind its deadline
LARGE = 24  # sentences of a request that is too large for who is short of memory


async def visit(world: World, visitor: Visitor) -> None:
    """From first to last."""
    await asyncio.sleep(visitor.at_s)
    world.note("visit", visitor.name, visitor.kind)
    match visitor.kind:
        case "leaves":
            await _leave(world, visitor)
        case "half requests":
            halves = (_ask_one(world, visitor, index) for index in range(len(visitor.texts)))
            await asyncio.gather(*halves)
        case "disagrees":
            await _disagree(world, visitor)
        case "too large":
            await _ask_for_much(world, visitor)
        case "floods":
            await asyncio.gather(*(ask(world, visitor.name, [text], visitor) for text in visitor.texts))
        case "revoked":
            await _revoked(world, visitor)
        case "says nothing":
            await _say_nothing(world, visitor)
        case "stranger":
            await _stranger(world, visitor)
        case "stops":
            world.stop_for(visitor.name, visitor.pause_s, 5 * visitor.pause_s)
            await ask(world, visitor.name, visitor.texts, visitor)
        case "slow":
            for server in SERVERS:
                world.network.line(visitor.name, server).delay_s = 1.0
            await ask(world, visitor.name, visitor.texts, visitor)
        case "honest" if world.gentle:
            for text in visitor.texts:
                await _insist(world, visitor, text)
        case _:
            await ask(world, visitor.name, visitor.texts, visitor)


async def ask(
    world: World, name: str, texts: Sequence[int], visitor: Visitor | None = None, *, checked: bool = True
) -> bool:
    """One request after the other over one connection. Each gets the right answer, or one clear error, in time; True
    for the former.
    """
    connection = None
    try:
        connection = await client.Connection.open(world.node(name))
        for index in texts:
            await ask_over(world, connection, index, visitor, checked=checked)
            await asyncio.sleep(0.0 if visitor is None else visitor.pause_s)
        return True
    except MpcError as error:
        clear(world, name, error)
        return False
    finally:
        if connection is not None:
            await connection.close()


async def ask_over(
    world: World, connection: client.Connection, index: int, visitor: Visitor | None = None, *, checked: bool = True
) -> None:
    """One request.

    :raises MpcError: it has no answer.
    """
    name, tokens = connection.node.role, model.texts()[index]
    audit, wait_s = (False, WAIT_S) if visitor is None else (visitor.audit, visitor.wait_s)
    size = client.size_of(connection.node, tokens, "logits", audit)
    largest, begun_s = world.largest(size), world.loop.time()
    stopped_s = 5 * visitor.pause_s if visitor is not None and visitor.kind == "stops" else 0.0
    try:
        answer = await connection.ask(tokens, size, wait_s=wait_s)
    except RemoteAbort as error:
        if error.largest is not None and (error.largest, error.final) != (largest, True):
            world.breaks(f"{name}: want a request of {size} refused for more than {largest}, got {error.largest}")
        raise
    except MpcError as error:
        world.seen.words.refused(name, connection.peers[0].session, error)
        raise
    finally:
        if (took_s := world.loop.time() - begun_s) > wait_s + BEHIND_S + stopped_s:
            world.breaks(f"{name}: a request that waits {wait_s:.1f} s ended after {took_s:.1f} s")
    world.seen.words.took(name, connection.peers[0].session)
    if name in world.revoked and begun_s > world.revoked[name]:
        world.breaks(f"{name} was answered, though it had been revoked before it asked")
    if largest < size.batch:
        world.breaks(f"{name}: a run of {size} takes more memory than there is, and was answered")
    if checked and not model.right(index, answer.values):
        world.breaks(f"{name}: a wrong answer to text {index}")
    if checked and answer.out_of_range is not None and any(answer.out_of_range):
        world.breaks(f"{name}: an answer was flagged")
    world.note("answer", name, index)


async def _insist(world: World, visitor: Visitor, index: int) -> None:
    """The right answer in time. Only a request that was cut off before both servers had queued it is asked again."""
    begun_s, size = (
        world.loop.time(),
        client.size_of(world.node(visitor.name), model.texts()[index], "logits", visitor.audit),
    )
    fits = world.largest(size) >= size.batch
    for _ in range(TRIES):
        connection = None
        try:
            connection = await client.Connection.open(world.node(visitor.name))
            await ask_over(world, connection, index, visitor)
            if (took_s := world.loop.time() - begun_s) > ANSWERED_S:
                world.breaks(f"{visitor.name} had its answer after {took_s:.1f} s only")
            return
        except MpcError as error:
            clear(world, visitor.name, error)
            if not fits and isinstance(error, RemoteAbort):
                return
            if connection is not None and connection.queued and not _half(world, connection):
                world.breaks(f"{visitor.name} has lost the answer to a request that was queued: {error}")
        finally:
            if connection is not None:
                await connection.close()
        await asyncio.sleep(0.5)
    world.breaks(f"{visitor.name} has no answer, though nobody but clients did anything wrong")


def _half(world: World, connection: client.Connection) -> bool:
    """Both servers have queued it, but one too late: its line broke under way."""
    return world.seen.asked.get(connection.peers[0].session) in world.seen.halves


def clear(world: World, name: str, error: MpcError) -> None:
    """One line that says who."""
    text = str(error)
    world.note("error", name, type(error).__name__, text)
    if not text or "\n" in text or "bug:" in text:
        world.breaks(f"{name}: an error that says nothing: {error!r}")


async def _leave(world: World, visitor: Visitor) -> None:
    asking = asyncio.ensure_future(ask(world, visitor.name, visitor.texts, visitor))
    await asyncio.wait([asking], timeout=0.01 + visitor.pause_s)
    if visitor.texts[0] % 2:
        world.network.kill(visitor.name, told=visitor.texts[0] % 4 == 1)
    asking.cancel()
    await asyncio.wait([asking])


async def _ask_one(world: World, visitor: Visitor, index: int) -> None:
    """A request that the other server never gets. Its client is told before it has waited for too long."""
    party = visitor.texts[0] % 2
    await asyncio.sleep(index * visitor.pause_s / 4)
    try:
        peer = await world.node(visitor.name).dial(SERVERS[party])
        await upload(peer, world.secrets.randbytes(16), model.texts()[visitor.texts[index]], party, visitor.wait_s)
        await frames.receive_bare(peer, QUEUED)
    except MpcError as error:
        clear(world, visitor.name, error)
        return
    if index % 3 == 2:  # it does not wait
        peer.channel.abort("it has had enough")
        return
    await _told(world, visitor, peer)


async def _disagree(world: World, visitor: Visitor) -> None:
    """Each server gets another request under the same id."""
    peers = []
    name = world.secrets.randbytes(16)
    try:
        for party, server in enumerate(SERVERS):
            peer = await world.node(visitor.name).dial(server)
            peers.append(peer)
            tokens = model.texts()[(visitor.texts[0] + party) % model.TEXTS]
            await upload(peer, name, tokens, party, visitor.wait_s)
        await asyncio.gather(*(_told(world, visitor, peer) for peer in peers))
    except MpcError as error:
        clear(world, visitor.name, error)
    finally:
        for peer in peers:
            peer.channel.abort("it has had enough")


async def _told(world: World, visitor: Visitor, peer: Peer) -> None:
    """A server says in time that there will be no answer."""
    gone = asyncio.ensure_future(_until_gone(peer))
    await asyncio.wait([gone], timeout=visitor.wait_s + TOLD_S)
    if gone.done():
        clear(world, visitor.name, gone.result())
    elif world.gentle:
        world.breaks(f"{visitor.name} was told nothing of a request that waited {visitor.wait_s:.1f} s")
    gone.cancel()
    peer.channel.abort("it has had enough")


async def _until_gone(peer: Peer) -> MpcError:
    """Whatever it says before."""
    try:
        while True:
            await peer.channel.receive(lambda header: memoryview(bytearray(header.payload_bytes)), patient=True)
    except MpcError as error:
        return error


async def _ask_for_much(world: World, visitor: Visitor) -> None:
    """More sentences than there may be memory for; then as many as the refusal says."""
    text, node = model.texts()[visitor.texts[0]], world.node(visitor.name)
    tokens = text.rows([0] * LARGE)
    try:
        size = client.size_of(node, tokens, "logits", visitor.audit)
        largest = world.largest(size)
        try:
            connection = await client.Connection.open(node)
            answer = await connection.ask(tokens, size, wait_s=visitor.wait_s)
            if largest < LARGE:
                world.breaks(f"{visitor.name}: {LARGE} sentences take more memory than there is, and were answered")
        except RemoteAbort as error:
            if error.largest is None or not error.largest:
                raise
            if largest >= LARGE or not error.final:
                world.breaks(f"{visitor.name}: {LARGE} sentences fit, and were refused: {error}")
            tokens = text.rows([0] * error.largest)
            connection = await client.Connection.open(node)
            answer = await connection.ask(tokens, replace(size, batch=error.largest), wait_s=visitor.wait_s)
        world.seen.words.took(visitor.name, connection.peers[0].session)
        await connection.close()
        if not all(model.right_row(visitor.texts[0], row) for row in answer.values):
            world.breaks(f"{visitor.name}: a wrong answer to many sentences")
        world.note("answer", visitor.name, len(answer.values))
    except MpcError as error:
        clear(world, visitor.name, error)


async def _revoked(world: World, visitor: Visitor) -> None:
    """Its key is not the one that the roster pins, or the roster ceases to name it."""
    if visitor.name == REVOKED:
        try:
            await world.node(visitor.name).dial("server0")
        except MpcError as error:  # it may also be that server0 is away
            clear(world, visitor.name, error)
        else:
            world.breaks(f"{visitor.name} was let in")
        return
    asking = asyncio.ensure_future(ask(world, visitor.name, visitor.texts, visitor))
    await asyncio.wait([asking], timeout=0.2 + visitor.pause_s)
    world.revoke(visitor.name)
    await asyncio.wait([asking])
    await ask(world, visitor.name, visitor.texts[:1], visitor)


async def _say_nothing(world: World, visitor: Visitor) -> None:
    """Let in, it has nothing to ask."""
    try:
        peer = await world.node(visitor.name).dial(SERVERS[visitor.texts[0] % 2])
    except MpcError as error:
        clear(world, visitor.name, error)
        return
    try:
        async with asyncio.timeout(60.0):
            clear(world, visitor.name, await peer.channel.gone())
    except TimeoutError:
        world.breaks(f"{visitor.name} has said nothing for a minute, and is still let in")
    peer.channel.abort("it has had enough")


async def _stranger(world: World, visitor: Visitor) -> None:
    """Bytes that are not TLS, or the beginning of a greeting that does not go on."""
    gone = asyncio.Event()
    try:
        transport, _ = await world.network.connect(lambda: _Stranger(gone), f"{SERVERS[visitor.texts[0] % 2]}:4100")
    except OSError:
        return
    transport.write(world.secrets.randbytes(visitor.texts[0] * 7))
    try:
        async with asyncio.timeout(60.0):
            await gone.wait()
    except TimeoutError:
        if not transport.peer.is_closing():  # a host that was lost tells nobody
            world.breaks(f"{visitor.name} has not greeted for a minute, and is still connected")
    transport.abort()


class _Stranger(asyncio.BufferedProtocol):
    def __init__(self, gone: asyncio.Event) -> None:
        self._gone, self._memory = gone, memoryview(bytearray(1 << 12))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
