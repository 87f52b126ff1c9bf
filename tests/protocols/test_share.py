"""Shared, Masked and Lifted: the operators that are free."""

from collections.abc import Callable

import pytest
import torch
from checks import Input, check_cost, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st

from mpcnet.protocols.arith import lift, own_ring
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, MaskedBits, Shared
from mpcnet.randomness.source import PlainSource

Operator = Callable[[Shared, Shared], Shared]
X, Y = uniform((4, 6), -5, 5, 40, 12), uniform((4, 6), -5, 5, 40, 12, seed=1)
PUBLIC = torch.tensor([1.5, -2.0, 0.25, 0.0, 3.0, -1.0], dtype=torch.float64)
FACTORS = torch.tensor([1, -2, 3, 0, 5, 7])


@pytest.mark.parametrize(
    ("shared", "real"),
    [
        (lambda x, y: x + y, lambda x, y: x + y),
        (lambda x, y: x - y, lambda x, y: x - y),
        (lambda x, y: -x, lambda x, y: -x),
        (lambda x, y: x + 1.25, lambda x, y: x + 1.25),
        (lambda x, y: x - 1.25, lambda x, y: x - 1.25),
        (lambda x, y: x + PUBLIC, lambda x, y: x + PUBLIC),
        (lambda x, y: x.scale(-3), lambda x, y: -3 * x),
        (lambda x, y: x.scale(FACTORS), lambda x, y: x * FACTORS),
        (lambda x, y: x.scale(5, 4), lambda x, y: x * 5 / 16),
        (lambda x, y: x.halve(), lambda x, y: x / 2),
        (lambda x, y: x.halve(3), lambda x, y: x / 8),
        (lambda x, y: x.sum(-1), lambda x, y: x.sum(-1)),
        (lambda x, y: x.sum(0, keepdim=True), lambda x, y: x.sum(0, keepdim=True)),
        (lambda x, y: x.reshape(2, 12), lambda x, y: x.reshape(2, 12)),
        (lambda x, y: x.map(lambda v: v.transpose(0, 1)), lambda x, y: x.t()),
        (lambda x, y: x.take(2), lambda x, y: x[2]),
        (lambda x, y: x.take((..., slice(1, 4))), lambda x, y: x[..., 1:4]),
        (lambda x, y: x.reduce(20) + y, lambda x, y: x + y),
    ],
)
def test_operators_are_exact_and_free(shared: Operator, real: Callable[..., torch.Tensor]) -> None:
    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        return shared(x, y)

    done = outcome(build, X, Y)
    assert torch.equal(done.value, real(X.x, Y.x))
    assert torch.equal(done.oracle, done.value)
    check_cost(done, rounds=0, sent=0, dealt=0)


@few
@given(st.integers(-(2**40), 2**40), st.floats(-4, 4), st.integers(0, 12))
def test_affine_of_a_lifted_value(factor: int, offset: float, frac: int) -> None:
    factor = factor % 2**10 - 2**9
    offset = round(offset * 2**12) / 2**12

    async def build(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x)).affine(factor, offset, frac).shared()

    x = uniform((5,), -7, 7, 20, 12)
    done = outcome(build, x)
    assert torch.equal(done.value, x.x * factor / 2**frac + offset)


def test_rearranging_masked_and_lifted_values() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        opened = (await p.open_one(x)).map(lambda v: v.transpose(0, 1))
        first = own_ring(opened).shared().map(lambda v: v.reshape(24))
        second = lift(p, opened, 40).shared().map(lambda v: v.reshape(24))
        return first - second.scale(2)

    x = uniform((4, 6), -7, 7, 20, 12)
    assert torch.equal(outcome(build, x).value, -x.x.t().reshape(24))


def test_refusals() -> None:
    x = Shared(torch.zeros(3, dtype=torch.int32), 20, 8, 0)
    with pytest.raises(ValueError, match="cannot add 8 and 9 fraction bits"):
        _ = x + x.halve()
    with pytest.raises(ValueError, match="cannot grow from 20 to 21 bits"):
        x.reduce(21)
    with pytest.raises(ValueError, match=r"cannot add bits \[3\] and \[4\]"):
        _ = Bits.of(torch.ones(3), 0) ^ Bits.of(torch.ones(4), 0)


def test_shares_have_no_representation() -> None:
    bits = Bits.of(torch.zeros(3, dtype=torch.uint8), 0)
    secret = PlainSource().mask([3], 1)
    for value in (
        Shared(torch.zeros(3, dtype=torch.int32), 20, 8, 0), bits, MaskedBits(bits.packed, secret, bits.shape, 0)
    ):  # fmt: skip
        assert "tensor" not in repr(value)


def test_empty() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return (x + x).sum(0)

    assert outcome(build, Input(torch.zeros(2, 0, dtype=torch.float64), 20, 8)).value.shape == (0,)


@pytest.mark.parametrize(("bits", "narrow"), [(22, 19), (8, 6), (32, 16), (40, 33)])
def test_an_opened_value_in_a_narrower_ring(bits: int, narrow: int) -> None:
    """It is shared, and grows, as if it had been opened there."""
    edge = 2 ** (narrow - 2)
    x = given_words([-edge, -1, 0, 1, 5, edge - 1], bits, 0)

    async def grown(p: Party, value: Shared) -> Shared:
        return lift(p, (await p.open_one(value)).reduce(narrow), 48).shared()

    async def shared(p: Party, value: Shared) -> Shared:
        return (await p.open_one(value)).reduce(narrow).shared()

    for seed in range(10):
        for build in (grown, shared):
            done = outcome(build, x, seed=seed)
            assert torch.equal(done.value, x.x)
            assert torch.equal(done.oracle, x.x)
