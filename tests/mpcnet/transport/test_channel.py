"""MemoryChannel: the contract of a channel, without a network."""

import asyncio

import pytest

from mpcnet.errors import (
    ChannelClosed,
    ChannelTimeout,
    LocalInputError,
    LocalStateError,
    MpcError,
    RemoteAbort,
    RemoteProtocolError,
)
from mpcnet.rounds import Part
from mpcnet.transport.channel import CONTROL, is_ping, memory_pair, ping_header, receive_control, send_control
from mpcnet.transport.wire import Header, encode

SESSION = bytes(range(16))


def frame(nbytes: int, sequence: int = 0) -> Header:
    return Header("round", SESSION, 0, sequence, "test", parts=(Part(8, (nbytes,)),))


async def receive_bytes(channel) -> tuple[Header, bytes]:
    memory = bytearray()

    def expect(header: Header) -> memoryview:
        memory.extend(bytes(header.payload_bytes))
        return memoryview(memory)

    header = await channel.receive(expect)
    return header, bytes(memory)


async def test_frames_arrive_in_order_and_are_copied_and_counted() -> None:
    a, b = memory_pair("server0", "server1")
    assert (a.peer, b.peer) == ("server1", "server0")
    data = bytearray(b"abcd")
    await a.send(frame(4, 1), memoryview(data)[:1], memoryview(data)[1:])
    data[:] = b"WXYZ"
    await a.send(frame(4, 2), memoryview(data))
    assert await receive_bytes(b) == (frame(4, 1), b"abcd")
    assert await receive_bytes(b) == (frame(4, 2), b"WXYZ")
    assert a.sent_bytes == b.received_bytes == len(encode(frame(4, 1))) + len(encode(frame(4, 2))) + 8
    assert a.received_bytes == b.sent_bytes == 0


async def test_payload_must_be_as_long_as_the_header_says() -> None:
    a, _ = memory_pair("server0", "server1")
    with pytest.raises(LocalInputError, match="want 4 bytes, got 3"):
        await a.send(frame(4), memoryview(b"abc"))
    assert a.sent_bytes == 0


