"""The arg max: exactly one bit, the first of equal values, in the rounds and bytes that the number of values gives."""

from math import ceil

import pytest
import torch
from checks import check_corruption, check_cost, few, given_words, numbers, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.argmax import DIFFERENCE_BITS, one_hot_argmax
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

ROWS = 8  # so that a bit of each row is a byte


async def argmax(p: Party, x: Shared) -> Shared:
    return numbers(await one_hot_argmax(p, x))


def one_hot(x: Tensor) -> Tensor:
    """Of equal values the first, as Tensor.argmax does not promise."""
    count = x.shape[-1]
    first = (x == x.amax(-1, keepdim=True)).to(torch.float64) * torch.arange(count, 0, -1)
    return torch.nn.functional.one_hot(first.argmax(-1), count).to(torch.float64)


@few
@given(st.integers(2, 7), st.integers(1, 6), st.integers(0, 2**31))
def test_argmax(labels: int, rows: int, seed: int) -> None:
    """Among few values, so that many are equal, and among many."""
    for spread, frac in ((1.0, 0), (250.0, 16)):
        x = uniform((rows, labels), -spread, spread, 38, frac, seed)
        done = outcome(argmax, x, seed=seed)
        for value in (done.value, done.oracle):
            assert torch.equal(value % 2, one_hot(x.x))


def test_equal_values_and_one_unit_apart() -> None:
    words = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 3)
    x = given_words(words.flatten().tolist(), 38, 16)
    x.x.resize_(27, 3)
    value = outcome(argmax, x).value % 2
    assert torch.equal(value, one_hot(x.x))
    assert torch.equal(value.sum(-1), torch.ones(27, dtype=torch.float64))
    assert value[13].tolist() == [1, 0, 0]  # all are 0


def test_differences_at_the_limits_of_their_ring() -> None:
    most = 2 ** (DIFFERENCE_BITS - 1) - 1
    x = given_words([0, most, most, 0, -most, 0, 0, -most], 38, 16)
    x.x.resize_(4, 2)
    assert (outcome(argmax, x).value % 2).tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(("labels", "rounds", "products"), [(2, 2, 0), (3, 3, 1), (4, 3, 4), (5, 3, 11)])
def test_cost(labels: int, rounds: int, products: int) -> None:
    pairs, factors = labels * (labels - 1) // 2, labels * (labels - 1) if labels > 2 else 0
    done = outcome(argmax, uniform((ROWS, labels), -9, 9, 38, 16))
    sent = ROWS * 4 * pairs + 8 * pairs + factors
    check_cost(done, rounds=rounds, sent=sent, dealt=198 * pairs + labels * products)


@pytest.mark.parametrize(("labels", "rounds"), [(6, 4), (17, 4), (18, 5)])
def test_rounds_of_many_values(labels: int, rounds: int) -> None:
    done = outcome(argmax, uniform((2, labels), -9, 9, 38, 16))
    assert done.cost.rounds == rounds
    assert torch.equal((done.value % 2).sum(-1), torch.ones(2, dtype=torch.float64))


def test_whole_bytes_of_a_single_row() -> None:
    """4 bytes and 8 bits of the one pair of two values."""
    check_cost(outcome(argmax, uniform((1, 2), -9, 9, 38, 16)), rounds=2, sent=4 + 8 * ceil(1 / 8))


def test_no_rows() -> None:
    assert outcome(argmax, uniform((0, 3), -1, 1, 38, 16)).value.shape == (0, 3)


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(argmax, uniform((40, 2), -9, 9, 38, 16), modulus=2)
    check_corruption(argmax, uniform((40, 4), -9, 9, 38, 16), modulus=2)


def test_refreshed_shares_tell_the_bits_only() -> None:
    """What a client sees: one server's share of each bit is uniform, also where all rows are alike."""
    session = Session(3)

    async def build(p: Party, x: Shared) -> Shared:
        hot = await one_hot_argmax(p, x)
        return numbers(hot ^ p.zero_bits(hot.shape))

    run = session.run(build, session.share(torch.tensor([[1.0, 3.0, 2.0]]).expand(4000, 3), 38, 16))
    assert torch.equal(run.value() % 2, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64).expand(4000, 3))
    share = (run.results[0].value & 1).to(torch.float64)
    assert (share.mean(0) - 0.5).abs().max() < 5 * 0.5 / 4000**0.5
    together = ring.fit(run.results[0].value[:, 0] ^ run.results[0].value[:, 2], 8).to(torch.float64)
    assert abs(float(together.mean()) - 0.5) < 5 * 0.5 / 4000**0.5
