"""Control frames with arrays: sent whole, and received only if the header is what was expected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np

from launch.wire_names import IDLE
from mpcnet.channel import CONTROL, check_control
from mpcnet.errors import MpcError, RemoteProtocolError, describe
from mpcnet.mesh import Peer
from mpcnet.ring import Bytes
from mpcnet.rounds import Part
from mpcnet.session import sizes
from mpcnet.wire import Header, Value

T = TypeVar("T")
Check = Callable[[Header], None]


async def send(peer: Peer, name: str, arrays: Sequence[tuple[Part, Bytes]] = (), **fields: Value) -> None:
    """Send a control frame: public fields, then the arrays."""
    parts = tuple(part for part, _ in arrays)
    header = Header(CONTROL, peer.session, label=name, parts=parts, fields=fields)
    await peer.channel.send(header, *(raw.data for _, raw in arrays))


async def receive(peer: Peer, name: str, check: Check) -> tuple[Header, list[Bytes]]:
    """Receive the control frame `name`; `check` sees its header before memory is allocated. Signs of life are skipped.

    :raises RemoteProtocolError: another frame came, or `check` refused it.
    """
    buffers: list[Bytes] = []

    def expect(header: Header) -> memoryview:
        if header.label == IDLE and not header.parts:
            check_control(header, IDLE, peer.session, peer.name)
            return memoryview(b"")
        check_control(header, name, peer.session, peer.name)
        check(header)
        buffers.append(np.empty(header.payload_bytes, np.uint8))
        return buffers[0].data

    while True:
        header = await peer.channel.receive(expect)
        if buffers:
            break
    arrays, offset = [], 0
    for part in header.parts:
        arrays.append(buffers[0][offset : offset + part.nbytes])
        offset += part.nbytes
    return header, arrays


async def meanwhile(work: Awaitable[T], peers: Sequence[Peer], every_s: float) -> T:
    """Wait for `work`; meanwhile each of `peers`, who wait for us, sees that we are alive, and we that they are.

    :raises MpcError: a peer is gone, or `work` failed.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=every_s))[0]:
            for peer in peers:
                await send(peer, IDLE)
    except MpcError:
        if not task.done():  # else it was done with this peer
            raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return task.result()


def exactly(peer: Peer, name: str, parts: Sequence[Part]) -> Check:
    """A check that the frame has just these parts."""

    def check(header: Header) -> None:
        if sizes(header.parts) != sizes(parts):
            raise RemoteProtocolError(describe(f"{peer.name}, {name}", sizes(parts), sizes(header.parts)))

    return check


def whole_number(header: Header, name: str, low: int, high: int) -> int:
    """A field that must be an integer in [low, high].

    :raises RemoteProtocolError: it is not.
    """
    value = header.fields.get(name)
    if type(value) is not int or not low <= value <= high:
        raise RemoteProtocolError(describe(f"{header.label}: {name}", f"a whole number in {low} ... {high}", value))
    return value
