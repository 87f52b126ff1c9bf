"""e^x in one opening over a wide range, and the integer factor that is the same on every host."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build, Session

from protocols import exponential as E
from protocols.exponential import exponential
from protocols.party import Party
from protocols.share import Shared


def exp(bits: int) -> Build:
    """Of an argument opened mod 2^bits."""

    async def build(p: Party, x: Shared) -> Shared:
        return exponential(p, await p.open_one(x.reduce(bits + x.frac)), 16)

    return build


@few
@given(st.data(), st.sampled_from([5, 6, 7]), st.integers(0, 2**31))
def test_exponential(data: st.DataObject, bits: int, seed: int) -> None:
    words = data.draw(st.lists(st.integers(-E.reach(bits) * 2**12 + 1, 0), min_size=1, max_size=20))
    x = given_words(words, 22, 12)
    done = outcome(exp(bits), x, seed=seed)
    assert distance(done.value, torch.exp(x.x)) <= 5e-5
    assert distance(done.oracle, torch.exp(x.x)) <= 5e-5
    check_cost(done, rounds=1, sent=3 * len(words), dealt=2**bits * len(words))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (24 + 16, 16)


@pytest.mark.parametrize("bits", [5, 6, 7])
def test_on_a_dense_grid(bits: int) -> None:
    wide = uniform((20_000,), 0.1 - E.reach(bits), 0, 22, 12).x
    x = Input(torch.cat([uniform((20_000,), -16, 0, 22, 12).x, wide]), 22, 12)
    assert distance(outcome(exp(bits), x).value, torch.exp(x.x)) <= 5e-5


@pytest.mark.parametrize("bits", [5, 6, 7])
def test_edges(bits: int) -> None:
    """0, one ulp below it, and the end of the range; each with masks enough to meet every bucket."""
    ulp, end = 2.0**-12, -float(E.reach(bits))
    x = Input(
        torch.tensor([0.0, -ulp, end, end + ulp, -8.0, -8 - ulp, -16.0, -24.0] * 200, dtype=torch.float64), 22, 12
    )
    assert distance(outcome(exp(bits), x).value, torch.exp(x.x)) <= 5e-5


@pytest.mark.parametrize("frac", [3, 8, 14, 16])
def test_other_scales(frac: int) -> None:
    x = uniform((3000,), -30, 0, 10 + frac, frac)
    assert distance(outcome(exp(7), x).value, torch.exp(x.x)) <= 6e-5


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, -0.5, dtype=torch.float64), 22, 12)
    assert distance(outcome(exp(7), x).value, torch.exp(x.x)) <= 5e-5


def test_a_period_of_16_is_too_short() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return exponential(p, await p.open_one(x), 16)

    session = Session()
    with pytest.raises(ValueError, match="want an argument of at least 17 bits, got 16"):
        session.run(build, session.share(torch.zeros(2), 16, 12))


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(exp(7), uniform((40,), -3, 0, 22, 12))


@pytest.mark.parametrize("frac", [8, 12, 16])
@pytest.mark.parametrize("j", [0, -1, -2])
def test_the_public_factor_in_integers(j: int, frac: int) -> None:
    """e^(8 j + low / 2^frac) to 1e-4 against the float function, over the whole table."""
    low = torch.arange(0, 8 << frac, max(1, (8 << frac) // 50_000))
    low = torch.cat([low, torch.tensor([(8 << frac) - 1])])
    only = torch.zeros(len(low), 8, dtype=torch.int64)
    only[:, -j] = 1  # the entry of j, for a word whose high digit is 0
    factor = E._weighted_sum(low, only, frac)
    assert factor.dtype == torch.int64
    want = torch.exp(8.0 * j + low.to(torch.float64) * 2.0**-frac)
    assert distance(factor.to(torch.float64) * 2.0**-E.PUBLIC_FRAC, want) <= 1e-4


def test_the_tables_are_known() -> None:
    """One fingerprint: the same integers on every host."""
    table = E._table(9, 6, 0)
    assert [int(table[i]) for i in (0, 1, 64, 511)] == [1 << 25, 34082837, 91210403, 98473618228]
