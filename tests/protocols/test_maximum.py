"""The tournament: exactly the largest of those that take part, in the rounds and bytes that their number gives."""

from __future__ import annotations

from functools import partial
from math import ceil

import pytest
import torch
from checks import check_corruption, check_cost, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st

from mpcnet.protocols.maximum import largest

BITS, FRAC = 26, 14


@few
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**31))
def test_largest(count: int, columns: int, seed: int) -> None:
    """With any mask but an empty one, wherever its gaps are."""
    x = uniform((3, count, columns), -1000.0, 1000.0, BITS, FRAC, seed)
    keep = torch.rand(3, count, generator=torch.Generator().manual_seed(seed)) < 0.6
    keep[:, seed % count] = True
    want = x.x.masked_fill(~keep[..., None], -torch.inf).amax(1)
    done = outcome(partial(largest, keep=keep), x, seed=seed)
    assert torch.equal(done.value, want)
    assert torch.equal(done.oracle, want)


def test_limits_and_one_unit_apart() -> None:
    most = 2 ** (BITS - 1) - 1
    pairs = [(0, most), (most, 0), (-most, 0), (0, -most), (0, 1), (1, 0), (-1, 0), (5, 5)]
    x = given_words([word for pair in pairs for word in pair], BITS, FRAC)
    x.x.resize_(len(pairs), 2, 1)
    done = outcome(partial(largest, keep=torch.ones(len(pairs), 2, dtype=torch.bool)), x)
    assert (done.value[:, 0] * 2**FRAC).tolist() == [max(pair) for pair in pairs]


@pytest.mark.parametrize(("count", "levels"), [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4)])
def test_cost(count: int, levels: int) -> None:
    """Eight columns, so that the bits of each comparison are whole bytes."""
    x = uniform((1, count, 8), -9.0, 9.0, BITS, FRAC)
    done = outcome(partial(largest, keep=torch.ones(1, count, dtype=torch.bool)), x)
    compared = count - 1
    assert done.cost.rounds == 3 * levels == 3 * ceil(torch.tensor(float(count)).log2())
    check_cost(done, rounds=3 * levels, sent=compared * (8 * 4 + 9), dealt=compared * (198 + 8 * 8))


def test_corruption() -> None:
    check_corruption(
        partial(largest, keep=torch.ones(2, 3, dtype=torch.bool)), uniform((2, 3, 4), -9.0, 9.0, BITS, FRAC)
    )
