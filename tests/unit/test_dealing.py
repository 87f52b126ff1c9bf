"""How far the dealer's thread runs ahead of what is sent. What it sends is in tests/unit/test_session.py."""

import asyncio
from collections.abc import Generator

import pytest
from bundles import GUARD_S, HEAVY, Bundle, Shape, Trio
from torch import Tensor

from mpcnet import dealing
from mpcnet.dealer import Corrections
from mpcnet.dealing import _Room, run_dealer
from mpcnet.threads import in_thread


@pytest.mark.parametrize("frames", [0, 1, 3])
async def test_segments_are_made_as_long_as_there_is_room(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads, so nothing leaves: frames that fit, one at least, and one that waits for room; then an end."""
    monkeypatch.setattr(dealing, "AHEAD_BYTES", frames * 8 * HEAVY)
    trio, bundle, made = Trio(), Bundle(Shape(20, HEAVY)), []

    def counted() -> Generator[Corrections, None, Tensor]:
        for corrections in bundle.dealings()[0]:
            made.append(corrections)
            yield corrections

    running = asyncio.ensure_future(run_dealer([counted()], bundle.streams, trio.dealer, dict))
    async with asyncio.timeout(GUARD_S):
        while len(made) < max(frames, 1) + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])
    assert len(made) == max(frames, 1) + 1


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
