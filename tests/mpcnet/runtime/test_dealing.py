"""How far the dealer's thread runs ahead of what is sent. What is sent is tested in tests/mpcnet/runtime/test_session.py."""

import asyncio
from collections.abc import Generator

import pytest
from bundles import HEAVY, Bundle, Shape, Trio
from limits import LIMIT_S
from torch import Tensor

from mpcnet.aio.tasks import end_tasks
from mpcnet.aio.threads import in_thread
from mpcnet.randomness.dealer import Corrections
from mpcnet.runtime import dealing
from mpcnet.runtime.dealing import _Room, run_dealer


@pytest.mark.parametrize("frames", [0, 1, 3])
async def test_segments_are_made_as_long_as_there_is_room(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads, so nothing leaves: each server's frames that fit, one at least, and one that waits; then an end."""
    monkeypatch.setattr(dealing, "AHEAD_BYTES", frames * 8 * HEAVY)
    trio, bundle, made = Trio(), Bundle(Shape(20, HEAVY)), []

    def counted() -> Generator[Corrections, None, Tensor]:
        for corrections in bundle.dealings()[0]:
            made.append(corrections)
            yield corrections

    running = asyncio.ensure_future(run_dealer([counted()], bundle.streams, trio.dealer, dict))
    async with asyncio.timeout(LIMIT_S):
        while len(made) < 2 * max(frames, 1) + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])
    assert len(made) == 2 * max(frames, 1) + 1


async def test_a_server_that_reads_nothing_does_not_keep_the_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server 1 may be full, and begin only when server 0 has as much as it may hold."""
    monkeypatch.setattr(dealing, "AHEAD_BYTES", 0)
    trio, bundle = Trio(), Bundle(Shape(3, HEAVY))
    assert [[len(parts) for parts in s.dealt] for s in bundle.streams[0].plan.segments[:2]] == [[0, 1], [1, 0]]
    running = asyncio.ensure_future(run_dealer(bundle.dealings(), bundle.streams, trio.dealer, dict))
    buffer = trio.receivers[0].expect(bundle.streams)
    receiving = asyncio.ensure_future(trio.receivers[0].run())
    async with asyncio.timeout(LIMIT_S):
        assert not (await buffer.next(0)).parts
        assert (await buffer.next(0)).parts
    await end_tasks(running, receiving)


async def test_each_server_gets_the_end_of_a_bundle_by_itself() -> None:
    """Server 0 reads nothing yet, and what is left for it fits in what is made ahead."""
    trio, bundle = Trio(), Bundle(Shape(5))
    running = asyncio.ensure_future(trio.deal(bundle))
    buffer = trio.receivers[1].expect(bundle.streams)
    receiving = asyncio.ensure_future(trio.receivers[1].run())
    async with asyncio.timeout(LIMIT_S):
        await buffer.settled()
    assert buffer.complete and buffer.facts == {"seconds": 1.5} and not running.done()
    await end_tasks(running, receiving)


async def test_what_has_left_makes_room() -> None:
    room = _Room(100)
    assert room.take(80)
    waiting = asyncio.ensure_future(in_thread(room.take, 30))
    room.give(40)
    assert await waiting
    assert room.take(30)


async def test_who_waits_for_room_goes_when_nobody_wants_more() -> None:
    room = _Room(10)
    assert room.take(500)  # more than there is room for, alone
    waiting = asyncio.ensure_future(in_thread(room.take, 10))
    room.close()
    assert not await waiting
    assert not room.take(1)