async def test_sender_waits_over_the_high_water_mark() -> None:
    a, b = memory_pair("server0", "server1", high_water=200)
    sending = asyncio.ensure_future(a.send(frame(1000), memoryview(bytes(1000))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not sending.done()
    await receive_bytes(b)
    await sending


async def test_close_keeps_the_last_frame() -> None:
    a, b = memory_pair("server0", "server1")
    await a.send(frame(1), memoryview(b"x"))
    await a.close()
    assert (await receive_bytes(b))[1] == b"x"
    with pytest.raises(ChannelClosed, match="server0 closed"):
        await receive_bytes(b)
    with pytest.raises(ChannelClosed):
        await b.send(frame(1), memoryview(b"x"))
    with pytest.raises(ChannelClosed, match="closed here"):
        await receive_bytes(a)


async def test_abort_reaches_whoever_waits_with_one_public_line() -> None:
    a, b = memory_pair("server0", "server1")
    waiting = asyncio.ensure_future(receive_control(b, "hello"))
    await asyncio.sleep(0)
    a.abort("round 7:\nwrong \x1b[31mshape")
    with pytest.raises(RemoteAbort) as caught:
        await waiting
    assert caught.value.reason == "round 7: wrong [31mshape"
    assert str(caught.value) == "server0 aborted: round 7: wrong [31mshape"
    with pytest.raises(ChannelClosed, match="aborted here"):
        await a.send(frame(1), memoryview(b"x"))
    with pytest.raises(RemoteAbort):
        await receive_bytes(b)


async def test_abort_without_a_reason_and_of_the_wrong_type() -> None:
    for fields in ({}, {"reason": 7}, {"reason": ""}):
        a, b = memory_pair("server0", "server1")
        await a.send(Header(CONTROL, SESSION, label="abort", fields=fields))
        with pytest.raises(RemoteAbort, match="no reason given"):
            await receive_bytes(b)


async def test_one_receiver_at_a_time() -> None:
    a, b = memory_pair("server0", "server1")
    first = asyncio.ensure_future(receive_bytes(b))
    await asyncio.sleep(0)
    with pytest.raises(LocalStateError, match="two receivers"):
        await receive_bytes(b)
    await a.send(frame(0))
    await first


async def test_timeout_says_who_and_how_long() -> None:
    _, b = memory_pair("server0", "server1", timeout_s=0.001)
    with pytest.raises(ChannelTimeout, match=r"waited 0.001 s for server0 to send a frame"):
        await receive_bytes(b)


async def test_a_patient_receiver_outlasts_the_timeout() -> None:
    a, b = memory_pair("server0", "server1", timeout_s=0.001)
    patient = asyncio.ensure_future(receive_control(b, "ready", SESSION, patient=True))
    with pytest.raises(ChannelTimeout):
        await receive_bytes(a)  # by now the time is up
    await asyncio.sleep(0)
    assert not patient.done()
    await send_control(a, SESSION, "ready")
    await patient
    patient = asyncio.ensure_future(receive_control(b, "ready", SESSION, patient=True))
    await a.close()
    with pytest.raises(ChannelClosed):  # it waits for the living only
        await patient


@pytest.mark.parametrize("who", ["us", "peer"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_gone_needs_no_receiver_and_says_why(who: str, how: str) -> None:
    a, b = memory_pair("server0", "server1")
    watching = [asyncio.ensure_future(b.gone()) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in watching)
    ends = {"us": b, "peer": a}
    await ends[who].close() if how == "close" else ends[who].abort("enough")
    words = {
        ("us", "close"): "channel to server0: closed here",
        ("us", "abort"): "channel to server0: aborted here: enough",
        ("peer", "close"): "server0 closed the channel",
        ("peer", "abort"): "server0 aborted: enough",
    }[who, how]
    assert [str(await task) for task in watching] == [words] * 2
    assert str(await b.gone()) == words  # also for who asks later
    with pytest.raises(MpcError, match=words):
        await receive_bytes(b)


async def test_gone_comes_after_the_frames_before_it() -> None:
    a, b = memory_pair("server0", "server1")
    await a.send(frame(1), memoryview(b"x"))
    a.abort("enough")
    watching = asyncio.ensure_future(b.gone())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not watching.done()
    assert (await receive_bytes(b))[1] == b"x"
    assert str(await watching) == "server0 aborted: enough"


async def test_gone_wakes_with_a_receiver_that_waits() -> None:
    a, b = memory_pair("server0", "server1")
    watching, waiting = asyncio.ensure_future(b.gone()), asyncio.ensure_future(receive_bytes(b))
    await asyncio.sleep(0)
    a.abort("enough")
    with pytest.raises(RemoteAbort, match="enough"):
        await waiting
    assert isinstance(await watching, RemoteAbort)


def test_signs_of_life_are_told_from_control_frames() -> None:
    assert is_ping(ping_header())
    assert not is_ping(Header(CONTROL, SESSION, label="ready"))
    assert not is_ping(Header("round", SESSION, label="ping"))
    assert not is_ping(Header(CONTROL, SESSION, label="ping", parts=(Part(8, (1,)),)))


async def test_expect_may_refuse() -> None:
    a, b = memory_pair("server0", "server1")
    await a.send(frame(1), memoryview(b"x"))

    def refuse(header: Header) -> memoryview:
        raise RemoteProtocolError("server0: not now")

    with pytest.raises(RemoteProtocolError, match="not now"):
        await b.receive(refuse)


async def test_control_frames() -> None:
    a, b = memory_pair("server0", "server1")
    await send_control(a, SESSION, "ready", batch=3, names=["x", None])
    got = await receive_control(b, "ready", SESSION)
    assert got.fields == {"batch": 3, "names": ["x", None]}
    for header, words in (
        (frame(0), "want control frame 'ready', got round frame 'test'"),
        (Header(CONTROL, SESSION, label="other"), "got control frame 'other'"),
        (Header(CONTROL, bytes(16), label="ready"), "another session"),
        (Header(CONTROL, SESSION, label="ready", parts=(Part(8, (0,)),)), "has a payload"),
        (Header(CONTROL, SESSION, stream=3, label="ready"), "belongs to no stream, got a place in one"),
        (Header(CONTROL, SESSION, sequence=3, label="ready"), "belongs to no stream, got a place in one"),
        (Header(CONTROL, SESSION, label="ready", fields={"id": 1, "more": 2}), r"want fields \['id'\], got others"),
        (Header(CONTROL, SESSION, label="ready"), r"want fields \['id'\], got others"),
    ):
        a, b = memory_pair("server0", "server1")
        await a.send(header)
        with pytest.raises(RemoteProtocolError, match=words):
            await receive_control(b, "ready", SESSION, fields=("id",))


def test_errors_are_one_line_and_have_exit_codes() -> None:
    error = MpcError("a\nb\x00c" + "x" * 5000)
    assert "\n" not in str(error) and "\x00" not in str(error) and len(str(error)) == 1000
    assert all(64 <= kind.exit_code <= 78 for kind in (MpcError, RemoteAbort, ChannelClosed, LocalInputError))
