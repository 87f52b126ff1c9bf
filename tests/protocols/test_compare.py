"""Comparisons: right at every threshold, one ulp to either side, and in the rounds the block count gives."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, few, given_words, numbers, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build

from mpcnet.protocols.compare import BLOCK, at_least, pi_lt, tables
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared
from mpcnet.randomness import onehot


def compare(thresholds: list[float], drop: int = 0) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return numbers(*await at_least(p, await p.open_one(x), thresholds, drop))

    return build


@few
@given(st.lists(st.integers(-(2**22), 2**22), min_size=1, max_size=30), st.lists(st.integers(-(2**22), 2**22), min_size=1, max_size=3),
       st.integers(0, 2**31))  # fmt: skip
def test_at_least(words: list[int], levels: list[int], seed: int) -> None:
    x = given_words([*words, *levels], 24, 12)
    thresholds = [level / 2**12 for level in levels]
    done = outcome(compare(thresholds), x, seed=seed)
    want = torch.stack([(x.x >= theta).to(torch.float64) for theta in thresholds])
    assert torch.equal(done.value.reshape(want.shape) % 2, want)
    assert torch.equal(done.oracle.reshape(want.shape) % 2, want)


def join_bits(blocks: int) -> int:
    """Bits dealt for one join of `blocks` blocks: the subsets of two or more of its products' bits."""
    monomials = [(i, *range(blocks - 1 + i, 2 * blocks - 2)) for i in range(blocks - 1)]
    subsets = {s for m in monomials for mask in range(1 << len(m))
               for s in [tuple(b for k, b in enumerate(m) if mask >> k & 1)] if len(s) > 1}  # fmt: skip
    return len(subsets)


