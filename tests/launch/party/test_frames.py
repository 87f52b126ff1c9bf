"""Control frames with arrays: what is believed of a peer's header, and what is not."""

import asyncio

import numpy as np
import pytest

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelTimeout, RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.rounds import Part
from mpcnet.transport.channel import memory_pair, send_control
from mpcnet.transport.handshake import Peer, Program, handshake
from mpcnet.transport.wire import Header


async def ends(timeout_s: float | None = None) -> tuple[Peer, Peer]:
    a, b = memory_pair("client", "server0", timeout_s=timeout_s)
    program = Program(bytes(32))
    return await asyncio.gather(handshake(a, "client", program), handshake(b, "server0", program))


def array(*values: int) -> tuple[Part, Bytes]:
    return Part(8, (len(values),)), np.array(values, np.uint8)


async def test_fields_and_arrays_arrive() -> None:
    a, b = await ends()
    await frames.send(a, "request", [array(1, 2, 3), array(), array(4)], id=b"name")
    header, arrays = await frames.receive(
        b, "request", frames.exactly(b, "request", [Part(8, (3,)), Part(8, (0,)), Part(8, (1,))])
    )
    assert header.fields == {"id": b"name"} and [each.tolist() for each in arrays] == [[1, 2, 3], [], [4]]


async def test_other_parts_than_expected_are_refused_before_there_is_memory() -> None:
    a, b = await ends()
    before = b.channel.received_bytes
    await frames.send(a, "request", [array(1, 2, 3)])
    with pytest.raises(RemoteProtocolError, match="client, request: want"):
        await frames.receive(b, "request", frames.exactly(b, "request", [Part(8, (2,))]))
    assert b.channel.received_bytes == before


@pytest.mark.parametrize("name", ["result", "ready"])
async def test_another_frame_and_one_with_arrays_are_refused(name: str) -> None:
    a, b = await ends()
    await frames.send(a, name, [array(1)] if name == "ready" else [])
    with pytest.raises(RemoteProtocolError):
        await frames.receive_bare(b, "ready")


async def test_a_frame_of_another_session_is_refused() -> None:
    a, b = await ends()
    await send_control(a.channel, bytes(16), "ready")
    with pytest.raises(RemoteProtocolError, match="another session"):
        await frames.receive_bare(b, "ready")


async def test_patience_outlasts_the_timeout() -> None:
    a, b = await ends(timeout_s=0.001)
    waiting = asyncio.ensure_future(frames.receive_bare(b, "ready", patient=True))
    with pytest.raises(ChannelTimeout):
        await frames.receive_bare(a, "ready")
    assert not waiting.done()
    await frames.send(a, "ready")
    await waiting


@pytest.mark.parametrize("values", [[], [1], [1, 5, 3], [5] * 100])
def test_whole_numbers(values: list[int]) -> None:
    assert frames.whole_numbers(values, "order, sizes", 1, 5) == values


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0], "0"),
        ([6], "6"),
        ([True], "True"),
        ([1.0], "1.0"),
        (["1"], "1"),
        ([None], "None"),
        ([1, 6], "something else"),
        ([1, False], "something else"),
        (None, "something else"),
        (3, "something else"),
        ("11", "something else"),
        (b"11", "something else"),
    ],
)
def test_what_are_no_whole_numbers(values: object, shown: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        frames.whole_numbers(values, "order, sizes", 1, 5)
    assert str(caught.value) == f"order, sizes: want a whole number in 1 ... 5, got {shown}"


def test_a_whole_number_of_a_header() -> None:
    header = Header("control", bytes(16), label="order", fields={"stream": 7, "sizes": [7], "flag": True})
    assert frames.whole_number(header, "stream", 7, 7) == 7
    for name in ("sizes", "flag", "missing"):
        with pytest.raises(RemoteProtocolError, match=f"order: {name}: want a whole number in 0 ... 9"):
            frames.whole_number(header, name, 0, 9)


def test_room_is_told_in_bytes_and_never_guessed() -> None:
    """Without it the servers would not agree on where the buffer ends."""
    for given in (0, 2 << 30, (1 << 24) << 20):  # the last is the most that the settings allow
        assert frames.room(Header("control", bytes(16), label="have", fields={"room": given})) == given
    for fields in ({}, {"room": -1}, {"room": 1 << 45}, {"room": True}, {"room": "1"}):
        with pytest.raises(RemoteProtocolError, match=r"have: room: want a whole number in 0 \.\.\. 17592186044416"):
            frames.room(Header("control", bytes(16), label="have", fields=fields))
