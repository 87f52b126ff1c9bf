"""All softmaxes: numerators, the product with V, and the division per row."""

import math

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from mpcnet.protocols import cells
from mpcnet.protocols.division import RECIPROCAL_LIMIT, RowRange, reciprocal
from mpcnet.protocols.party import Party
from mpcnet.protocols.rowmax import window_limit
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import (
    RELU_EPS,
    Inverse,
    WeighBits,
    Window,
    exponentials,
    relus,
    squares,
    weigh,
    windowed_exponentials,
)

EXACT_ROWS, QUAD_ROWS = RowRange(0.95 * math.exp(-4), 128.0), RowRange(10.0, 65_000.0)
EXACT_BITS = WeighBits(product=40, context_frac=17, result=40, frac=12)
QUAD_BITS = WeighBits(product=48, context_frac=8, result=40, frac=12)
WINDOW = Window(7, 10, False, (0,), (0.0,))
CLAMPED = Window(7, 9, True, (0,), (9.0,))
NARROW = Window(6, 9, False, (0,), (-6.0,))
RELU_ROWS = RowRange(RELU_EPS, 2000.0)
RELU_BITS = WeighBits(product=48, context_frac=13, result=40, frac=12)


async def one_head(p: Party, scores: Shared, keep: Tensor, window: Window) -> Shared:
    """The numerators of scores [..., query, key]."""
    whole = scores.reshape(-1, 1, *scores.shape[-2:]) if scores.value.numel() else scores.reshape(1, 1, *scores.shape)
    return (await windowed_exponentials(p, whole, keep, 16, window)).reshape(*scores.shape)


def exact_numerators(keep: Tensor, window: Window = WINDOW) -> Build:
    async def build(p: Party, scores: Shared) -> Shared:
        return await one_head(p, scores, keep, window)

    return build


def quad_numerators(keep: Tensor) -> Build:
    async def build(p: Party, scores: Shared) -> Shared:
        return await squares(p, scores, keep, 48, 12)

    return build


def exact(keep: Tensor, inverse: Inverse = reciprocal, window: Window = WINDOW) -> Build:
    async def build(p: Party, scores: Shared, value: Shared) -> Shared:
        weights = await one_head(p.at("exp"), scores, keep, window)
        return await weigh(p, weights, value, EXACT_ROWS, EXACT_BITS, inverse)

    return build


def quad(keep: Tensor) -> Build:
    async def build(p: Party, scores: Shared, value: Shared) -> Shared:
        return await weigh(p, await squares(p.at("2quad"), scores, keep, 48, 12), value, QUAD_ROWS, QUAD_BITS)

    return build


def relu_numerators(keep: Tensor) -> Build:
    async def build(p: Party, scores: Shared) -> Shared:
        return await relus(p, scores, keep, 48)

    return build


def relu(keep: Tensor, inverse: Inverse = reciprocal) -> Build:
    async def build(p: Party, scores: Shared, value: Shared) -> Shared:
        numerators = await relus(p.at("2relu"), scores, keep, 48)
        return await weigh(p, numerators, value, RELU_ROWS, RELU_BITS, inverse, RELU_EPS)

    return build


def softmax(scores: Tensor, keep: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(keep.expand_as(scores) == 0, -torch.inf), -1)


def two_quad(scores: Tensor, keep: Tensor) -> Tensor:
    numerators = (scores + 5) ** 2 * keep
    return numerators / numerators.sum(-1, keepdim=True)


def two_relu(scores: Tensor, keep: Tensor) -> Tensor:
    numerators = scores.clamp(min=0) * keep
    return numerators / (numerators.sum(-1, keepdim=True) + RELU_EPS)


KEEP = torch.tensor([1, 1, 1, 1, 0, 1, 0, 1])
SEEDS = st.integers(0, 2**31)


@few
@given(st.integers(1, 5), SEEDS)
def test_squares(rows: int, seed: int) -> None:
    x = uniform((rows, 8), -200, 200, 22, 12, seed)
    done = outcome(quad_numerators(KEEP), x, seed=seed)
    for value in (done.value, done.oracle):
        assert distance(value, (x.x + 5) ** 2 * KEEP) <= 2.0**-12
    assert (done.run.results[0].bits, done.run.results[0].frac) == (48, 12)
    check_cost(done, rounds=1, sent=3 * 8 * rows)


