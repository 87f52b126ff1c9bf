"""Exact softmax under an audit: whatever the scores, a row is right, or its sentence is flagged."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks import Input, few, watched, watched_oracle
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import cells, division
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.exponential import BUCKET_BITS, ENTRY_BITS, LARGEST
from mpcnet.protocols.party import Party
from mpcnet.protocols.rowmax import SLACK, window_limit
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import WeighBits, Window, exponentials, weigh

FRAC, ERROR = 12, 5e-5
KEYS = 6
KEEP = torch.ones(KEYS, dtype=torch.int64)
LEAST = 0.95 * math.exp(-SLACK)


def window(bits: int, clamped: bool, centres: tuple[float, ...], most: float, first: int = 0) -> Window:
    """Of heads whose scores never leave [-most, most], in the least period that serves them.

    No difference of a score and a maximum, aliased or not, comes out between 0 and the least that is taken.
    """
    limit, taken = window_limit(bits), 2.0 ** (bits if clamped else BUCKET_BITS + ENTRY_BITS)
    wanted = max(max(most - c + limit + taken, most + c + limit + 2) for c in centres) + 2**BUCKET_BITS
    heads = tuple(range(first, first + len(centres)))
    return Window(bits, max(ring.ceil_log2(wanted), bits), clamped, heads, centres)


def numerators(windows: list[Window], keep: Tensor) -> Callable[..., Any]:
    async def build(p: Party, scores: Shared) -> Shared:
        return await exponentials(p, scores, keep, 16, windows)

    return build


def rows(sentences: int, windows: list[Window], most: float, seed: int, keys: int = KEYS) -> Tensor:
    """[sentence, head, 1, key]: wide and narrow rows anywhere, in and around their windows, with stray scores."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64)

    parts = []
    for w in windows:
        count, limit = len(w.heads), window_limit(w.bits)
        shape, centres = (sentences, count, 1, 1), torch.tensor(w.centres, dtype=torch.float64).reshape(1, count, 1, 1)
        anywhere = most * (2 * random(*shape) - 1)
        edge = centres + torch.where(random(*shape) < 0.5, -1.0, 1.0) * limit + 6 * random(*shape) - 3
        inside = centres + limit * (2 * random(*shape) - 1)
        place = torch.where(random(*shape) < 0.3, anywhere, torch.where(random(*shape) < 0.5, edge, inside))
        spread = torch.tensor([0.0, 3.0, 20.0, 60.0, 2 * most])[(5 * random(*shape)).to(torch.int64)]
        x = place + spread * (random(sentences, count, 1, keys) - 0.5)
        stray = most * (2 * random(sentences, count, 1, keys) - 1)
        parts.append(torch.where(random(sentences, count, 1, keys) < 0.1 * (random(*shape) < 0.3), stray, x))
    whole = torch.cat(parts, 1).clamp(-most, most)
    return torch.round(whole * 2.0**FRAC) * 2.0**-FRAC


def served(x: Tensor, windows: list[Window], keep: Tensor) -> Tensor:
    """Sentences whose kept scores all lie in their windows, in rows that do not span too much."""
    fine = torch.ones(len(x), dtype=torch.bool)
    for w in windows:
        kept = x[:, list(w.heads)]
        low = torch.where(keep > 0, kept, torch.inf).amin(-1)
        high = torch.where(keep > 0, kept, -torch.inf).amax(-1)
        lowest, limit = w.lowest().reshape(1, -1, 1), window_limit(w.bits)
        good = (low >= lowest) & (high < lowest + 2 * limit) & (high - low < w.span)
        fine &= good.all(-1).all(-1)
    return fine


def check_right_or_flagged(x: Tensor, value: Tensor, flagged: Tensor, windows: list[Window], keep: Tensor) -> None:
    want = torch.softmax(x.masked_fill(keep.expand_as(x) == 0, -torch.inf), -1)
    total = value.sum(-1, keepdim=True)
    assert (total[~flagged] >= LEAST).all()
    allowed = ERROR * value.amax(-1, keepdim=True).clamp(min=1.0) * (1 + x.shape[-1]) / total
    wrong = ((value / total - want).abs() > allowed).flatten(1).any(1)
    assert not (wrong & ~flagged).any(), x[wrong & ~flagged][0]
    assert not (flagged & served(x, windows, keep)).any()


CASES = st.tuples(
    st.sampled_from([6, 7, 8]), st.booleans(), st.floats(-1, 1), st.floats(20, 400), st.integers(0, 2**31)
)


def case(given: tuple[int, bool, float, float, int]) -> tuple[Window, float, int]:
    bits, clamped, centre, most, seed = given
    return window(bits, clamped, (float(round(centre * most)), 0.0), most), most, seed


@few
@given(CASES)
def test_right_or_flagged(given: tuple[int, bool, float, float, int]) -> None:
    """Thousands of rows by masks of 0, and some by servers' masks."""
    used, most, seed = case(given)
    keep = torch.tensor([1, 1, 0, 1, 1, 1])
    for count, watch in ((1500, False), (150, True)):
        x = rows(count, [used], most, seed)
        given_x, each = Input(x, used.period_bits + FRAC + 1, FRAC), torch.ones(count, 1)
        if watch:
            done = watched(numerators([used], keep), each, given_x, seed=seed)
            results = [(done.value, done.flagged), (done.oracle, done.oracle_flagged)]
        else:
            results = [watched_oracle(numerators([used], keep), each, given_x)]
        for value, flagged in results:
            assert value is not None
            check_right_or_flagged(x, value, flagged, [used], keep)


