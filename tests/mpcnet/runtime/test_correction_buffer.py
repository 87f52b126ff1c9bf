"""Corrections ahead of their use: one reader, bounded memory, tapes on disk, and what happens when somebody fails."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bundles import (
    HEAVY,
    Bundle,
    Shape,
    wire,
)
from checks import few
from dealing import FRAME, PARTY, WHOLE, Deal, bundle_bytes, first_frame, quiet, same, use
from hypothesis import given
from hypothesis import strategies as st
from limits import LIMIT_S

from mpcnet.errors import (
    ChannelClosed,
    LocalStateError,
    RemoteProtocolError,
)
from mpcnet.runtime.sealed_tape import SealedTapes
from mpcnet.runtime.stream import turns
from mpcnet.transport.wire import Header

# --- order, facts, the end of a bundle ------------------------------------------------------------------------


async def test_what_was_dealt_comes_out_in_order() -> None:
    first, second = Bundle(Shape(4), Shape(1, HEAVY), Shape(2, dealt=3)), Bundle(Shape(3), first=4)
    deal = Deal()
    buffers = [deal.receiver.expect(bundle.streams) for bundle in (first, second)]
    assert buffers[0].facts == {} and not buffers[0].complete
    sending = deal.sending(first, second)
    async with asyncio.timeout(LIMIT_S):
        for buffer in buffers:
            await buffer.ready(WHOLE)
        await sending
    assert all(buffer.complete and buffer.facts == {"seconds": 1.5} and buffer.failed is None for buffer in buffers)
    held = [sum(bundle_bytes(bundle)) for bundle in (first, second)]
    assert [buffer.nbytes for buffer in buffers] == held and deal.receiver.nbytes == sum(held)
    await use(buffers[0], first)
    await use(buffers[1], second)
    assert deal.receiver.nbytes == 0
    await deal.close()


async def test_a_stream_may_be_far_ahead_of_another() -> None:
    """What lies before its corrections is put aside, counted, and given to its owner later."""
    bundle, deal = Bundle(Shape(3), Shape(3)), Deal()
    sending = deal.sending(bundle)
    buffer = deal.receiver.expect(bundle.streams)
    await buffer.ready(WHOLE)
    await sending
    held = deal.receiver.nbytes
    second = [await buffer.next(1) for _ in range(4)]
    taken = sum(part.nbytes for tape in second for part in tape.parts)
    assert 0 < taken == held - deal.receiver.nbytes
    first = [await buffer.next(0) for _ in range(4)]
    assert deal.receiver.nbytes == 0
    for index, tapes in enumerate((first, second)):
        segments = bundle.streams[index].plan.segments
        assert [tape.parts for tape in tapes] == [segment.dealt[deal.receiver.party] for segment in segments]
    await deal.close()


async def test_calls_behind_the_end() -> None:
    bundle, deal = Bundle(Shape(1, dealt=0), Shape(0, dealt=0)), Deal()
    buffer = deal.receiver.expect(bundle.streams)
    await use(buffer, bundle)
    with pytest.raises(LocalStateError, match="streams 1, 2: more is wanted than was dealt"):
        await buffer.next(0)
    await deal.close()


async def test_nothing_is_received_that_is_not_expected() -> None:
    """Else a frame that somebody else has to read would be taken, or a deadline would run."""
    deal, bundle = Deal(), Bundle(Shape(3))
    sending = deal.sending(bundle)
    await quiet()
    assert deal.end.channel.received_bytes == 0 and not wire(deal.end).inner._receiving
    buffer = deal.receiver.expect(bundle.streams)
    await use(buffer, bundle)
    await sending
    await quiet()
    assert buffer.complete and not wire(deal.end).inner._receiving
    await deal.close()


# --- the limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit_bytes", "held"), [(0, 1), (1, 1), (2 * FRAME, 2), (3 * FRAME - 1, 2), (6 * FRAME, 6)])
async def test_at_the_limit_the_dealer_is_kept_waiting(limit_bytes: int, held: int) -> None:
    bundle, deal = Bundle(*[Shape(7)] * 3), Deal(limit_bytes)
    buffer = deal.receiver.expect(bundle.streams)
    sending = deal.sending(bundle)
    async with asyncio.timeout(LIMIT_S):
        for position, (index, _) in enumerate(turns(bundle.streams)):
            await quiet()
            left = bundle_bytes(bundle)[sum(1 for c in bundle.corrections()[:position] if c[2][PARTY]) :]
            assert deal.receiver.nbytes == sum(left[:held])
            same(await buffer.next(index), bundle, position)
        await sending
        await buffer.settled()
    await deal.close()


@pytest.mark.parametrize("segments", range(11))
@pytest.mark.parametrize("limit_bytes", [0, 2 * FRAME, 1 << 30])
async def test_so_many_segments_are_received_whatever_the_limit_is(limit_bytes: int, segments: int) -> None:
    """For whoever waits for them; all of them means the facts as well."""
    bundle, deal = Bundle(Shape(9)), Deal(limit_bytes)
    buffer = deal.receiver.expect(bundle.streams)
    sending = deal.sending(bundle)
    async with asyncio.timeout(LIMIT_S):
        await buffer.ready(segments)
        first = sum(correction.part.nbytes for _, _, c in bundle.corrections()[:segments] for correction in c[PARTY])
        await quiet()
        assert buffer.nbytes == max(first, min(max(FRAME, limit_bytes), sum(bundle_bytes(bundle))))
        assert buffer.complete == (segments == 10 or limit_bytes > 10 * FRAME)
        await use(buffer, bundle)
        await sending
    await deal.close()


async def test_what_was_dealt_before_is_received_too() -> None:
    """Even if nothing of a bundle itself is asked for: the dealer must not be kept waiting by what lies before it."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(2 * FRAME)
    older, buffer = [deal.receiver.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(LIMIT_S):
        await quiet()
        assert not older.complete and deal.receiver.nbytes == 2 * FRAME
        await buffer.ready(0)
        assert older.complete and not buffer.complete
        await use(buffer, second)
        await use(older, first)
        await sending
    await deal.close()


async def test_room_is_what_other_bundles_leave(tapes: SealedTapes) -> None:
    """Whole bundles count, however much of them is here; not those that are used up, thrown away or on tapes."""
    bundles = [Bundle(Shape(9), first=first) for first in (1, 2, 3)]
    deal, size = Deal(10 * sum(bundle_bytes(bundles[0])), tapes=tapes), sum(bundle_bytes(bundles[0]))
    assert deal.receiver.room(None) == 10 * size
    buffers = [deal.receiver.expect(bundle.streams) for bundle in bundles]
    tape = deal.receiver.expect(Bundle(Shape(9), first=4).streams, to_disk=True)
    assert [deal.receiver.room(buffer) for buffer in (None, *buffers, tape)] == [7 * size, *[8 * size] * 3, 7 * size]
    await deal.send(bundles[0])
    await use(buffers[0], bundles[0])
    buffers[1].discard()
    assert [deal.receiver.room(buffer) for buffer in (None, buffers[2])] == [9 * size, 10 * size]
    await deal.close()


async def test_there_is_never_less_than_no_room() -> None:
    deal = Deal(FRAME)
    deal.receiver.expect(Bundle(Shape(9)).streams)
    assert deal.receiver.room(None) == 0
    await deal.close()


@pytest.mark.parametrize("limit_bytes", [0, FRAME, 5 * FRAME])
async def test_a_bundle_that_is_used_before_an_older_one(limit_bytes: int) -> None:
    """The older one is received all the same, over the limit: nobody waits for ever."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(limit_bytes)
    buffers = [deal.receiver.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(LIMIT_S):
        await use(buffers[1], second)
        assert buffers[0].complete and deal.receiver.nbytes == sum(bundle_bytes(first))
        await use(buffers[0], first)
        await sending
    await deal.close()


@few
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 200), st.integers(0, 3))
def test_memory_is_bounded_whatever_is_dealt(rounds: list[int], limit_bytes: int, dealt: int) -> None:
    async def main() -> None:
        bundles = [Bundle(Shape(rounds[0], dealt=2)), Bundle(*[Shape(n, dealt=dealt) for n in rounds], first=2)]
        deal = Deal(limit_bytes)
        buffers = [deal.receiver.expect(bundle.streams) for bundle in bundles]
        sending = deal.sending(*bundles)
        bound = max(limit_bytes, *(size for bundle in bundles for size in [0, *bundle_bytes(bundle)]))
        for buffer, bundle in zip(buffers, bundles, strict=True):
            for position, (index, _) in enumerate(turns(bundle.streams)):
                await quiet()
                assert deal.receiver.nbytes <= bound
                same(await buffer.next(index), bundle, position)
        await sending
        await buffers[-1].settled()
        await deal.close()

    asyncio.run(main())


# --- not wanted any more --------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 1, 5])
@pytest.mark.parametrize("limit_bytes", [0, 3 * FRAME, 1 << 30])
async def test_discarded_in_the_midst(limit_bytes: int, used: int) -> None:
    """Its memory is free, the rest of it is dropped, and the next bundle is whole."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(limit_bytes)
    buffers = [deal.receiver.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(LIMIT_S):
        for position in range(used):
            same(await buffers[0].next(0), first, position)
        buffers[0].discard()
        assert buffers[0].nbytes == 0
        for call in (lambda: buffers[0].ready(0), lambda: buffers[0].next(0)):
            with pytest.raises(LocalStateError, match="streams 1: it was discarded"):
                await call()
        await buffers[0].settled()
        await use(buffers[1], second)
        await sending
    assert not buffers[0].complete
    await deal.close()


async def test_discarded_while_somebody_waits_for_it() -> None:
    deal = Deal()
    buffer = deal.receiver.expect(Bundle(Shape(3)).streams)
    waiting = [asyncio.ensure_future(buffer.ready(WHOLE)), asyncio.ensure_future(first_frame(buffer))]
    await quiet()
    buffer.discard()
    for task in waiting:
        with pytest.raises(LocalStateError, match="discarded"):
            await task
    await deal.close()


# --- the dealer fails -----------------------------------------------------------------------------------------


async def test_a_dealer_that_dies_in_mid_bundle() -> None:
    """Whoever waits is told where, and whoever asks later."""
    bundle, deal = Bundle(Shape(9), Shape(9)), Deal()
    buffer, later = deal.receiver.expect(bundle.streams), deal.receiver.expect(Bundle(Shape(1), first=3).streams)
    for header, payload in deal.frames(bundle)[:4]:
        await deal.dealer.channel.send(header, *payload)
    waiting = [asyncio.ensure_future(s.ready(WHOLE)) for s in (buffer, later)]
    await quiet()
    await deal.dealer.channel.close()
    words = r"stream \d, segment \d \(op\d\): dealer closed the channel"
    for task in (*waiting, deal.receiving):
        with pytest.raises(ChannelClosed, match=words):
            await task
    for call in (lambda: buffer.ready(0), buffer.settled, lambda: first_frame(buffer), lambda: later.ready(0)):
        with pytest.raises(ChannelClosed, match=words):
            await call()
    with pytest.raises(ChannelClosed, match=words):
        await deal.receiver.expect(Bundle(Shape(1), first=4).streams).ready(WHOLE)
    assert deal.receiver.nbytes == 0
    await deal.close()


async def test_when_the_session_ends_buffers_are_released() -> None:
    bundle, deal = Bundle(Shape(5)), Deal()
    buffer = deal.receiver.expect(bundle.streams)
    await deal.send(bundle)
    await buffer.ready(WHOLE)
    assert buffer.nbytes > 0
    waiting = asyncio.ensure_future(deal.receiver.expect(Bundle(Shape(2), first=2).streams).ready(WHOLE))
    await quiet()
    deal.receiving.cancel()
    with pytest.raises(LocalStateError, match="not read any more"):
        await waiting
    with pytest.raises(LocalStateError, match="not read any more"):
        await buffer.next(0)
    assert buffer.nbytes == deal.receiver.nbytes == 0
    await deal.close()


FORGED: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "repeated": (lambda f: [*f[:2], f[1]], "want stream 1, got 2"),
    "lost": (lambda f: [f[0], f[2]], "want stream 2, got 1"),
    "of another program": (lambda f: [changed(f[0], chain=bytes(8))], "want transcript [0-9a-f]{16}, got 0{16}"),
    "of another session": (lambda f: [changed(f[0], session=bytes(16))], "want session ours, got another"),
    "a round": (lambda f: [changed(f[0], kind="round")], "want kind deal, got round"),
    "too soon at the end": (lambda f: [f[0], f[-1]], "want kind deal, got control"),
    "more at the end": (lambda f: [*f[:-1], f[-2]], "next frame: want control frame 'dealt', got deal frame 'result'"),
    "facts that JSON has not": (
        lambda f: [*f[:-1], (replace(f[-1][0], fields={"seconds": b"x"}), [])],
        "want facts that are numbers and texts",
    ),
    "with a payload": (lambda f: [*f[:-1], (replace(f[-1][0], parts=f[0][0].parts), f[0][1])], "has a payload"),
}


def changed(frame: tuple[Header, list[memoryview]], **fields: object) -> tuple[Header, list[memoryview]]:
    return replace(frame[0], **fields), frame[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("what", FORGED)
async def test_a_frame_that_is_not_planned_is_refused_with_its_place(what: str) -> None:
    forge, words = FORGED[what]
    bundle, deal = Bundle(Shape(3), Shape(2)), Deal()
    buffer = deal.receiver.expect(bundle.streams)
    ready = asyncio.ensure_future(buffer.ready(WHOLE))
    for header, payload in forge(deal.frames(bundle)):
        sending = asyncio.ensure_future(deal.dealer.channel.send(header, *payload))
        await quiet()
    for task in (deal.receiving, ready):
        with pytest.raises(RemoteProtocolError, match=rf"^stream [12], segment \d \(\w+\): dealer[:,].*{words}"):
            await task
    sending.cancel()
    await asyncio.wait([sending])
    await deal.close()
