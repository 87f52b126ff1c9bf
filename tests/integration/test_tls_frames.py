"""Frames over real sockets: sizes, order, bounds, and an end that loses nothing."""

import asyncio
import os
from pathlib import Path

import pytest
from limits import PATIENT_S
from patience import a_long_time, passes, too_long
from sockets import SESSION, Place, both_loops, close, frame, receive_bytes, until

import mpcnet.transport.tls_channel
from mpcnet.errors import (
    ChannelClosed,
    ChannelTimeout,
    LocalInputError,
    RemoteAbort,
    RemoteProtocolError,
)
from mpcnet.transport.channel import receive_control, send_control
from mpcnet.transport.tls_channel import TlsChannel
from mpcnet.transport.wire import Header, Stage, encode

pytestmark = both_loops


async def test_both_loops_are_run(request: pytest.FixtureRequest) -> None:
    loop = type(asyncio.get_running_loop()).__module__
    assert loop.startswith("uvloop") == ("uvloop" in request.node.name)


async def test_ten_megabytes_both_ways_at_once(place: Place) -> None:
    a, b = await place.pair()
    assert (a.peer, b.peer) == ("server0", "server1")
    before = a.sent_bytes, b.sent_bytes
    data = [os.urandom(10_000_000) for _ in range(2)]
    split = memoryview(data[0])[:3], memoryview(data[0])[3:3], memoryview(data[0])[3:]
    _, _, got_a, got_b = await asyncio.gather(
        a.send(frame(10_000_000), *split),
        b.send(frame(10_000_000), memoryview(data[1])),
        receive_bytes(a),
        receive_bytes(b),
    )
    assert got_a[1] == data[1] and got_b[1] == data[0]
    size = len(encode(frame(10_000_000))) + 10_000_000
    assert a.sent_bytes - before[0] == b.sent_bytes - before[1] == size
    assert a.sent_bytes == b.received_bytes and b.sent_bytes == a.received_bytes
    await close(a, b)


async def test_frames_of_all_sizes_in_order_and_concurrent_senders_do_not_mix(place: Place) -> None:
    a, b = await place.pair()
    sizes = [0, 1, 7, 4096, 65_536, 70_000, 300_000, 0, 2_500_000]
    data = [bytes([index]) * size for index, size in enumerate(sizes)]
    sending = asyncio.gather(*(a.send(frame(len(d), i), memoryview(d)) for i, d in enumerate(data)))
    for index, expected in enumerate(data):
        assert await receive_bytes(b) == (frame(len(expected), index), expected)
    await sending
    await close(a, b)


async def test_a_repeated_frame_is_visible_by_its_sequence(place: Place) -> None:
    a, b = await place.pair()
    for _ in range(2):
        await a.send(frame(4, 7), memoryview(b"once"))
    assert [(await receive_bytes(b))[0].sequence for _ in range(2)] == [7, 7]
    await close(a, b)