def test_squares_at_the_limits_of_the_range() -> None:
    ulp = 2.0**-12
    x = Input(
        torch.tensor([[-5.0, -5 + ulp, -5 - ulp, 0.0, 251 - ulp, -261.0, 5.0, 1.0]] * 30, dtype=torch.float64), 22, 12
    )
    assert distance(outcome(quad_numerators(KEEP), x).value, (x.x + 5) ** 2 * KEEP) <= 2.0**-12


@few
@given(st.integers(1, 5), SEEDS)
def test_relus(rows: int, seed: int) -> None:
    """Exactly max(s, 0); one unit below 0, and the limits of the range, are among the scores."""
    ulp = 2.0**-12
    x = uniform((rows, 8), -256, 256 - ulp, 22, 12, seed)
    x.x[:, :3] = torch.tensor([-ulp, 0.0, ulp], dtype=torch.float64)
    done = outcome(relu_numerators(KEEP), x, seed=seed)
    for value in (done.value, done.oracle):
        assert torch.equal(value, x.x.clamp(min=0) * KEEP)
    assert (done.run.results[0].bits, done.run.results[0].frac) == (48, 12)
    check_cost(done, rounds=3, sent=(3 * 8 + 8 + 1) * rows, dealt=326 * rows)


@few
@given(st.integers(1, 4), st.floats(0.25, 100), SEEDS)
def test_two_relu(rows: int, spread: float, seed: int) -> None:
    """Among the rows is one without a positive score, whose context is 0, and one that sums to a unit."""
    scores, value = uniform((rows + 2, 8), -spread, spread, 22, 12, seed), uniform((8, 3), -4, 4, 48, 12, seed)
    scores.x[0], scores.x[1] = -scores.x[0].abs(), -scores.x[1].abs()
    scores.x[1, 0] = 2.0**-12
    want = two_relu(scores.x, KEEP) @ value.x
    for inverse, error in ((reciprocal, 2e-3), (cells.reciprocal, 1e-3)):
        done = outcome(relu(KEEP, inverse), scores, value, seed=seed)
        assert distance(done.value, want) <= error
        assert distance(done.oracle, want) <= error


@few
@given(st.integers(1, 5), st.floats(0.01, 1), st.sampled_from([WINDOW, CLAMPED, NARROW]), SEEDS)
def test_exponentials(rows: int, spread: float, window: Window, seed: int) -> None:
    """Of rows that span as much as they may, and lie in their window."""
    half, centre = spread * min(window.span / 2, window_limit(window.bits)), window.centres[0]
    x = uniform((rows, 8), centre - half, centre + half - 2.0**-12, 22, 12, seed)
    done = outcome(exact_numerators(KEEP, window), x, seed=seed)
    for value in (done.value, done.oracle):
        # e^(s - m) with max < m <= max + 4: the factor e^(max - m) is one number a row, read off the largest score.
        kept = x.x.masked_fill(KEEP == 0, -torch.inf)
        top = kept.amax(-1, keepdim=True)
        largest = torch.take_along_dim(value, kept.argmax(-1, keepdim=True), -1)
        assert (largest >= math.exp(-4) - 5e-5).all()
        assert (largest <= 1 + 2.1e-4).all()
        assert distance(value, largest * torch.exp(kept - top)) <= 1e-4
        assert not value[..., KEEP == 0].any()
    assert done.cost.rounds == (5 if window.clamped else 4)
    assert (done.run.results[0].bits, done.run.results[0].frac) == (42, 16)


@few
@given(st.integers(1, 4), st.floats(0.5, 25), SEEDS)
def test_exact_softmax(rows: int, spread: float, seed: int) -> None:
    scores, value = uniform((rows, 8), -spread, spread, 22, 12, seed), uniform((8, 3), -4, 4, 40, 12, seed)
    done = outcome(exact(KEEP), scores, value, seed=seed)
    want = softmax(scores.x, KEEP) @ value.x
    # An ulp of a numerator, 2^-16, over the least row sum e^-4, for each of six keys with |v| <= 4.
    assert distance(done.value, want) <= 6e-3
    assert distance(done.oracle, want) <= 6e-3


