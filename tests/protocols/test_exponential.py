"""e^x in one opening over a whole ring, what an audit is told of it, and the integer factor, the same on every host."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, given_words, outcome, uniform, watched
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from mpcnet.protocols import exponential as E
from mpcnet.protocols.exponential import clamped_exponential, exponential
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

FRAC, ULP = 12, 2.0**-12
ERROR = 2.1e-4  # where e^x is 1
KEEP = torch.tensor(1)
PERIODS = pytest.mark.parametrize("period", [7, 9, 12])


def exp(period: int) -> Build:
    """Of an argument opened mod 2^period."""

    async def build(p: Party, x: Shared) -> Shared:
        return exponential(p, await p.open_one(x.reduce(period + x.frac)), 16, KEEP)

    return build


def clamped(period: int, bits: int | None = None) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await clamped_exponential(p, await p.open_one(x.reduce(period + x.frac)), bits or period - 1, 16, KEEP)

    return build


def below(words: list[int], period: int) -> tuple[Input, Tensor]:
    """Arguments from -2^period on, which may be read as positive ones; and what they mean."""
    x = torch.tensor(words, dtype=torch.float64) * ULP
    half = 2.0 ** (period - 1)
    return Input(torch.remainder(x + half, 2 * half) - half, max(period + FRAC, 22), FRAC), x


@few
@given(st.lists(st.integers(-56 << FRAC, 0), min_size=1, max_size=20), st.integers(7, 12), st.integers(0, 2**31))
def test_exponential(words: list[int], period: int, seed: int) -> None:
    x = given_words(words, 25, FRAC)
    done = outcome(exp(period), x, seed=seed)
    assert distance(done.value, torch.exp(x.x)) <= ERROR
    assert distance(done.oracle, torch.exp(x.x)) <= ERROR
    check_cost(done, rounds=1, sent=3 * len(words), dealt=64 * len(words))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (26 + 16, 16)


@few
@given(st.data(), st.integers(7, 12), st.integers(0, 2**31))
def test_clamped(data: st.DataObject, period: int, seed: int) -> None:
    """Over the whole ring but its last bucket, which may be read as the one above 0; 0 exactly below -24."""
    words = data.draw(st.lists(st.integers((8 - 2**period) << FRAC, 0), min_size=1, max_size=20))
    x, want = below(words, period)
    done = outcome(clamped(period), x, seed=seed)
    for value in (done.value, done.oracle):
        assert distance(value, torch.exp(want)) <= ERROR
        assert not value[want <= -24].any()
    count = len(words)
    check_cost(done, 2, 3 * count + -(-count // 8), 64 * count + -(-(count << (period - 3)) // 8))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (26 + 16, 16)


@PERIODS
def test_on_a_dense_grid(period: int) -> None:
    wide = uniform((20_000,), -56, 0, 25, 12).x
    x = Input(torch.cat([uniform((20_000,), -16, 0, 25, 12).x, wide]), 25, 12)
    for build in (exp(period), clamped(period)):
        assert distance(outcome(build, x).value, torch.exp(x.x)) <= ERROR
    x, want = below(((uniform((20_000,), 8 - 2.0**period, 0, 64, 12).x) * 2**FRAC).to(torch.int64).tolist(), period)
    assert distance(outcome(clamped(period), x).value, torch.exp(want)) <= ERROR


@PERIODS
def test_edges(period: int) -> None:
    """0, the ends of both ranges, and the borders of buckets, an ulp to either side; with masks enough for every case."""
    borders = [0, -8, -16, -24, -32, -48, -56]
    words = [(b << FRAC) + d for b in borders for d in (-1, 0, 1) if -56 << FRAC <= (b << FRAC) + d <= 0] * 200
    x = given_words(words, 25, FRAC)
    for build in (exp(period), clamped(period)):
        assert distance(outcome(build, x).value, torch.exp(x.x)) <= ERROR
    ends = [-64, -(2 ** (period - 1)), 8 - 2 ** (period - 1), 16 - 2**period, 8 - 2**period]
    words = [word for b in ends for d in (-1, 0, 1) if (word := (b << FRAC) + d) >= (8 - 2**period) << FRAC] * 200
    x, want = below(words, period)
    assert distance(outcome(clamped(period), x).value, torch.exp(want)) <= ERROR


@pytest.mark.parametrize("frac", [3, 8, 14, 16])
def test_other_scales(frac: int) -> None:
    x = uniform((3000,), -30, 0, 10 + frac, frac)
    for build in (exp(7), clamped(7), clamped(9, 6)):
        assert distance(outcome(build, x).value, torch.exp(x.x)) <= ERROR


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, -0.5, dtype=torch.float64), 22, 12)
    for build in (exp(7), clamped(7)):
        assert distance(outcome(build, x).value, torch.exp(x.x)) <= ERROR


@pytest.mark.parametrize("build", [exp(9), clamped(9, 6)])
def test_what_is_not_kept_is_0(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "KEEP", torch.tensor([1, 0, 1, 0]))
    x = given_words([0, 0, -4096, 9 << FRAC], 22, FRAC)
    done = watched(build, torch.ones(1, 1), x)
    assert done.value is not None
    assert distance(done.value, torch.tensor([1.0, 0, torch.e**-1, 0], dtype=torch.float64)) <= ERROR
    # Bits [B, .] of one sentence: what is not kept is out of reach, and not told.
    x = Input(x.x.reshape(1, 4), 22, FRAC)
    assert not watched(build, torch.ones(1, 1), x).flagged.any()


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(exp(7), uniform((40,), -3, 0, 22, 12))
    check_corruption(clamped(7), uniform((40,), -3, 0, 22, 12))


# What an audit is told. Each argument is a sentence.


def told(build: Build, words: list[int], period: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flags and values of servers and of the oracle."""
    x = Input(below(words, period)[0].x.unsqueeze(-1), max(period + FRAC, 22), FRAC)
    done = watched(build, torch.ones(len(words), 1), x, seed=seed)
    assert done.value is not None and done.oracle is not None
    return done.flagged, done.oracle_flagged, done.value.squeeze(-1), done.oracle.squeeze(-1)