async def test_a_frame_that_comes_while_its_receiver_is_being_cancelled_is_the_next_ones(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cancelled, and has not run since: as on a busy machine."""
    a, b = await place.pair()
    held: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(a._tcp, "write", held.append)
        await a.send(frame(4), memoryview(b"late"))
    receiver = asyncio.ensure_future(receive_bytes(b))
    await asyncio.sleep(0)
    receiver.cancel()
    late = b"".join(held)
    b.get_buffer(len(late))[: len(late)] = late
    b.buffer_updated(len(late))
    await asyncio.wait([receiver])
    assert receiver.cancelled() and (await receive_bytes(b))[1] == b"late"
    await close(a, b)


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_close_never_loses_the_last_frame(place: Place, size: int) -> None:
    """Nor if the closing side leaves frames of its peer unread, which resets a naive socket."""
    a, b = await place.pair()
    await b.send(frame(1000), memoryview(bytes(1000)))

    async def last() -> None:
        await a.send(frame(size, 9), memoryview(b"z" * size))
        await a.close()

    _, got = await asyncio.gather(last(), receive_bytes(b))
    assert got == (frame(size, 9), b"z" * size)
    with pytest.raises(ChannelClosed):
        await receive_bytes(b)
    await b.close()


async def test_unread_peer_is_bounded_and_the_sender_waits(place: Place) -> None:
    a, b = await place.pair(channel_timeout_s=0.3)
    size = 30_000_000  # over what the kernel's two socket buffers hold
    with pytest.raises(ChannelTimeout, match=r"server0 to take our frames"):
        await a.send(frame(size), memoryview(bytes(size)))
    assert b._tls._incoming.pending <= 256 * 1024
    b.abort("test is over")


async def test_abort_reason_arrives_even_if_nobody_waits(place: Place) -> None:
    a, b = await place.pair()
    a.abort("round 7: want 3 parts, got 2")
    with pytest.raises(RemoteAbort, match="server1 aborted: round 7: want 3 parts, got 2"):
        await receive_bytes(b)
    with pytest.raises(RemoteAbort):
        await b.send(frame(1), memoryview(b"x"))
    await close(a, b)


async def test_abort_overtakes_no_frame(place: Place) -> None:
    a, b = await place.pair()
    await a.send(frame(3), memoryview(b"abc"))
    a.abort("enough")
    assert (await receive_bytes(b))[1] == b"abc"
    with pytest.raises(RemoteAbort, match="enough"):
        await receive_bytes(b)
    await close(a, b)


async def test_expect_may_refuse_and_the_peer_is_told(place: Place) -> None:
    a, b = await place.pair()

    def refuse(header: Header) -> memoryview:
        raise RemoteProtocolError("server1, round 3: want 8 bytes, got 4")

    await a.send(frame(4), memoryview(b"abcd"))
    with pytest.raises(RemoteProtocolError) as caught:
        await b.receive(refuse)
    b.abort(str(caught.value))
    with pytest.raises(RemoteAbort, match="want 8 bytes, got 4"):
        await receive_bytes(a)
    await close(a, b)


async def test_wrong_memory_is_our_fault(place: Place) -> None:
    a, b = await place.pair()
    await a.send(frame(4), memoryview(b"abcd"))
    with pytest.raises(LocalInputError, match="want 4 writable bytes, got 3"):
        await b.receive(lambda header: memoryview(bytearray(3)))
    a.abort("over")
    await close(a, b)


async def test_timeout_of_receive_says_who_and_how_long_and_tells_the_peer(place: Place) -> None:
    a, b = await place.pair(channel_timeout_s=0.05)
    with pytest.raises(ChannelTimeout, match=r"waited 0.05 s for server0 to send a frame"):
        await receive_bytes(a)
    with pytest.raises(RemoteAbort, match=r"waited 0\.05 s"):
        await receive_bytes(b)
    await close(a, b)


async def test_cancelled_receive_leaves_the_callers_memory_alone(place: Place) -> None:
    _, writer = await place.raw()
    b = await place.channels.get()
    writer.write(encode(frame(1000)) + bytes(10))
    receiving = asyncio.ensure_future(receive_bytes(b))
    await until(lambda: b._decoder.stage is Stage.PAYLOAD)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    with pytest.raises(ChannelClosed, match="cut off"):
        await receive_bytes(b)
    writer.transport.abort()


async def test_control_frames_travel(place: Place) -> None:
    a, b = await place.pair()
    _, got = await asyncio.gather(send_control(a, SESSION, "ready", batch=3), receive_control(b, "ready", SESSION))
    assert got.fields == {"batch": 3}
    await close(a, b)


# --- signs of life, and the end of a channel ------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcnet.transport.tls_channel, "PING_S", 0.01)


async def beats(channel: TlsChannel, count: int) -> None:
    """Wait until `channel` has looked so often for signs of life."""
    for _ in range(count):
        now = channel._beat
        await until(lambda: channel._beat is not now)  # noqa: B023


async def test_a_patient_receiver_outlasts_the_timeout_of_a_peer_that_lives(place: Place, quick: None) -> None:
    a, b = await place.pair(channel_timeout_s=PATIENT_S)
    patient = asyncio.ensure_future(receive_control(a, "ready", SESSION, patient=True))
    counted = a.sent_bytes, a.received_bytes, b.sent_bytes, b.received_bytes
    await a_long_time([a], PATIENT_S)
    assert not patient.done()
    assert counted == (a.sent_bytes, a.received_bytes, b.sent_bytes, b.received_bytes)  # signs of life do not count
    await send_control(b, SESSION, "ready")
    await patient
    impatient = asyncio.ensure_future(receive_control(a, "ready", SESSION))
    await too_long(a)
    with pytest.raises(ChannelTimeout, match=r"waited 60 s for server0 to send a frame"):
        await impatient  # signs of life are no frames
    await close(a, b)


async def test_a_patient_sender_outlasts_the_timeout_of_a_peer_that_lives(place: Place, quick: None) -> None:
    """And that reads nothing yet, as a server whose buffer is full."""
    a, b = await place.pair(channel_timeout_s=PATIENT_S)
    sent = bytes(30_000_000)  # over what the kernel's two socket buffers hold
    sending = asyncio.ensure_future(a.send(frame(len(sent)), memoryview(sent), patient=True))
    await a_long_time([a], PATIENT_S)
    assert not sending.done()
    assert (await receive_bytes(b))[1] == sent
    await sending
    await close(a, b)


async def test_a_patient_sender_hears_that_the_peer_is_gone(deployment: Path, quick: None) -> None:
    place = Place(deployment)
    await place.start(channel_timeout_s=0.05)
    _, writer = await place.raw()  # reads nothing and gives no sign of life
    b = await place.channels.get()
    with pytest.raises(ChannelTimeout, match=r"server1 gave no sign of life for 0\."):
        await b.send(frame(30_000_000), memoryview(bytes(30_000_000)), patient=True)
    writer.close()
    await place.server.close()


@pytest.mark.parametrize("receiver", ["none", "patient"])
async def test_a_peer_without_a_sign_of_life_is_gone(deployment: Path, quick: None, receiver: str) -> None:
    place = Place(deployment)
    await place.start(channel_timeout_s=0.05)
    reader, writer = await place.raw()
    b = await place.channels.get()
    waiting = b.gone() if receiver == "none" else receive_control(b, "ready", SESSION, patient=True)
    (found,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(found, ChannelTimeout)
    assert str(found).startswith("server1 gave no sign of life for 0.")
    assert b"ping" in await reader.read()  # we gave ours
    writer.close()
    await place.server.close()


async def test_who_does_not_read_does_not_judge(deployment: Path, quick: None) -> None:
    """While a frame waits for its receiver, signs of life wait behind it in the kernel."""
    place = Place(deployment)
    await place.start(channel_timeout_s=PATIENT_S)
    _, writer = await place.raw()
    b = await place.channels.get()
    writer.write(encode(frame(3)) + b"abc")
    await until(lambda: b._decoder.stage is Stage.OFFERED)
    passes(b, 2 * PATIENT_S)
    await beats(b, 2)
    assert (await receive_bytes(b))[1] == b"abc"
    passes(b, 2 * PATIENT_S)
    assert isinstance(await b.gone(), ChannelTimeout)  # now it reads, and hears nothing
    writer.close()
    await place.server.close()


@pytest.mark.parametrize("who", ["us", "peer"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_gone_needs_no_receiver_and_says_why(place: Place, who: str, how: str) -> None:
    a, b = await place.pair()
    watching = [asyncio.ensure_future(b.gone()) for _ in range(2)]
    await send_control(b, SESSION, "ready")
    await receive_control(a, "ready", SESSION)
    assert not any(task.done() for task in watching)
    end = b if who == "us" else a
    if how == "abort":
        end.abort("enough")
    closing = asyncio.gather(a.close(), b.close() if who == "us" else b.gone())
    words = {
        ("us", "close"): "channel to server1: closed here",
        ("us", "abort"): "channel to server1: aborted here: enough",
        ("peer", "close"): "server1 closed the channel",
        ("peer", "abort"): "server1 aborted: enough",
    }[who, how]
    assert [str(await task) for task in watching] == [words] * 2
    await closing
    assert str(await b.gone()) == words
    await b.close()


async def test_gone_tells_of_a_death_without_goodbye(place: Place) -> None:
    _, writer = await place.raw()
    b = await place.channels.get()
    writer.transport.abort()
    assert isinstance(await b.gone(), ChannelClosed)
    await b.close()


async def test_gone_comes_after_the_frames_before_it(place: Place) -> None:
    a, b = await place.pair()
    await a.send(frame(3), memoryview(b"abc"))
    a.abort("enough")
    await until(lambda: b._decoder.stage is Stage.OFFERED)
    watching = asyncio.ensure_future(b.gone())
    await asyncio.sleep(0)
    assert not watching.done()
    assert (await receive_bytes(b))[1] == b"abc"
    assert isinstance(await watching, RemoteAbort)
    await close(a, b)
