"""Quad: within a unit of the exact value on the whole ring, in one round."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpcnet.protocols import quad as Q
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

ULP, LIMIT = 2.0**-12, 2.0**10  # of 24 bits with 12 fraction bits: |x + 1| < 2^22 as an integer


def exact(x: Tensor) -> Tensor:
    return 0.125 * x**2 + 0.25 * x + 0.5


async def quad(p: Party, x: Shared) -> Shared:
    return await Q.quad(p, x, 40)


def test_every_value_of_the_ring() -> None:
    x = uniform((4000,), -LIMIT - 1 + ULP, LIMIT - 1 - ULP, 24, 12)
    done = outcome(quad, x)
    assert distance(done.value, exact(x.x)) <= ULP
    assert distance(done.oracle, exact(x.x)) <= ULP / 2
    assert (done.run.results[0].bits, done.run.results[0].frac) == (40, 12)
    check_cost(done, rounds=1, sent=3 * 4000, dealt=20 * 4000)


@few
@given(words=st.lists(st.integers(-(2**22), 2**22 - 2**12 - 1), min_size=1, max_size=12), seed=st.integers(0, 2**31))
def test_any_words(words: list[int], seed: int) -> None:
    x = given_words(words, 24, 12)
    assert distance(outcome(quad, x, seed=seed).value, exact(x.x)) <= ULP


def test_edges() -> None:
    """Its minimum at -1, where the square is 0, zero, and a unit to either side of them."""
    at = [-1.0, 0.0, 1.0, -LIMIT, LIMIT - 1 - 2 * ULP]
    x = Input(torch.tensor([a + d for a in at for d in (-ULP, 0.0, ULP)] * 30, dtype=torch.float64), 24, 12)
    done = outcome(quad, x)
    assert distance(done.value, exact(x.x)) <= ULP
    assert float(done.value.min()) >= 0.375 - ULP


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, 0.75, dtype=torch.float64), 24, 12)
    assert distance(outcome(quad, x).value, exact(x.x)) <= ULP


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(quad, uniform((64,), -5, 5, 24, 12))


def test_a_ring_in_which_squares_do_not_fit_is_refused() -> None:
    async def narrow(p: Party, x: Shared) -> Shared:
        return await Q.quad(p, x, 30)

    with pytest.raises(ValueError, match="want a ring for squares of 24 bits less 15, got 30 bits"):
        evaluate(lambda p: narrow(p, Input(torch.zeros(4), 24, 12).plain()))