@few
@given(st.data(), st.integers(7, 12), st.booleans(), st.integers(0, 2**31))
def test_right_or_told(data: st.DataObject, period: int, clamp: bool, seed: int) -> None:
    """Never in reach; always 8 and more above 0, and below -2^bits; and where it is not told, it is right."""
    bits = data.draw(st.integers(6, period - 1)) if clamp else 6
    build = clamped(period, bits) if clamp else exp(period)
    half, near = 2 ** (period - 1), [0, -1, 1, 8 << FRAC, -(E.reach(bits) << FRAC), -(1 << bits + FRAC), -(8 << FRAC)]
    places = [place + d for place in near for d in (-1, 0, 1)]
    words = places + data.draw(st.lists(st.integers(-half << FRAC, (half << FRAC) - 1), min_size=20, max_size=60))
    words = [word for word in words if -half << FRAC <= word < half << FRAC]
    x = torch.tensor(words, dtype=torch.float64) * ULP
    found, whole, value, plain = told(build, words, period, seed)
    for flags, values in ((found, value), (whole, plain)):
        assert not flags[(x <= 0) & (x >= -E.reach(bits))].any()
        assert flags[(x >= 8) | (x < -(2.0**bits))].all()
        error = (values - torch.exp(x)).abs() / torch.exp(x.clamp(min=0))
        assert (error[~flags] <= ERROR).all()


@pytest.mark.parametrize(("build", "bits"), [(exp(9), 6), (clamped(9, 6), 6), (clamped(9, 8), 8)])
def test_between_the_two_chance_decides(build: Build, bits: int) -> None:
    """4 above 0, or above the end, is told for half of all masks."""
    for word in (4 << FRAC, (4 - 2**bits) << FRAC):
        found, _, _, _ = told(build, [word] * 400, 9, 5)
        assert 150 < int(found.sum()) < 250


@pytest.mark.parametrize("period", [9, 10])
def test_cost_of_an_audit(period: int) -> None:
    """Of exponential a table; of clamped_exponential nothing more; and a verdict's 5 bytes, sent and dealt."""
    x = given_words([-4096] * 8, 22, FRAC)
    for build in (exp(period), clamped(period, 6)):
        bare, under = outcome(build, x).cost, watched(build, torch.ones(1, 1), Input(x.x.reshape(1, 8), 22, FRAC)).cost
        table = 8 << (period - 6) if build.__qualname__.startswith("exp") else 0
        assert (under.rounds, under.sent_bytes) == (bare.rounds + 1, bare.sent_bytes + 5)
        assert sum(under.dealt_bytes) - sum(bare.dealt_bytes) == table + 5


@pytest.mark.parametrize("frac", [8, 12, 16])
@pytest.mark.parametrize("near", [4, 8])
@pytest.mark.parametrize("j", [0, -1, -2])
def test_the_public_factor_in_integers(j: int, near: int, frac: int) -> None:
    """e^(8 j + low / 2^frac) to 1e-4 against the float function, over the whole table."""
    low = torch.arange(0, 8 << frac, max(1, (8 << frac) // 50_000))
    low = torch.cat([low, torch.tensor([(8 << frac) - 1])])
    only = torch.zeros(len(low), 8, dtype=torch.int64)
    only[:, -j] = 1  # the entry of j, for a word whose high digit is 0
    factor = E._weighted_sum(low, only, frac, near)
    assert factor.dtype == torch.int64
    want = torch.exp(8.0 * j + low.to(torch.float64) * 2.0**-frac)
    assert distance(factor.to(torch.float64) * 2.0**-E.PUBLIC_FRAC, want) <= 1e-4


def test_the_tables_are_known() -> None:
    """One fingerprint: the same integers on every host."""
    table = E._table(9, 6, 0)
    assert [int(table[i]) for i in (0, 1, 64, 511)] == [1 << 25, 34082837, 91210403, 98473618228]
