"""Control frames with arrays: sent whole, and received only if the header is what was expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpcnet.channel import CONTROL, check_control
from mpcnet.errors import RemoteProtocolError, describe
from mpcnet.mesh import Peer
from mpcnet.ring import Bytes
from mpcnet.rounds import Part
from mpcnet.session import sizes
from mpcnet.wire import Header, Value

Check = Callable[[Header], None]


async def send(peer: Peer, name: str, arrays: Sequence[tuple[Part, Bytes]] = (), **fields: Value) -> None:
    """Send a control frame: public fields, then the arrays."""
    parts = tuple(part for part, _ in arrays)
    header = Header(CONTROL, peer.session, label=name, parts=parts, fields=fields)
    await peer.channel.send(header, *(raw.data for _, raw in arrays))


async def receive(peer: Peer, name: str, check: Check) -> tuple[Header, list[Bytes]]:
    """Receive the control frame `name`; `check` sees its header before memory is allocated.

    :raises RemoteProtocolError: another frame came, or `check` refused it.
    """
    buffers: list[Bytes] = []

    def expect(header: Header) -> memoryview:
        check_control(header, name, peer.session, peer.name)
        check(header)
        buffers.append(np.empty(header.payload_bytes, np.uint8))
        return buffers[0].data

    header = await peer.channel.receive(expect)
    arrays, offset = [], 0
    for part in header.parts:
        arrays.append(buffers[0][offset : offset + part.nbytes])
        offset += part.nbytes
    return header, arrays


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