def test_exact_softmax_on_many_rows() -> None:
    keep = torch.ones(2, 1, 1, 24, dtype=torch.int64)
    keep[1, ..., 15:] = 0
    scores, value = uniform((2, 3, 24, 24), -20, 20, 22, 12), uniform((2, 3, 24, 5), -4, 4, 40, 12)
    window = Window(7, 10, False, (0, 1, 2), (0.0, 1.0, -1.0))

    async def build(p: Party, scores: Shared, value: Shared) -> Shared:
        return await weigh(p, await exponentials(p, scores, keep, 16, [window]), value, EXACT_ROWS, EXACT_BITS)

    done = outcome(build, scores, value)
    error = (done.value - softmax(scores.x, keep) @ value.x).abs()
    assert float(error.max()) <= 5e-3
    assert float(error.mean()) <= 4e-4


@few
@given(st.integers(1, 4), st.floats(0.5, 40), SEEDS)
def test_two_quad(rows: int, spread: float, seed: int) -> None:
    scores, value = uniform((rows, 8), -spread, spread, 22, 12, seed), uniform((8, 3), -4, 4, 48, 12, seed)
    scores = Input(torch.cat([torch.zeros(rows, 1, dtype=torch.float64), scores.x[:, 1:]], 1), 22, 12)
    done = outcome(quad(KEEP), scores, value, seed=seed)
    want = two_quad(scores.x, KEEP) @ value.x
    # The reciprocal's 1e-3 of |v| <= 4 at the row range's lower end, and roundings.
    assert distance(done.value, want) <= 4e-3
    assert distance(done.oracle, want) <= 4e-3