@pytest.mark.parametrize(
    ("bits", "drop", "blocks", "rounds"),
    [
        (7, 0, 2, 1),
        (17, 0, 4, 1),
        (20, 0, 4, 1),
        (26, 0, 5, 1),
        (27, 1, 5, 1),
        (24, 10, 3, 1),
        (33, 12, 4, 1),
        (27, 0, 6, 2),
        (28, 0, 6, 2),
        (64, 0, 13, 2),
    ],
)
def test_cost(bits: int, drop: int, blocks: int, rounds: int) -> None:
    """The comparison's own rounds; the opening of x comes on top. 8 elements, so a bit of each is a byte."""
    x = uniform((8,), -1, 1, bits, 4 if bits > 7 else 2)
    thresholds = [-0.5, 0.25]
    done = outcome(compare(thresholds, drop), x)
    assert blocks == -(-(bits - drop - 1) // BLOCK)
    assert done.cost.rounds == 1 + rounds
    if rounds == 1:
        sent, joined = len(thresholds) * (2 * blocks - 2), len(thresholds) * join_bits(blocks)
        size, larger = divmod(bits - drop - 1, blocks)
        check_cost(done, 2, 8 * ((bits + 7) // 8) + sent, ((blocks + larger) << size) + 1 + joined)


@pytest.mark.parametrize(("block", "rounds"), [(4, 2), (7, 1), (2, 2), (1, 3)])
def test_wider_blocks_save_rounds(block: int, rounds: int) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return numbers(*await at_least(p, await p.open_one(x), [-0.5, 0.25], block=block))

    x = uniform((40,), -1, 1, 26, 12)
    done = outcome(build, x)
    assert torch.equal(done.value % 2, torch.stack([(x.x >= t).to(torch.float64) for t in (-0.5, 0.25)]))
    assert done.cost.rounds == 1 + rounds


def test_the_dealt_bits_of_a_join() -> None:
    assert [join_bits(blocks) for blocks in (2, 3, 4, 5, 6)] == [1, 5, 15, 37, 83]


def test_one_block_needs_no_join() -> None:
    x = given_words([-3, -1, 0, 1, 2, 3, -2, 1], 6, 0)
    done = outcome(compare([1.0]), x)
    assert torch.equal(done.value % 2, (x.x >= 1).to(torch.float64))
    check_cost(done, rounds=1, sent=8, dealt=32 + 1)


@pytest.mark.parametrize("bits", [20, 24, 64])
def test_edges(bits: int) -> None:
    """0, one ulp to either side of a threshold, and the limits of the range |x - theta| < 2^(k-1)."""
    theta = 3
    limit = min(2 ** (bits - 1) - 1, 2**50)
    x = given_words([theta, theta - 1, theta + 1, 0, 1, -1, limit, theta - limit] * 20, bits, 0)
    done = outcome(compare([float(theta)]), x)
    assert torch.equal(done.value % 2, (x.x >= theta).to(torch.float64))


@pytest.mark.parametrize("drop", [1, 4, 10])
def test_drop_errs_only_just_below_the_threshold(drop: int) -> None:
    """Right outside [theta - 2^d, theta); inside it, 1 with the probability of a carry from the dropped bits."""
    width = 1 << drop
    words = torch.arange(-2 * width, 2 * width).repeat(max(1, 4000 // (4 * width)))
    done = outcome(compare([0.0], drop), given_words(words.tolist(), 24, 0))
    got = done.value % 2
    assert got[words >= 0].all()
    assert not got[words < -width].any()
    between = got[(words < 0) & (words >= -width)]
    expected = float(((words[(words < 0) & (words >= -width)] + width) / width).mean())
    assert abs(float(between.mean()) - expected) < 5 * (0.25 / between.numel()) ** 0.5


def test_tables_are_one_hot() -> None:
    """Shares of the blocks of the mask: each table has one 1, at the mask's own digit."""

    async def build(p: Party, x: Shared) -> Shared:
        known = tables(p, await p.open_one(x))
        assert known.sizes == (5, 4, 4, 4, 4)
        return numbers(Bits(known.rows, (10, onehot.entries(known.sizes)), x.party))

    x = uniform((10,), 0, 0, 22, 0)
    done = outcome(build, x)
    digits, start, place = torch.zeros(10, dtype=torch.int64), 0, 0
    for size in (5, 4, 4, 4, 4):
        table = (done.value % 2)[:, start : start + (1 << size)]
        assert torch.equal(table.sum(-1), torch.ones(10, dtype=torch.float64))
        digits += table.argmax(-1) << place
        start, place = start + (1 << size), place + size
    assert torch.equal(digits, done.run.opened[0][1].to(torch.int64) & (2**21 - 1))
    check_cost(done, rounds=1, sent=30, dealt=10 * 96 // 8 + 2)


@few
@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=16), st.integers(0, 2**31))
def test_pi_lt(words: list[int], seed: int) -> None:
    words = [word >> 10 << 10 for word in words]  # exact as float64
    x, y = given_words(words, 64, 16), given_words(words[::-1], 64, 16)
    done = outcome(pi_lt, x, y, seed=seed)
    want = (x.x < y.x).to(torch.float64)
    assert torch.equal(done.value, want)
    assert torch.equal(done.oracle, want)
    assert (done.run.results[0].bits, done.run.results[0].frac) == (64, 0)


def test_pi_lt_cost() -> None:
    """8 bytes for x - y, 28 + 6 bits for the joins, 1 for the result."""
    done = outcome(pi_lt, uniform((8,), -9, 9, 64, 16), uniform((8,), -9, 9, 64, 16, 1))
    check_cost(done, rounds=4, sent=8 * 8 + 28 + 6 + 1, dealt=432)


def test_pi_lt_at_one_ulp() -> None:
    x, y = given_words([5, 5, 5, 0, 0, -1], 64, 16), given_words([4, 5, 6, 1, -1, 0], 64, 16)
    assert outcome(pi_lt, x, y).value.tolist() == [0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    x, y = (Input(torch.full(shape, v, dtype=torch.float64), 64, 16) for v in (1.0, 2.0))
    assert torch.equal(outcome(pi_lt, x, y).value, torch.ones(shape, dtype=torch.float64))


def test_one_corrupted_reply_changes_the_result() -> None:
    x, y = uniform((40,), -9, 9, 64, 16), uniform((40,), -9, 9, 64, 16, 1)
    check_corruption(pi_lt, x, y)
    check_corruption(compare([-1.0, 2.0]), uniform((40,), -9, 9, 24, 16), modulus=2)
