"""Fourier series of opened values, and the integer tables that make them the same on every host."""

import math

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build, Session
from torch import Tensor

from mpcnet.protocols import series as S
from mpcnet.protocols.gelu import ERF, GELU_EVEN, TANH
from mpcnet.protocols.party import Party
from mpcnet.protocols.series import Series, fourier, pi_sin
from mpcnet.protocols.share import Shared

MIXED = Series(8, cosine=((0, 0.5), (1, -0.75), (3, 0.125)), sine=((1, 1.0), (2, 0.25)))


def real(series: Series, x: Tensor) -> Tensor:
    w = 2 * math.pi / series.period
    total = torch.zeros_like(x)
    for k, value in series.cosine:
        total = total + value * torch.cos(k * w * x)
    for k, value in series.sine:
        total = total + value * torch.sin(k * w * x)
    return total


def bound(series: Series, dealt_frac: int, frac: int) -> float:
    """Roundings of the dealt waves (times a coefficient) and of the public factors (times a wave), added up."""
    weight = sum(abs(value) for _, value in (*series.cosine, *series.sine))
    return math.sqrt(2) * (weight * 2.0 ** -(dealt_frac + 1) + len(series.harmonics) * 2.0**-(frac)) + 1e-8


def sine(series: Series) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await pi_sin(p, x, series)

    return build


@few
@given(
    st.lists(st.integers(-(2**19), 2**19), min_size=1, max_size=30),
    st.sampled_from([ERF, TANH, GELU_EVEN, MIXED]),
    st.integers(0, 2**31),
)
def test_pi_sin(words: list[int], series: Series, seed: int) -> None:
    x = given_words(words, 64, 16)
    done = outcome(sine(series), x, seed=seed)
    allowed = bound(series, 14, 16)
    assert distance(done.value, real(series, x.x)) <= allowed
    assert distance(done.oracle, real(series, x.x)) <= allowed
    check_cost(done, rounds=1, sent=3 * len(words), dealt=16 * len(series.harmonics) * len(words))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (64, 30)


@pytest.mark.parametrize(("series", "error"), [(ERF, 1.1e-4), (GELU_EVEN, 1.2e-4), (TANH, 6.5e-4)])
def test_pi_sin_on_a_dense_grid(series: Series, error: float) -> None:
    x = uniform((20_000,), -8, 8, 64, 16)
    assert distance(outcome(sine(series), x).value, real(series, x.x)) <= error


def test_periodicity_is_exact() -> None:
    """x and x + a multiple of the period are one and the same opened value: equal to the last bit for equal masks."""
    near = uniform((500,), -4, 4, 64, 16)
    far = Input(near.x + 8 * torch.randint(-1000, 1000, (500,), generator=torch.Generator().manual_seed(1)), 64, 16)
    assert torch.equal(outcome(sine(MIXED), near).oracle, outcome(sine(MIXED), far).oracle)
    assert distance(outcome(sine(MIXED), far).value, real(MIXED, near.x)) <= bound(MIXED, 14, 16)


def test_edges() -> None:
    ulp = 2.0**-16
    x = Input(torch.tensor([0.0, ulp, -ulp, 4.0, -4.0, 4 - ulp, 8.0, 2.0, 1e4], dtype=torch.float64), 64, 16)
    assert distance(outcome(sine(MIXED), x).value, real(MIXED, x.x)) <= bound(MIXED, 14, 16)


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, 0.5, dtype=torch.float64), 64, 16)
    assert distance(outcome(sine(ERF), x).value, real(ERF, x.x)) <= 2e-4


@pytest.mark.parametrize(("bits", "frac", "dealt_frac"), [(64, 16, 14), (48, 12, 14), (39, 16, 16), (33, 12, 8)])
def test_fourier_lands_in_any_ring_and_scale(bits: int, frac: int, dealt_frac: int) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return fourier(p, await p.open_one(x), MIXED, bits, frac, dealt_frac)

    x = uniform((300,), -4, 4, 24, 12)
    done = outcome(build, x)
    assert distance(done.value, real(MIXED, x.x)) <= bound(MIXED, dealt_frac, frac)
    check_cost(done, rounds=1, sent=900, dealt=300 * 2 * 3 * ((bits + 7) // 8))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (bits, frac + dealt_frac)


def test_one_opening_serves_every_series() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        opened = await p.open_one(x)
        return fourier(p, opened, ERF, 64, 16) + fourier(p, opened, MIXED, 64, 16)

    x = uniform((300,), -4, 4, 24, 12)
    done = outcome(build, x)
    assert distance(done.value, real(ERF, x.x) + real(MIXED, x.x)) <= bound(ERF, 14, 16) + bound(MIXED, 14, 16)
    assert done.cost.rounds == 1


def test_refusals() -> None:
    session = Session()
    x = session.share(torch.zeros(2), 18, 16)
    for series in (Series(12, sine=((1, 1.0),)), Series(8, sine=((1, 1.0),))):
        with pytest.raises(ValueError, match=r"period .* does not divide"):

            async def build(p: Party, x: Shared, series: Series = series) -> Shared:
                return fourier(p, await p.open_one(x), series, 64, 16)

            session.run(build, x)


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(sine(ERF), uniform((40,), -4, 4, 64, 16))


# The public integer tables.


@pytest.mark.parametrize("size", [3, 10, 11, 16, 20, 24])
def test_cos_and_sin_in_integers(size: int) -> None:
    """Right to 1e-8 everywhere, against the float functions."""
    count = 1 << size
    angle = torch.arange(0, count, max(1, count // 50_000))
    angle = torch.cat([angle, torch.tensor([0, 1, count - 1, count // 4, count // 2, 5 * count + 3, -1])])
    turn = angle.to(torch.float64) * (2 * math.pi / count)
    cos, sin = (table.to(torch.float64) * 2.0**-S.TRIG_FRAC for table in S.turned(angle, size))
    assert distance(cos, torch.cos(turn)) <= 1e-8
    assert distance(sin, torch.sin(turn)) <= 1e-8


def test_the_tables_are_integers_and_known() -> None:
    """The same on every host: no floating point on the way, and one fingerprint."""
    for table in (*S._table(10, 10), *S._table(10, 20)):
        assert table.dtype == torch.int64
    cos, sin = S._table(10, 10)
    assert [int(cos[0]), int(cos[256]), int(cos[512]), int(sin[256])] == [1 << 30, 0, -(1 << 30), 1 << 30]
    assert [int(cos[1]), int(sin[1]), int(cos[100])] == [1073721611, 6588356, 877875009]
    assert S._cos_sin_exact(0) == (1 << 30, 0)


def test_dealt_waves_are_rounded_once() -> None:
    angle = torch.arange(1 << 12)
    waves = S._waves(angle, 12, (1, 5), 14, 32).to(torch.float64) * 2.0**-14
    turn = angle.to(torch.float64) * (2 * math.pi / 2**12)
    want = torch.stack([torch.cos(turn), torch.sin(turn), torch.cos(5 * turn), torch.sin(5 * turn)])
    assert distance(waves, want) <= 2.0**-15 + 1e-8
