"""CrypTen's, PUMA's and SHAFT's functions: as published in value, within the stated error of the exact ones on their
domains, in the stated rounds and bytes; and told of to an audit outside."""

from __future__ import annotations

from math import pi, sqrt

import pytest
import torch
from checks import (
    Input,
    check_corruption,
    check_cost,
    distance,
    given_words,
    log_uniform,
    outcome,
    relative,
    uniform,
    watched,
    watched_oracle,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from mpcnet.protocols import crypten, puma, shaft
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.layernorm import Root
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import Inverse
from mpcnet.protocols.suites import Numerators

KEYS, PADDING = 128, 28
KEEP = torch.ones(1, 1, KEYS)
KEEP[..., KEYS - PADDING :] = 0
COLUMNS = 384


def exact_gelu(x: Tensor) -> Tensor:
    value: Tensor = torch.nn.functional.gelu(x)
    return value


def limit(x: Tensor, steps: int) -> Tensor:
    """The limit form of e^x, in floating point."""
    return (1 + x / 2**steps) ** (2**steps)


def crypten_gelu(x: Tensor) -> Tensor:
    u = sqrt(2 / pi) * (x + 0.044715 * x**3)
    w, y = 1 + limit(-2 * u.abs(), 9), torch.full_like(u, 0.75)
    for _ in range(3):
        y = 2 * y - w * y * y
    return x / 2 * (1 + torch.sign(u) * (2 * y - 1))


def puma_gelu(x: Tensor) -> Tensor:
    cubic = sum(c * x**k for k, c in enumerate(puma.CUBIC))
    sextic = sum(c * x**k for k, c in zip((0, 1, 2, 4, 6), puma.SEXTIC, strict=True))
    inner = torch.where(x < -1.95, torch.as_tensor(cubic), torch.as_tensor(sextic))
    return torch.where(x < -4, torch.zeros_like(x), torch.where(x <= 3, inner, x))


def shaft_gelu(x: Tensor) -> Tensor:
    bend = sum(c * torch.sin(2 * pi * k * x.abs() / 8) for k, c in enumerate(shaft.SINES, 1))
    return x.clamp(min=0) + (x.abs() < 4) * torch.as_tensor(bend)


GELUS = {  # function, ring, as published, its distance, the exact one's, largest input, rounds, sent, dealt
    "crypten": (crypten.gelu, 40, crypten_gelu, 1.1e-3, 1.3e-3, 23.0, 17, 57.125, 380.75),
    "puma": (puma.gelu, 64, puma_gelu, 1.5e-3, 2.1e-2, 1023.0, 4, 16.375, 214),
    "shaft": (shaft.gelu, 40, shaft_gelu, 1e-3, 4.9e-3, 1023.0, 3, 8.375, 142),
}


def build_gelu(name: str) -> Build:
    function, ring = GELUS[name][:2]

    async def run(p: Party, x: Shared) -> Shared:
        return await function(p, x, ring)

    return run


@pytest.mark.parametrize("name", GELUS)
def test_gelu(name: str) -> None:
    _, ring, published, near, error, most, rounds, sent, dealt = GELUS[name]
    x = Input(torch.cat([uniform((3000,), -6, 6, 24, 12).x, uniform((1000,), -most, most, 24, 12).x]), 24, 12)
    done = outcome(build_gelu(name), x)
    assert distance(done.value, published(x.x)) <= near
    assert distance(done.oracle, exact_gelu(x.x)) <= error
    assert distance(done.value, exact_gelu(x.x)) <= error
    assert (done.run.results[0].bits, done.run.results[0].frac) == (ring, 12)
    check_cost(done, rounds, int(sent * 4000), int(dealt * 4000))


@pytest.mark.parametrize("name", GELUS)
@settings(max_examples=5, derandomize=True, deadline=None)
@given(words=st.lists(st.integers(-23 << 12, 23 << 12), min_size=1, max_size=12), seed=st.integers(0, 2**31))
def test_gelu_of_any_words(name: str, words: list[int], seed: int) -> None:
    x = given_words(words, 24, 12)
    assert distance(outcome(build_gelu(name), x, seed=seed).value, exact_gelu(x.x)) <= GELUS[name][4]


@pytest.mark.parametrize("name", GELUS)
def test_gelu_at_the_ends_of_its_segments(name: str) -> None:
    ends = torch.tensor([-4.0, -1.95, 0.0, 3.0, 4.0], dtype=torch.float64)
    x = Input(torch.cat([ends.mul(4096).round().div(4096) + d * 2.0**-12 for d in (-1, 0, 1)] * 20), 24, 12)
    done = outcome(build_gelu(name), x)
    assert distance(done.value, GELUS[name][2](x.x)) <= GELUS[name][3]


@pytest.mark.parametrize("name", GELUS)
def test_gelu_with_a_corrupted_reply(name: str) -> None:
    check_corruption(build_gelu(name), uniform((64,), -3, 3, 24, 12))


def numbers_of(function: Numerators) -> Build:
    async def run(p: Party, x: Shared) -> Shared:
        return await function(p, x, KEEP, 40, 16)

    return run


@pytest.mark.parametrize("function", [crypten.numerators, puma.numerators, shaft.probabilities])
def test_long_rows_have_finer_numerators(function: Numerators) -> None:
    """22 fraction bits in 48, as rows of more than 128 keys have them."""

    async def run(p: Party, x: Shared) -> Shared:
        return await function(p, x, torch.ones(1, 1, 160), 48, 22)

    async def usual(p: Party, x: Shared) -> Shared:
        return await function(p, x, torch.ones(1, 1, 160), 40, 16)

    s = uniform((1, 4, 160), -4, 8, 22, 12)
    fine, coarse = outcome(run, s), outcome(usual, s)
    assert (fine.run.results[0].bits >= 48, fine.run.results[0].frac) == (True, 22)
    assert distance(fine.oracle, coarse.oracle) <= 3e-4


def expected(s: Tensor, steps: int, least: float) -> Tensor:
    kept = KEEP.bool()
    below = s - s.masked_fill(~kept, -1e3).amax(-1, keepdim=True)
    return torch.where(kept & (below >= least), limit(below, steps), 0.0)


@pytest.mark.parametrize(
    ("function", "steps", "least", "rounds", "sent", "dealt", "error"),
    [(crypten.numerators, 8, -256.0, 29, 24, 138.4, 1.2e-3), (puma.numerators, 5, -14.0, 27, 19.125, 103.1, 8.7e-3)],
)
def test_numerators(function, steps, least, rounds, sent, dealt, error) -> None:  # type: ignore[no-untyped-def]
    """Rows that span up to 200, with padding; the maximum's part of the cost is 127 comparisons a row."""
    narrow, wide = uniform((1, 8, KEYS), -10, 10, 22, 12).x, uniform((1, 8, KEYS), -100, 100, 22, 12, 1).x
    s = Input(torch.cat([narrow, wide]), 22, 12)
    done = outcome(numbers_of(function), s)
    kept = KEEP.bool()
    assert distance(done.value, expected(s.x, steps, least)) <= 1.5e-4
    below = s.x - s.x.masked_fill(~kept, -1e3).amax(-1, keepdim=True)
    assert distance(done.value, torch.where(kept, below.exp(), 0.0)) <= error
    assert (done.run.results[0].bits, done.run.results[0].frac) == (40, 16)
    compared = 127 * 16
    check_cost(done, rounds, int(sent * s.x.numel()) + compared * 3 + compared + compared // 8)
    assert sum(done.dealt_bytes) / s.x.numel() == pytest.approx(dealt + 28.2, abs=0.1)


def test_rows_that_span_too_much_are_flagged() -> None:
    """Up to 768, which the norms of queries and keys allow, in a ring that holds 1024; rows of 230 are not."""

    async def run(p: Party, x: Shared) -> Shared:
        return await crypten.numerators(p, x, torch.ones(1, 1, 1, 4), 40, 16)

    tops = [20.0, 230.0, 300.0, 500.0, 511.0, 600.0, 760.0]
    rows = torch.tensor([[[[top / 2, -top / 2, 0.0, 1.0]]] for top in tops], dtype=torch.float64)
    _, flagged = watched_oracle(run, torch.ones(len(tops), 1), Input(rows, 22, 12))
    assert flagged.tolist() == [False, False, True, True, True, True, True]


def euler(s: Tensor) -> Tensor:
    kept = KEEP.double()
    x, g = s.clamp(-4, 12) / 16, (kept / kept.sum(-1, keepdim=True)).expand_as(s)
    for _ in range(16):
        g = g + (x - (g * x).sum(-1, keepdim=True)) * g
    return g


def test_shafts_softmax() -> None:
    """As the equation has it, for scores beyond what is clipped too; and what 16 steps do to a softmax."""
    s = Input(
        torch.cat([uniform((1, 8, KEYS), -4, 4, 22, 12).x, uniform((1, 8, KEYS), -300, 300, 22, 12, 1).x]), 22, 12
    )
    done = outcome(numbers_of(shaft.probabilities), s)
    assert distance(done.value, euler(s.x)) <= 4e-5
    exact = torch.softmax(s.x.masked_fill(~KEEP.bool(), -torch.inf), -1)
    assert distance(done.value[:1], exact[:1]) <= 0.05
    rows, count = 16, s.x.numel()
    check_cost(done, 35, int(53.25 * count) + 48 * rows)
    assert sum(done.dealt_bytes) / count == pytest.approx(437.2, abs=0.1)
    assert distance(done.value.sum(-1), torch.ones(2, 8, dtype=torch.float64)) <= 2e-3


def test_clipped_scores_are_flagged() -> None:
    async def run(p: Party, x: Shared) -> Shared:
        return await shaft.probabilities(p, x, torch.tensor([[[[1, 1, 1, 0]]]]), 40, 16)

    rows = torch.tensor([[[[-4.0, 11.9, 0.0, 50.0]]], [[[-4.1, 0.0, 0.0, 0.0]]], [[[0.0, 12.0, 0.0, 0.0]]]])
    _, flagged = watched_oracle(run, torch.ones(3, 1), Input(rows.double(), 22, 12))
    assert flagged.tolist() == [False, True, True]


def inverse(function: Inverse, rows: RowRange) -> Build:
    async def run(p: Party, x: Shared) -> Shared:
        z, e = await function(p, x, rows)
        return z.halve(e)

    return run


def root(function: Root, rows: RowRange) -> Build:
    async def run(p: Party, x: Shared) -> Shared:
        return await function(p, x, rows, sqrt(COLUMNS))

    return run


SUMS = RowRange(0.0174, 128.0)


@pytest.mark.parametrize(
    ("function", "low", "high", "rounds", "sent", "dealt", "error"),
    [(crypten.reciprocal, 0.2, 253.0, 28, 133, 592, 2e-4), (puma.reciprocal, 0.0174, 128.0, 7, 33.625, 603.25, 2e-4)],
)
def test_reciprocal(function, low, high, rounds, sent, dealt, error) -> None:  # type: ignore[no-untyped-def]
    x = log_uniform(400, low, high, 40, 16)
    done = outcome(inverse(function, SUMS), x)
    assert relative(done.value, 1 / x.x) <= error
    check_cost(done, rounds, int(sent * 800), int(dealt * 800))


@pytest.mark.parametrize(
    ("function", "low", "high", "rounds", "sent", "dealt", "error"),
    [
        (crypten.rsqrt, 0.105, 153.8, 14, 75, 369, 4e-3),
        (shaft.rsqrt, 0.0234, 181.8, 18, 103, 505, 4e-3),
        (puma.rsqrt, 0.8 / COLUMNS, 17.0 / COLUMNS, 6, 18.75, 347.875, 1e-4),
        (puma.rsqrt, 0.0034, 2110.0, 7, 49.5, 956.625, 1e-4),
    ],
)
def test_rsqrt(function, low, high, rounds, sent, dealt, error) -> None:  # type: ignore[no-untyped-def]
    """Over the published domain of variances; PUMA's over a real model's."""
    x = log_uniform(400, low * COLUMNS, high * COLUMNS, 64, 28)
    done = outcome(root(function, RowRange(low * COLUMNS, high * COLUMNS)), x)
    assert relative(done.value, (COLUMNS / x.x).sqrt()) <= error
    check_cost(done, rounds, int(sent * 800), int(dealt * 800))


def test_rsqrt_of_an_embedding_of_fine_values() -> None:
    """24-bit tables of 22 fraction bits leave the sum few bits above the point."""
    x = log_uniform(100, 0.11 * COLUMNS, 0.12 * COLUMNS, 64, 44)
    done = outcome(root(crypten.rsqrt, RowRange(0.1 * COLUMNS, 0.13 * COLUMNS)), x)
    assert relative(done.value, (COLUMNS / x.x).sqrt()) <= 4e-3


@pytest.mark.parametrize("variance", [0.003, 0.05, 500.0, 1000.0, 2110.0])
def test_variances_out_of_the_domain_are_flagged(variance: float) -> None:
    """Two sentences of which one is in it."""
    rows = RowRange(0.003 * COLUMNS, 2200.0 * COLUMNS)
    x = Input(torch.tensor([[[1.0]], [[variance]]], dtype=torch.float64) * COLUMNS, 64, 28)
    found = watched(root(crypten.rsqrt, rows), torch.ones(2, 1), x)
    assert found.flagged.tolist() == found.oracle_flagged.tolist() == [False, True]


@pytest.mark.parametrize("total", [260.0, 400.0, 3000.0, 33_800.0])
def test_sums_out_of_the_domain_are_flagged(total: float) -> None:
    x = Input(torch.tensor([[[100.0]], [[total]]], dtype=torch.float64), 48, 12)
    found = watched(inverse(crypten.reciprocal, RowRange(20.0, 50_000.0)), torch.ones(2, 1), x)
    assert found.flagged.tolist() == found.oracle_flagged.tolist() == [False, True]


@pytest.mark.parametrize("x", [24.5, -30.0, 60.0, 102.0, -500.0, 1000.0])
def test_inputs_out_of_the_domain_are_flagged(x: float) -> None:
    values = Input(torch.tensor([[[2.0]], [[x]]], dtype=torch.float64), 24, 12)
    found = watched(build_gelu("crypten"), torch.ones(2, 1), values)
    assert found.flagged.tolist() == found.oracle_flagged.tolist() == [False, True]
