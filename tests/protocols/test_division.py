"""Goldschmidt's iterations: relative error over calibrated ranges, and the rounds they take."""

import math
from typing import Any

import pytest
import torch
from checks import (
    Input,
    Result,
    Watched,
    check_corruption,
    check_cost,
    distance,
    few,
    log_uniform,
    outcome,
    relative,
    uniform,
    watched,
)
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build

from mpcnet.protocols.division import RECIPROCAL_LIMIT, RSQRT_LIMIT, RowRange, divide, reciprocal, rsqrt
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

# LayerNorm's sums of squares, softmax's row sums (exact and 2Quad), and ranges narrow enough for few iterations.
NORM, WIDE_NORM, EXACT, QUAD = (0.8, 17.0), (35.0, 80_000.0), (0.0183, 128.0), (10.0, 65_000.0)
LONG = (0.0174, 512.0)  # exact softmax over 512 keys
WIDEST = (1.2, 98_000.0)  # 2Quad's row sums in the upper layers of an MPNet
RANGES = [NORM, WIDE_NORM, EXACT, QUAD, LONG, WIDEST, (1.0, 1.4), (0.9, 1.1), (3.0, 3.0), (0.002, 0.004)]
EACH = pytest.mark.parametrize("pair", RANGES, ids=str)


def inverse(pair: tuple[float, float]) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        z, e = await reciprocal(p, x, RowRange(*pair))
        return z.halve(e)

    return build


def inverse_root(pair: tuple[float, float], factor: float = 1.0) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await rsqrt(p, x, RowRange(*pair), factor)

    return build


def quotient(pair: tuple[float, float]) -> Build:
    async def build(p: Party, a: Shared, b: Shared) -> Shared:
        return await divide(p, a, b, RowRange(*pair))

    return build


def steps(pair: tuple[float, float]) -> tuple[int, int]:
    rows = RowRange(*pair)
    return (
        rows.reciprocal_steps(rows.deflation(RECIPROCAL_LIMIT)),
        rows.rsqrt_steps(rows.deflation(RSQRT_LIMIT)),
    )


def rows_of(pair: tuple[float, float]) -> Input:
    return log_uniform(1500, *pair, bits=48, frac=24)


def reciprocal_bound(pair: tuple[float, float]) -> float:
    """The tolerance, and the two roundings of q where q is smallest."""
    return 2e-4 + 2.0 ** (RowRange(*pair).deflation(RECIPROCAL_LIMIT) + 1 - 28) / pair[0]


def rsqrt_bound(pair: tuple[float, float]) -> float:
    return 2e-4 + 2.0 ** (RowRange(*pair).deflation(RSQRT_LIMIT) - 26) / pair[0]


@EACH
def test_reciprocal(pair: tuple[float, float]) -> None:
    x = rows_of(pair)
    done = outcome(inverse(pair), x)
    t, _ = steps(pair)
    for value in (done.value, done.oracle):
        assert relative(value, 1 / x.x) <= min(1e-3, reciprocal_bound(pair))
    count = x.x.numel()
    check_cost(done, rounds=t, sent=count * (9 * t - 5 if t > 1 else 4))
    assert t <= t + 2  # the requirement: t iterations in at most t + 2 rounds
    assert done.cost.rounds <= t + 2


@EACH
@pytest.mark.parametrize("factor", [1.0, 384**0.5])
def test_rsqrt(pair: tuple[float, float], factor: float) -> None:
    x = rows_of(pair)
    done = outcome(inverse_root(pair, factor), x)
    _, t = steps(pair)
    for value in (done.value, done.oracle):
        assert relative(value, factor / x.x.sqrt()) <= min(1e-3, rsqrt_bound(pair))
    check_cost(done, rounds=2 * t - 1, sent=x.x.numel() * (13 * t - 9))
    assert done.cost.rounds <= 2 * t + 2
    assert (done.run.results[0].bits, done.run.results[0].frac) == (37, 26)


@EACH
def test_divide(pair: tuple[float, float]) -> None:
    b = rows_of(pair)
    a = uniform((b.x.numel(),), -2, 2, 24, 12)
    done = outcome(quotient(pair), a, b)
    t, _ = steps(pair)
    e = RowRange(*pair).deflation(RECIPROCAL_LIMIT)
    # One ulp of the deflated reciprocal, 2^-20 / 2^e, for |a| up to 2, and the result's own.
    allowed = (a.x / b.x).abs() * min(1e-3, reciprocal_bound(pair)) + 2.0 ** (1 - 20 - e) + 2.0**-26
    for value in (done.value, done.oracle):
        assert ((value - a.x / b.x).abs() <= allowed).all()
    assert done.cost.rounds == t + 1 <= t + 2


def test_divide_broadcasts_a_row() -> None:
    a, b = uniform((6, 10), -2, 2, 24, 12), Input(rows_of(NORM).x[:6].reshape(6, 1), 48, 24)
    assert distance(outcome(quotient(NORM), a, b).value, a.x / b.x) <= 2e-3


@few
@given(st.floats(0.8, 17.0), st.integers(0, 2**31))
def test_single_values(x: float, seed: int) -> None:
    value = Input(torch.tensor([round(x * 2**16) / 2**16], dtype=torch.float64), 40, 16)
    inverted, rooted = (outcome(build, value, seed=seed) for build in (inverse(NORM), inverse_root(NORM)))
    assert relative(inverted.value, 1 / value.x) <= 2.1e-4
    assert relative(rooted.value, value.x**-0.5) <= 2.1e-4
    assert distance(inverted.value, inverted.oracle) <= 1e-5
    assert distance(rooted.value, rooted.oracle) <= 1e-5


