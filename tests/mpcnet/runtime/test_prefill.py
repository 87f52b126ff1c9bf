"""No run hangs, whatever its plan and the two servers' limits: how much is received before it begins."""

import asyncio
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from bundles import Bundle, Trio, check
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.randomness.meter import MeterSource, measure
from mpcnet.randomness.source import Source
from mpcnet.rounds import Exchange, Part
from mpcnet.runtime import dealing
from mpcnet.runtime.prefill import prefill
from mpcnet.runtime.stream import Stream, turns

many = settings(max_examples=40, derandomize=True, deadline=None)
WORD = 8  # bytes
Dealt = tuple[tuple[int, ...], ...]  # words of each correction, by segment


@dataclass(frozen=True)
class Uneven:
    """A program that opens one word in each round, behind corrections of any sizes."""

    dealt: Dealt

    @property
    def rounds(self) -> int:
        return len(self.dealt) - 1

    async def program(self, source: Source) -> Tensor:
        total = ring.zeros((1,), 64)
        for sequence, sizes in enumerate(self.dealt):
            share = source.mask((1,), 64).share
            for words in sizes:
                mask = source.mask((words,), 64)
                share = share + source.deal(lambda r: r * 3, [mask], (words,), 64, "op").share[:1]
            if sequence < self.rounds:
                (opened,) = await Exchange((Part(64, (1,), "op"),), (share,))
                total = opened if opened.device.type == "meta" else total + opened
        return total

    def stream(self, number: int) -> Stream:
        source = MeterSource()
        return Stream(number, measure(self.program(source), source))


def bundle(*dealt: Dealt, first: int = 1) -> Bundle:
    return Bundle(*map(Uneven, dealt), first=first)


def sizes(made: Bundle) -> list[list[int]]:
    """Bytes for server0 and server1 in each segment, in dealing order."""
    plans = [stream.plan.segments for stream in made.streams]
    rows = [plans[index][sequence].dealt for index, sequence in turns(made.streams)]
    return [[sum(part.nbytes for part in parts) for parts in row] for row in rows]


def run(trio: Trio, *bundles: Bundle) -> None:
    """Both servers open the same, and nobody waits for ever."""

    async def main() -> None:
        check(await trio.run(*bundles), *bundles)

    asyncio.run(main())


# A server that begins where it is full itself waits for ever: in the first under 376 to 431 bytes of 440, in the second
# under 104 to 199 of 208, in the third under 56 to 87 of 184.
PLANS: dict[str, list[Dealt]] = {
    "both in most segments": [
        ((3, 1), (9,), (3, 2), (2, 9), (9,), (2,), (1,), (2, 9, 9), (2,), (), (), (3,), (1, 2, 3), (9,), (9,), (3, 9))
    ],
    "a large one late": [((1, 1),) * 6 + ((), (1,), (20,), (), (1, 2), (3,))],
    "three streams": [((1, 2), (9,), (), (1, 1), (4,)), ((7,), (1,)), ((), (2, 2), (3,), (1,), (1,), (6, 1))],
    "nothing for long": [((),) * 4 + ((3, 1, 2), (), (), (1, 1)) + ((),) * 3],
}


@pytest.mark.parametrize("plan", PLANS)
def test_every_limit(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one byte to more than everything, the same at both servers. Frames are of whole words, so limits are too."""
    monkeypatch.setattr(dealing, "AHEAD_BYTES", 2 * WORD)
    most = max(map(sum, zip(*sizes(bundle(*PLANS[plan])), strict=True)))
    for limit_bytes in [1, *range(WORD, most + 2 * WORD, WORD)]:
        run(Trio(limit_bytes), bundle(*PLANS[plan]))


programs = st.lists(st.lists(st.sampled_from([1, 1, 2, 3, 9]), max_size=3).map(tuple), min_size=1, max_size=16)
streams = st.lists(programs.map(tuple), min_size=1, max_size=3)


@many
@given(
    st.lists(streams, min_size=1, max_size=3), st.integers(0, 500), st.integers(0, 500), st.sampled_from([0, 24, 200])
)
@example([PLANS["a large one late"]], 200, 104, 0)
@example([PLANS["three streams"], PLANS["a large one late"]], 72, 300, 24)
def test_any_bundles_under_any_two_limits(drawn: list[list[Dealt]], first: int, second: int, ahead_bytes: int) -> None:
    """A server with more room than the other has begins where the other is full; bundles dealt ahead take room too."""
    made = [bundle(*dealt, first=1 + 10 * index) for index, dealt in enumerate(drawn)]
    with patch.object(dealing, "AHEAD_BYTES", ahead_bytes):
        run(Trio(first, second), *made)


# --- where the buffer ends -----------------------------------------------------------------------------------------


@given(streams, st.integers(0, 300), st.integers(0, 300))
def test_the_first_segments_that_both_can_hold(dealt: list[Dealt], first: int, second: int) -> None:
    made, rooms = bundle(*dealt), (first, second)
    rows, count = sizes(made), prefill(bundle(*dealt).streams, rooms)
    held = [[sum(row[party] for row in rows[:end]) for party in (0, 1)] for end in range(len(rows) + 1)]
    fit = [all(size <= room for size, room in zip(pair, rooms, strict=True)) for pair in held]
    assert fit == [True] * (count + 1) + [False] * (len(rows) - count)


def test_without_room_a_run_begins_at_once() -> None:
    made = bundle(((), (1,), (1,), (2,)))
    assert sizes(made)[0] == [0, 0]
    assert [prefill(made.streams, rooms) for rooms in ((0, 0), (0, 99), (99, 0), (99, 99))] == [1, 2, 1, 4]
