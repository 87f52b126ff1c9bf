"""Control frames with arrays: sent whole, and received only if the header is what was expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import RemoteProtocolError, describe
from mpcnet.launch.party.control_frames import FIELDS
from mpcnet.rounds import Part
from mpcnet.runtime.stream import sizes
from mpcnet.transport.channel import CONTROL, check_control
from mpcnet.transport.handshake import DIGEST_BYTES, Peer
from mpcnet.transport.wire import Header, Value

Check = Callable[[Header], None]
MOST_ROOM = 1 << 44  # bytes: the most that `buffer_mib` allows


async def send(peer: Peer, name: str, arrays: Sequence[tuple[Part, Bytes]] = (), **fields: Value) -> None:
    """Send a control frame: public fields, then the arrays."""
    parts = tuple(part for part, _ in arrays)
    header = Header(CONTROL, peer.session, label=name, parts=parts, fields=fields)
    await peer.channel.send(header, *(raw.data for _, raw in arrays))


async def receive(peer: Peer, name: str, check: Check, *, patient: bool = False) -> tuple[Header, list[Bytes]]:
    """Receive the control frame `name`; `check` sees its header before memory is allocated.

    :raises RemoteProtocolError: another frame came, or `check` refused it.
    """
    return await receive_any(peer, (name,), check, patient=patient)


async def receive_any(
    peer: Peer, names: Sequence[str], check: Check, *, patient: bool = False
) -> tuple[Header, list[Bytes]]:
    """Likewise one of these, whichever comes."""
    memory: Bytes = np.empty(0, np.uint8)

    def expect(header: Header) -> memoryview:
        nonlocal memory
        check_control(header, header.label if header.label in names else names[0], peer.session, peer.name)
        check_fields(peer, header)
        check(header)
        memory = np.empty(header.payload_bytes, np.uint8)
        return memory.data

    try:
        header = await peer.channel.receive(expect, patient=patient)
    except BaseException:
        memory = np.empty(0, np.uint8)  # a traceback that somebody keeps must not keep the payload
        raise
    return header, cut(header, memory)


def cut(header: Header, memory: Bytes) -> list[Bytes]:
    """A payload as the arrays of its parts."""
    arrays, offset = [], 0
    for part in header.parts:
        arrays.append(memory[offset : offset + part.nbytes])
        offset += part.nbytes
    return arrays


def check_fields(peer: Peer, header: Header) -> None:
    """:raises RemoteProtocolError: the frame has fields that frames of its name do not have."""
    known = FIELDS[header.label]
    if not header.fields.keys() <= known:
        got = len(header.fields.keys() - known)
        raise RemoteProtocolError(describe(f"{peer.name}, {header.label}", f"fields {sorted(known)}", f"{got} others"))


async def receive_one(peer: Peer, names: Sequence[str], *, patient: bool = False) -> Header:
    """One of these control frames, whichever comes; it has fields only.

    :raises RemoteProtocolError: another frame came.
    """

    def expect(header: Header) -> memoryview:
        check_control(header, header.label if header.label in names else names[0], peer.session, peer.name)
        check_fields(peer, header)
        exactly(peer, header.label, ())(header)
        return memoryview(b"")

    return await peer.channel.receive(expect, patient=patient)


def exactly(peer: Peer, name: str, parts: Sequence[Part]) -> Check:
    """A check that the frame has just these parts."""

    def check(header: Header) -> None:
        if sizes(header.parts) != sizes(parts):
            raise RemoteProtocolError(describe(f"{peer.name}, {name}", sizes(parts), sizes(header.parts)))

    return check


async def receive_bare(peer: Peer, name: str, *, patient: bool = False) -> Header:
    """The control frame `name`, which has fields only."""
    header, _ = await receive(peer, name, exactly(peer, name, ()), patient=patient)
    return header


def digest(peer: Peer, header: Header, name: str) -> bytes:
    """A field that must be a SHA-256.

    :raises RemoteProtocolError: it is not.
    """
    return digests([header.fields.get(name)], 1, f"{peer.name}, {header.label}: {name}")[0]


def digests(values: object, count: int, where: str) -> list[bytes]:
    """A list of so many SHA-256.

    :raises RemoteProtocolError: it is not.
    """
    found = [value for value in values if isinstance(value, bytes)] if isinstance(values, list) else []
    if isinstance(values, list) and len(found) == len(values) == count and {DIGEST_BYTES} >= set(map(len, found)):
        return found
    raise RemoteProtocolError(describe(where, f"{count} digest(s) of {DIGEST_BYTES} bytes", "something else"))


def whole_number(header: Header, name: str, low: int, high: int) -> int:
    """A field that must be an integer in [low, high].

    :raises RemoteProtocolError: it is not.
    """
    return whole_numbers([header.fields.get(name)], f"{header.label}: {name}", low, high)[0]


def room(header: Header) -> int:
    """Bytes of corrections that a server can hold for the next run.

    :raises RemoteProtocolError: it does not say so.
    """
    return whole_number(header, "room", 0, MOST_ROOM)


def whole_numbers(values: object, where: str, low: int, high: int) -> list[int]:
    """A list of integers in [low, high].

    :raises RemoteProtocolError: it is not.
    """
    if isinstance(values, list) and all(type(value) is int and low <= value <= high for value in values):
        return values
    shown = values[0] if isinstance(values, list) and len(values) == 1 else "something else"
    raise RemoteProtocolError(describe(where, f"a whole number in {low} ... {high}", shown))
