"""Interval bits of a digit: every interval of small tables, against integers; both ways to read a table."""

from contextlib import nullcontext

import pytest
import torch
from checks import Input, check_corruption, check_cost, few, given_words, numbers, outcome
from hypothesis import given
from hypothesis import strategies as st
from kernels import without_kernels
from lockstep import Build
from torch import Tensor

from mpcnet.protocols.intervals import between, digit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

EACH = pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "portable"])


def inside(start: int, size: int, intervals: list[tuple[int, int]]) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return numbers(*between(digit(p, await p.open_one(x), start, size), intervals))

    return build


def digits(opened: Tensor, x: Tensor, start: int, size: int) -> Tensor:
    """J = X - R mod 2^size, of the opened words and of their masks."""
    word, mask = opened.to(torch.int64), opened.to(torch.int64) - x
    return ((word >> start) - (mask >> start)) & ((1 << size) - 1)


def wanted(j: Tensor, size: int, intervals: list[tuple[int, int]]) -> Tensor:
    rows = [[any((k - v) % (1 << size) == 0 for k in range(a, b + 1)) for v in j.tolist()] for a, b in intervals]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("start", "above"), [(0, 8), (3, 2), (2, 11)])
def test_every_interval(size: int, start: int, above: int, kernels: bool) -> None:
    """Shorter than the table, anywhere, so that many wrap; of a ring with bits above the digit, or with none."""
    count = 1 << size
    intervals = [(a, a + length) for a in range(-count - 1, count + 2) for length in range(count - 1)]
    for bits in (start + size + above, max(start + size, 8)):
        x = given_words([*range(-60, 60), -(1 << bits - 1), (1 << bits - 1) - 1], bits, 0)
        with nullcontext() if kernels else without_kernels():
            done = outcome(inside(start, size, intervals), x)
        real = digits(done.run.opened[0][1], x.x.to(torch.int64), start, size)
        floor = (x.x.to(torch.int64) >> start) & (count - 1)
        assert (((real - floor) & (count - 1)) <= 1).all(), "J is floor(x / 2^start), or one more"
        if intervals:
            want = wanted(real, size, intervals)
            assert torch.equal(done.value.reshape(want.shape) % 2, want)
            whole = wanted(floor, size, intervals)  # with a mask of 0
            assert torch.equal(done.oracle.reshape(want.shape) % 2, whole)


@few
@given(st.data(), st.integers(5, 9), st.integers(0, 20), st.booleans(), st.integers(0, 2**31))
def test_any_interval_of_large_tables(data: st.DataObject, size: int, start: int, kernels: bool, seed: int) -> None:
    bits = start + size + data.draw(st.integers(0, 20))
    low = data.draw(st.integers(-(2**size), 2**size))
    intervals = [(low, low + data.draw(st.integers(0, 2**size - 2)))]
    words = data.draw(st.lists(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), min_size=1, max_size=30))
    x = given_words(words, max(bits, 8), 0)
    with nullcontext() if kernels else without_kernels():
        done = outcome(inside(start, size, intervals), x, seed=seed)
    real = digits(done.run.opened[0][1], x.x.to(torch.int64), start, size)
    assert torch.equal(done.value.reshape(-1) % 2, wanted(real, size, intervals)[0])


def test_cost() -> None:
    """One table serves every interval; nothing is sent."""
    x = given_words(list(range(16)), 22, 0)
    done = outcome(inside(15, 6, [(0, 3), (-7, 0), (60, 70), (1, 1)]), x)
    check_cost(done, rounds=1, sent=3 * 16, dealt=16 * (1 << 6) // 8)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (), (2, 3, 1)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, 9.0, dtype=torch.float64), 20, 0)
    done = outcome(inside(2, 4, [(2, 3)]), x)
    assert torch.equal(done.value % 2, torch.ones(shape, dtype=torch.float64))


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(inside(6, 6, [(0, 20)]), given_words(list(range(40)), 12, 0), modulus=2)