@pytest.mark.parametrize(("frac", "bits"), [(8, 32), (16, 40), (28, 48), (30, 56)])
def test_any_scale_of_the_input(frac: int, bits: int) -> None:
    x = log_uniform(200, *NORM, bits=bits, frac=frac)
    assert relative(outcome(inverse(NORM), x).value, 1 / x.x) <= 2.1e-4
    assert relative(outcome(inverse_root(NORM), x).value, x.x**-0.5) <= 2.1e-4


def test_deflation_is_the_least_power_of_two() -> None:
    assert [RowRange(1.0, high).deflation(1.5) for high in (1.5, 1.51, 3.0, 96.0, 97.0)] == [0, 1, 1, 6, 7]
    assert RowRange(0.1, 0.2).deflation(1.5) == -2


@EACH
def test_the_iteration_count_is_the_least_that_reaches_the_tolerance(pair: tuple[float, float]) -> None:
    """In exact arithmetic, over the whole range and not at its lower end alone."""
    for count, limit, step in (
        (steps(pair)[0], RECIPROCAL_LIMIT, lambda q: q * (2 - q)),
        (steps(pair)[1], RSQRT_LIMIT, lambda q: q * ((3 - q) / 2) ** 2),
    ):
        q = torch.linspace(*pair, 1001, dtype=torch.float64) / 2.0 ** RowRange(*pair).deflation(limit)
        errors = []
        for _ in range(count):
            q = step(q)
            errors.append(float((1 - q).abs().max()))
        assert errors[-1] <= 2e-4
        assert count == 1 or errors[-2] > 2e-4


@pytest.mark.parametrize("pair", [(1.0, 2.0**20), (1e-6, 1.0), (0.0, 1.0)])
def test_a_range_that_is_too_wide_is_refused(pair: tuple[float, float]) -> None:
    for count in (RowRange(*pair).reciprocal_steps, RowRange(*pair).rsqrt_steps):
        with pytest.raises(ValueError, match="too wide for Goldschmidt"):
            count(RowRange(*pair).deflation(1.5))


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, 2.5, dtype=torch.float64), 40, 16)
    results: list[Result] = [outcome(inverse(NORM), x), outcome(inverse_root(NORM), x), outcome(quotient(NORM), x, x)]
    for done, want in zip(results, (0.4, 2.5**-0.5, 1.0), strict=True):
        assert distance(done.value, torch.full(shape, want, dtype=torch.float64)) <= 1e-3


def audited(build: Build, x: Input) -> Watched:
    """Each value is a sentence of its own."""
    return watched(build, torch.ones(x.x.numel(), 1), Input(x.x.unsqueeze(-1), x.bits, x.frac))


@EACH
@pytest.mark.parametrize("build", [inverse, inverse_root, lambda pair: inverse_root(pair, 384**0.5)])
def test_an_audit_flags_no_value_of_the_range(pair: tuple[float, float], build: Any) -> None:
    """Although it looks for errors of one part in 128."""
    done = audited(build(pair), rows_of(pair))
    assert not done.flagged.any()
    assert not done.oracle_flagged.any()


@pytest.mark.parametrize("pair", [NORM, WIDE_NORM, EXACT, QUAD, (1.0, 1.4)], ids=str)
@pytest.mark.parametrize(("build", "power", "allowed"), [(inverse, -1.0, 1 / 90), (inverse_root, -0.5, 1 / 180)])
def test_what_an_audit_does_not_flag_is_right(
    pair: tuple[float, float], build: Any, power: float, allowed: float
) -> None:
    """From a hundredth of the range's lower end to thrice its upper: one part in 128 and roundings of 2^-8."""
    x = Input(torch.ceil(torch.logspace(-2, 0, 600, dtype=torch.float64) * pair[0] * 2.0**24) * 2.0**-24, 48, 24)
    above = torch.linspace(1.0, 3.0, 200, dtype=torch.float64) * pair[1]
    x = Input(torch.cat([x.x, torch.floor(above * 2.0**24) * 2.0**-24]), 48, 24)
    done = audited(build(pair), x)
    for value, flagged in ((done.value, done.flagged), (done.oracle, done.oracle_flagged)):
        assert value is not None
        error = (value.squeeze(-1) / x.x**power - 1).abs()
        assert error[~flagged].max() <= allowed
        assert error[flagged].max() > 0.5  # the iteration is far from what it should be somewhere, and found
        assert error[flagged & (x.x < pair[1])].min() > allowed / 4  # and nowhere for nothing


def test_one_corrupted_reply_changes_the_result() -> None:
    x = log_uniform(10, 0.9, 1.1, 40, 16)
    for build in (inverse((0.9, 1.1)), inverse_root((0.9, 1.1))):
        check_corruption(build, x)
    check_corruption(quotient((0.9, 1.1)), uniform((20,), -2, 2, 24, 12), x)


def test_secformers_own_iteration_counts_are_more() -> None:
    """13 divisions and 11 roots with fixed eta there; calibration needs fewer on LayerNorm's usual range."""
    assert steps(NORM) == (8, 7)
    assert [steps(pair) for pair in (WIDE_NORM, EXACT, QUAD)] == [(14, 13), (16, 13), (16, 13)]
    assert math.log2(NORM[1] / NORM[0]) < 5