@pytest.mark.parametrize("seed", [0, 1])
def test_right_or_flagged_with_many_masks(seed: int) -> None:
    """The same rows by 40 servers' masks each: a row next to a border is flagged or right by each of them."""
    used = window(6, bool(seed), (-3.0,), 90.0)
    x = rows(60, [used], 90.0, seed).repeat(40, 1, 1, 1)
    done = watched(numerators([used], KEEP), torch.ones(len(x), 1), Input(x, 24, FRAC), seed=seed)
    assert done.value is not None
    check_right_or_flagged(x, done.value, done.flagged, [used], KEEP)
    counts = done.flagged.reshape(40, 60).sum(0)
    assert {int(n) for n in counts} - {0, 40}, "of some rows chance decides"
    assert (counts == 0).sum() > 10 and (counts == 40).sum() > 10


@few
@given(st.floats(30, 300), st.integers(0, 2**31))
def test_several_windows(most: float, seed: int) -> None:
    """Of other widths and periods, clamped and not, whose heads are not in order: each head in its own window."""
    used = [
        Window(w.bits, w.period_bits, w.clamped, heads, w.centres)
        for w, heads in (
            (window(6, False, (9.0,), most), (3,)),
            (window(7, True, (-8.0, 4.0), most), (4, 0)),
            (window(8, False, (0.0,), most), (1,)),
            (window(6, True, (most - 20,), most), (2,)),
        )
    ]
    keep = torch.tensor([1, 1, 1, 0, 1, 1])
    for count, watch in ((500, False), (60, True)):
        x = rows(count, used, most, seed)
        x = x[:, torch.tensor([head for w in used for head in w.heads]).argsort()]  # rows are in the order of windows
        given_x, each = Input(x, 24, FRAC), torch.ones(count, 1)
        if watch:
            done = watched(numerators(used, keep), each, given_x, seed=seed)
            value, flagged = done.value, done.flagged
            assert done.cost.rounds == 4 + 1 + 1  # one clamps, and the verdict
        else:
            value, flagged = watched_oracle(numerators(used, keep), each, given_x)
        assert value is not None
        check_right_or_flagged(x, value, flagged, used, keep)


@pytest.mark.parametrize("inverse", [cells.reciprocal, division.reciprocal], ids=["cells", "iterations"])
@pytest.mark.parametrize("clamped", [False, True])
def test_the_weighted_sum_is_right_or_flagged(inverse: Any, clamped: bool) -> None:
    """The whole of softmax; rows with a score just above the window, whose numerators are larger than 1, among others."""
    used, most, count = window(6, clamped, (0.0,), 100.0), 100.0, 700
    row_sums = RowRange(LEAST, float(KEYS), KEYS * LARGEST)
    bits = WeighBits(product=40, context_frac=17, result=40, frac=12)

    async def build(p: Party, scores: Shared, value: Shared) -> Shared:
        weights = await exponentials(p, scores, KEEP, 16, [used])
        return await weigh(p, weights, value, row_sums, bits, inverse)

    x = rows(count, [used], most, 4)
    x[:300], x[:300, ..., 0] = 29.0, torch.linspace(30, 40, 300, dtype=torch.float64).reshape(300, 1, 1)
    x = torch.round(x * 2**FRAC) / 2**FRAC
    value = torch.eye(KEYS, dtype=torch.float64).expand(count, 1, KEYS, KEYS)
    done = watched(build, torch.ones(count, 1), Input(x, 24, FRAC), Input(value, 40, FRAC))
    want = torch.softmax(x, -1)
    for got, flagged in ((done.value, done.flagged), (done.oracle, done.oracle_flagged)):
        assert got is not None
        wrong = ((got - want).abs() > 2e-2).flatten(1).any(1)
        assert not (wrong & ~flagged).any(), x[wrong & ~flagged][0]
        assert not (flagged & served(x, [used], KEEP)).any()
        assert (wrong & flagged).any()


@pytest.mark.parametrize("clamped", [False, True])
def test_edges(clamped: bool) -> None:
    """Scores at both ends of the window, an ulp beyond them, and rows that span just what they may; by many masks."""
    used = window(7, clamped, (5.0,), 200.0)
    low, ulp = 5.0 - window_limit(7), 2.0**-FRAC
    high, span = low + 2 * window_limit(7) - ulp, used.span
    good = [
        [low, low],
        [high, high],
        [low, low + span - ulp],
        [high - span + ulp, high],
        [high, high - 1],
        [low + 1, low],
    ]
    bad = [[low - 130, 5.0], [5.0, high + 70], [low - 70, high], [high + 129, low - 129], [low - 9, high]]
    x = torch.tensor((good + bad) * 60, dtype=torch.float64).reshape(-1, 1, 1, 2)
    keep = torch.ones(2, dtype=torch.int64)
    done = watched(numerators([used], keep), torch.ones(len(x), 1), Input(x, 24, FRAC))
    assert done.value is not None
    check_right_or_flagged(x, done.value, done.flagged, [used], keep)
    assert served(x, [used], keep).reshape(60, -1)[0].tolist() == [True] * len(good) + [False] * len(bad)
    assert done.flagged.reshape(60, -1)[:, len(good) :].all()


def test_padding_does_not_count() -> None:
    """Neither keys that are not kept, whatever their scores, nor queries."""
    used = window(6, False, (0.0,), 200.0)
    mask = torch.tensor([[1, 1, 0]] * 3)
    x = torch.zeros(3, 1, 3, 3, dtype=torch.float64)
    x[0, ..., 2], x[1, :, 2], x[2, 0, 0, 0] = 190.0, -150.0, 150.0
    x[1, 0, 2, 0] = 40.0
    done = watched(numerators([used], mask[:, None, None, :]), mask, Input(x, 24, FRAC))
    assert done.flagged.tolist() == [False, False, True]
    assert done.oracle_flagged.tolist() == [False, False, True]