def test_weigh_cost() -> None:
    """1 + t rounds after the numerators' own: t for the reciprocal (the first opens the factors too), then the quotient."""
    scores, value = uniform((2, 8, 8), -20, 20, 22, 12), uniform((2, 8, 5), -4, 4, 40, 12)
    t = EXACT_ROWS.reciprocal_steps(EXACT_ROWS.deflation(RECIPROCAL_LIMIT))
    done = outcome(exact(KEEP), scores, value)
    assert t == 16
    rows, results = 16, 2 * 8 * 5
    reciprocal = rows * (9 * t - 5)
    factors = 5 * (2 * 8 * 8 + 2 * 8 * 5)
    raw = 40 - (16 + 12 - 17)  # bits of the rescaled product with V
    quotient = results * ((raw + 7) // 8) + rows * 4  # of 36 bits of the reciprocal, 27 are left
    numerators = 2 * 8 * 8 * 3 + rows * 63 + rows * 63 // 8 + 2 * rows
    check_cost(done, rounds=4 + 1 + t, sent=numerators + factors + reciprocal + quotient)
    quad_value = Input(value.x, 48, 12)
    t = QUAD_ROWS.reciprocal_steps(QUAD_ROWS.deflation(RECIPROCAL_LIMIT))
    assert outcome(quad(KEEP), scores, quad_value).cost.rounds == 1 + 1 + t
    t = RELU_ROWS.reciprocal_steps(RELU_ROWS.deflation(RECIPROCAL_LIMIT))
    assert outcome(relu(KEEP), scores, quad_value).cost.rounds == 3 + 1 + t
    assert outcome(relu(KEEP, cells.reciprocal), scores, quad_value).cost.rounds == 3 + 2


@pytest.mark.parametrize(("keys", "rounds"), [(255, 4), (256, 5)])
def test_rounds_of_exponentials(keys: int, rounds: int) -> None:
    x = uniform((1, keys), -20, 20, 22, 12)
    keep = torch.ones(keys, dtype=torch.int64)
    assert outcome(exact_numerators(keep), x).cost.rounds == rounds
    assert outcome(exact_numerators(keep, CLAMPED), x).cost.rounds == rounds + 1


@pytest.mark.parametrize(
    ("window", "score", "row"), [(WINDOW, 128, 34 * 63), (NARROW, 96, 33 * 31), (CLAMPED, 136, 33 * 63)]
)
def test_cost_of_exponentials(window: Window, score: int, row: int) -> None:
    """Bytes dealt for a score and for a row; and sent: of 21 or 22 bits, a count, a bit and a bit of it, the maximum."""
    x = uniform((1, 16, 8), window.centres[0] - 9, window.centres[0] + 9, 22, 12)
    done = outcome(exact_numerators(KEEP, window), x)
    counts, bit = 2 ** (window.bits - 1) - 1, 16 if window.clamped else 0
    check_cost(
        done,
        5 if window.clamped else 4,
        128 * 3 + bit + 16 * counts + 2 * counts + 16 * (2 if window.period_bits > 9 else 1),
        128 * score + 16 * row,
    )


def test_several_windows_are_as_each_alone() -> None:
    """Heads of three windows, out of order: in the rounds of the longest, each as by itself."""
    windows = [
        Window(6, 9, False, (2,), (-6.0,)),
        Window(7, 9, True, (3, 0), (9.0, 1.0)),
        Window(7, 10, False, (1,), (0.0,)),
    ]
    x = uniform((2, 4, 5, 8), -11, 11, 22, 12)

    async def build(p: Party, scores: Shared) -> Shared:
        return await exponentials(p, scores, KEEP, 16, windows)

    done = outcome(build, x)
    assert done.cost.rounds == 5
    for window in windows:
        for head, centre in zip(window.heads, window.centres, strict=True):
            one = Window(window.bits, window.period_bits, window.clamped, (0,), (centre,))
            alone = outcome(exact_numerators(KEEP, one), Input(x.x[:, head], 22, 12))
            assert torch.equal(done.oracle[:, head], alone.oracle)
            total, sums = done.value[:, head], done.value[:, head].sum(-1, keepdim=True)
            assert distance(total / sums, softmax(x.x[:, head], KEEP)) <= 6e-3
    assert not done.value[..., KEEP == 0].any()


def test_weigh_in_two_rounds_with_point_functions() -> None:
    """Factors and row sums, then the quotient's."""
    scores, value = uniform((2, 8, 8), -20, 20, 22, 12), uniform((2, 8, 5), -4, 4, 40, 12)
    done = outcome(exact(KEEP, cells.reciprocal), scores, value)
    assert distance(done.value, softmax(scores.x, KEEP) @ value.x) <= 6e-3
    rows, results = 16, 2 * 8 * 5
    numerators = 2 * 8 * 8 * 3 + rows * 63 + rows * 63 // 8 + 2 * rows
    factors, quotient = 5 * (2 * 8 * 8 + results), results * 4 + rows * 5
    check_cost(done, rounds=4 + 2, sent=numerators + factors + rows * 4 + quotient)


@pytest.mark.parametrize("program", [exact, quad, relu])
def test_empty(program: object) -> None:
    scores, value = (Input(torch.zeros(*shape, dtype=torch.float64), 48, 12) for shape in ((0, 8), (8, 3)))
    scores = Input(scores.x, 22, 12)
    assert outcome(program(KEEP), scores, value).value.shape == (0, 3)  # type: ignore[operator]


def test_one_key_gets_all_the_weight() -> None:
    scores, value = uniform((4, 1), -20, 20, 22, 12), uniform((1, 3), -4, 4, 40, 12)
    done = outcome(exact(torch.ones(1, dtype=torch.int64)), scores, value)
    assert distance(done.value, value.x.expand(4, 3)) <= 6e-3


@pytest.mark.slow
def test_one_corrupted_reply_changes_the_result() -> None:
    scores = uniform((4, 8), -20, 20, 22, 12)
    check_corruption(quad_numerators(KEEP), scores)
    looked_at = Window(7, 7, False, (0,), (0.0,))  # of a longer period only an audit sees the highest bits
    check_corruption(exact_numerators(KEEP, looked_at), scores)
    check_corruption(exact_numerators(KEEP, CLAMPED), scores)
    check_corruption(exact(KEEP, window=looked_at), scores, uniform((8, 3), -4, 4, 40, 12))
    check_corruption(quad(KEEP), scores, uniform((8, 3), -4, 4, 48, 12))
    check_corruption(relu_numerators(KEEP), scores)
    check_corruption(relu(KEEP), scores, uniform((8, 3), -4, 4, 48, 12))
