"""Clients of a virtual cluster: what they do, and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import MpcError, RemoteIdentityError
from mpcnet.launch.party import client, frames, sharing
from mpcnet.launch.party.control_frames import QUEUED, REQUEST, SHARES
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.program import Size
from mpcnet.models.texts.tokens import Tokens
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from tests.cluster import model
from tests.cluster.scenario import Visitor
from tests.cluster.world import SERVERS, World

WAIT_S = 100.0  # that a request waits


async def visit(world: World, visitor: Visitor) -> None:
    """From first to last."""
    await asyncio.sleep(visitor.at_s)
    world.note("visit", visitor.name, visitor.kind)
    match visitor.kind:
        case "leaves":
            await _leave(world, visitor)
        case "one server":
            await _ask_one(world, visitor)
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
        case _:
            await ask(world, visitor.name, visitor.texts, visitor)


async def ask(
    world: World, name: str, texts: Sequence[int], visitor: Visitor | None = None, *, checked: bool = True
) -> bool:
    """One request after the other over one connection. Each gets the right answer, or one clear error; True for the
    former.
    """
    audit = visitor is not None and visitor.audit
    connection = None
    try:
        node = world.node(name)
        connection = await client.Connection.open(node)
        for index in texts:
            tokens = model.texts()[index]
            size = client.size_of(node, tokens, "logits", audit)
            answer = await connection.ask(tokens, size)
            if checked and not model.right(index, answer.values):
                world.breaks(f"{name}: a wrong answer to text {index}")
            if checked and answer.out_of_range is not None and any(answer.out_of_range):
                world.breaks(f"{name}: an answer was flagged")
            world.note("answer", name, index)
            await asyncio.sleep(0.0 if visitor is None else visitor.pause_s)
        return True
    except MpcError as error:
        clear(world, name, error)
        return False
    finally:
        if connection is not None:
            await connection.close()


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


async def _ask_one(world: World, visitor: Visitor) -> None:
    """A request that the other server never gets."""
    party = visitor.texts[0] % 2
    node = world.node(visitor.name)
    try:
        peer = await node.dial(SERVERS[party])
    except MpcError as error:
        clear(world, visitor.name, error)
        return
    tokens = model.texts()[visitor.texts[0]]
    with suppress(MpcError):
        await upload(peer, world.secrets.randbytes(16), tokens, party)
        await frames.receive_bare(peer, QUEUED)
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                clear(world, visitor.name, await peer.channel.gone())
    peer.channel.abort("it has had enough")


async def upload(peer: Peer, name: bytes, tokens: Tokens, party: int, *, wait_s: float = WAIT_S) -> None:
    """A client's request to one server."""
    await frames.send(peer, REQUEST, **request_fields(tokens, name, wait_s))
    await frames.send(peer, SHARES, request_arrays(tokens, party))


def request_fields(tokens: Tokens, name: bytes, wait_s: float = WAIT_S, audit: bool = False) -> dict[str, Any]:
    """What is public of it."""
    batch, length = tokens.ids.shape
    return {"id": name, "batch": batch, "length": length, "answer": "logits", "audit": audit, "wait_s": wait_s}


def request_arrays(tokens: Tokens, party: int) -> list[tuple[Part, Bytes]]:
    """What follows it: the mask, a seed, and one of the halves."""
    config, size = model.config(), Size(*tokens.ids.shape)
    split = sharing.split_tokens(config, size, encode_tokens(config, tokens, None), sharing.TOKENS)
    mask = Part(1, tuple(tokens.mask.shape)), ring.pack(ring.pack_bits(tokens.mask), 1)
    seed = sharing.SEED, np.frombuffer(split.seeds[party], np.uint8)
    return [mask, seed, *split.explicit[party]]


async def _revoked(world: World, visitor: Visitor) -> None:
    """Its key is not the one that the roster pins."""
    try:
        await world.node(visitor.name).dial("server0")
    except RemoteIdentityError as error:
        clear(world, visitor.name, error)
    except MpcError as error:  # server0 is away
        clear(world, visitor.name, error)
    else:
        world.breaks(f"{visitor.name} was let in")


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
