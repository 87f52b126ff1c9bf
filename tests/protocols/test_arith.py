"""Products of opened values: exact, local, and dealt to the byte the docstrings give."""

import pytest
import torch
from checks import Input, Result, check_corruption, check_cost, distance, few, given_words, outcome, uniform
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session

from mpcnet.protocols.arith import lift, lift_bit, matmul, own_ring, pi_matmul, pi_mul, pi_square, product, square
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared
from mpcnet.rounds import parallel

WORDS = st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=20)
SEEDS = st.integers(0, 2**31)


@few
@given(WORDS, SEEDS)
def test_pi_mul(words: list[int], seed: int) -> None:
    x, y = given_words(words, 64, 12), given_words(words[::-1], 64, 12)
    done = outcome(pi_mul, x, y, seed=seed)
    assert torch.equal(done.value, x.x * y.x)
    assert torch.equal(done.oracle, done.value)
    check_cost(done, rounds=1, sent=16 * len(words), dealt=8 * len(words))


@few
@given(WORDS, SEEDS)
def test_pi_square(words: list[int], seed: int) -> None:
    x = given_words(words, 64, 12)
    done = outcome(pi_square, x, seed=seed)
    assert torch.equal(done.value, x.x**2)
    assert torch.equal(done.oracle, done.value)
    check_cost(done, rounds=1, sent=8 * len(words), dealt=8 * len(words))


@few
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_pi_matmul(rows: int, inner: int, columns: int, seed: int) -> None:
    x = uniform((rows, inner), -20, 20, 64, 12, seed)
    y = uniform((inner, columns), -20, 20, 64, 12, seed + 1)
    done = outcome(pi_matmul, x, y, seed=seed)
    assert torch.equal(done.value, x.x @ y.x)
    assert torch.equal(done.oracle, done.value)
    check_cost(done, rounds=1, sent=8 * (rows * inner + inner * columns), dealt=8 * rows * columns)


def test_pi_matmul_in_batches() -> None:
    x, y = uniform((2, 1, 3, 4), -2, 2, 64, 12), uniform((5, 4, 2), -2, 2, 64, 12)
    done = outcome(pi_matmul, x, y)
    assert torch.equal(done.value, x.x @ y.x)
    check_cost(done, rounds=1, sent=8 * (24 + 40), dealt=8 * 2 * 5 * 3 * 2)


def test_pi_matmul_of_widths_that_do_not_fit() -> None:
    session = Session()
    shares = [session.share(torch.zeros(2, 3), 64, 0), session.share(torch.zeros(2, 3), 64, 0)]
    with pytest.raises(ValueError, match=r"matrix product of \[2, 3\] and \[2, 3\]"):
        session.run(pi_matmul, *shares)


@pytest.mark.parametrize("bits", [8, 13, 16, 32, 40])
def test_products_in_narrow_rings_are_exact_modulo_the_ring(bits: int) -> None:
    """Whatever the values: what overflows wraps, in the same way as integers do."""
    x = given_words([1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 3, 0], bits, 0)
    y = given_words([-1, -1, 3, 5, 2 ** (bits - 2), 7], bits, 0)
    done = outcome(pi_mul, x, y)
    for a, b, got in zip(x.x.tolist(), y.x.tolist(), done.value.tolist(), strict=True):
        assert (int(a) * int(b) - int(got)) % 2**bits == 0
    check_cost(done, rounds=1, sent=2 * 6 * ((bits + 7) // 8), dealt=6 * ((bits + 7) // 8))


def test_matmul_lands_in_the_narrower_ring() -> None:
    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        a, b = await p.open(x, y)
        return matmul(p, a, b)

    x, y = uniform((3, 4), -4, 4, 32, 8), uniform((4, 2), -4, 4, 48, 10, 1)
    done = outcome(build, x, y)
    assert (done.run.results[0].bits, done.run.results[0].frac) == (32, 18)
    assert torch.equal(done.value, x.x @ y.x)
    check_cost(done, rounds=1, sent=12 * 4 + 8 * 6, dealt=6 * 4)


async def lifted_square(p: Party, x: Shared) -> Shared:
    return square(p, lift(p, await p.open_one(x)))


async def lifted_product(p: Party, x: Shared, y: Shared) -> Shared:
    a, b = await p.open(x, y)
    return product(p, lift(p, a), lift(p, b))


LIFTED_WORDS = st.lists(st.integers(-(2**26), 2**26 - 1), min_size=1, max_size=12)


@few
@given(LIFTED_WORDS, SEEDS)
def test_square_by_lift(words: list[int], seed: int) -> None:
    """Over the whole range |x| < 2^(k-2), both ends included; 4 carry, 5 top + 8 + 4 cross bytes as the shifts leave."""
    x = given_words(words, 28, 14)
    done = outcome(lifted_square, x, seed=seed)
    assert torch.equal(done.value, x.x**2)
    assert torch.equal(done.oracle, done.value)
    check_cost(done, rounds=1, sent=4 * len(words), dealt=(2 * 5 + 8 + 5 + 1) * len(words))


@few
@given(LIFTED_WORDS, SEEDS)
def test_product_by_lift(words: list[int], seed: int) -> None:
    x, y = given_words(words, 28, 14), given_words(words[::-1], 28, 12)
    done = outcome(lifted_product, x, y, seed=seed)
    assert torch.equal(done.value, x.x * y.x)
    assert torch.equal(done.oracle, done.value)
    lifts, crosses = 2 * 2 * 5, 8 + 5 + 5 + 1  # shifts 0, 28, 28, 56 of 64 bits
    check_cost(done, rounds=1, sent=8 * len(words), dealt=(lifts + crosses) * len(words))


def test_lift_covers_its_range_and_not_one_ulp_more() -> None:
    edge = 2**10  # of a 12-bit ring
    inside = given_words([-edge, -edge + 1, -1, 0, 1, edge - 2, edge - 1] * 50, 12, 0)
    assert torch.equal(outcome(lifted_square, inside).value, inside.x**2)
    outside = given_words(
        [3 * edge // 2] * 50, 12, 0
    )  # 3/8 of the ring: x' reaches its upper half, and wraps are missed
    assert not torch.equal(outcome(lifted_square, outside).value, outside.x**2)


@pytest.mark.parametrize("spare", [1, 2, 3])
def test_what_is_dealt_may_count_modulo_two(spare: int) -> None:
    """Of the top bits' product, and of a carry, so many bits are left; packed bits are no numbers."""

    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        a, b = await p.open(x, y)
        return product(p, lift(p, a, 24 + spare), lift(p, b, 24 + spare))

    async def regrown(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 24 + spare).shared()

    words = [-(2**10), -7, 0, 5, 2**10 - 1, 1, 2, 3, 4]
    x, y = given_words(words, 12, 0), given_words(words[::-1], 12, 0)
    done = outcome(build, x, y)
    assert torch.equal(done.value, x.x * y.x) and torch.equal(done.oracle, done.value)
    lifts, crosses = 2 * 2 * 2, 4 + 2 + 2 + 1  # shifts 0, 12, 12, 24
    check_cost(done, rounds=1, sent=4 * len(words), dealt=(lifts + crosses) * len(words))
    grown = outcome(regrown, given_words(words, 24, 0))
    assert torch.equal(grown.value, x.x) and torch.equal(grown.oracle, x.x)
    check_cost(grown, rounds=1, sent=3 * len(words), dealt=2 * len(words))


def test_product_broadcasts() -> None:
    x, y = uniform((3, 4), -7, 7, 24, 12), uniform((3, 1), -7, 7, 20, 12)
    done = outcome(lifted_product, x, y)
    assert torch.equal(done.value, x.x * y.x)


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
@pytest.mark.parametrize("build", [pi_square, lifted_square])
def test_empty_and_scalar(build: object, shape: tuple[int, ...]) -> None:
    x = Input(torch.full(shape, -1.5, dtype=torch.float64), 28, 12)
    done: Result = outcome(build, x)  # type: ignore[arg-type]
    assert torch.equal(done.value, x.x**2)


def test_empty_matmul() -> None:
    x, y = (Input(torch.zeros(*shape, dtype=torch.float64), 64, 12) for shape in ((2, 0), (0, 3)))
    assert torch.equal(outcome(pi_matmul, x, y).value, torch.zeros(2, 3, dtype=torch.float64))


@few
@given(st.lists(st.integers(-(2**22), 2**22 - 1), min_size=1, max_size=20), SEEDS)
def test_growth(words: list[int], seed: int) -> None:
    async def build(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 64).shared()

    x = given_words(words, 24, 12)
    done = outcome(build, x, seed=seed)
    assert torch.equal(done.value, x.x)
    assert torch.equal(done.oracle, x.x)
    check_cost(done, rounds=1, sent=3 * len(words), dealt=2 * 5 * len(words))


def test_growth_to_the_same_ring_and_not_to_a_narrower_one() -> None:
    async def same(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 24).shared()

    async def narrower(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 20).shared()

    x = uniform((5,), -3, 3, 24, 12)
    done = outcome(same, x)
    assert torch.equal(done.value, x.x)
    check_cost(done, rounds=1, sent=15, dealt=0)
    session = Session()
    with pytest.raises(ValueError, match="cannot lift 24 bits to 20"):
        session.run(narrower, session.share(x.x, 24, 12))


def lowest(x: Shared) -> Bits:
    """The lowest bits of shared words: the sum of the shares' is theirs mod 2."""
    return Bits.of(x.value & 1, x.party)


@pytest.mark.parametrize("bits", [8, 16, 20, 64])
def test_lift_bit(bits: int) -> None:
    async def build(p: Party, b: Shared) -> Shared:
        (opened,) = await p.open_bits(lowest(b))
        return lift_bit(p, opened, bits).shared()

    b = given_words([0, 1] * 20, 8, 0)
    done = outcome(build, b)
    assert torch.equal(done.value, b.x)
    assert torch.equal(done.oracle, b.x)
    check_cost(done, rounds=1, sent=5, dealt=40 * ((bits + 7) // 8))


def test_a_bit_times_a_value_costs_one_round() -> None:
    async def build(p: Party, b: Shared, x: Shared) -> Shared:
        (chosen,), (value,) = await parallel(p.open_bits(lowest(b)), p.open(x))
        return product(p, lift_bit(p, chosen), lift(p, value))

    b, x = Input(torch.tensor([0.0, 1.0] * 8, dtype=torch.float64), 8, 0), uniform((16,), -7, 7, 20, 12)
    done = outcome(build, b, x)
    assert torch.equal(done.value, b.x * x.x)
    check_cost(done, rounds=1, sent=2 + 16 * 3)
    check_corruption(build, b, x)


def test_rings_must_agree() -> None:
    async def build(p: Party, x: Shared) -> Shared:
        opened = await p.open_one(x)
        return product(p.at("here"), own_ring(opened), lift(p, opened))

    session = Session()
    with pytest.raises(ValueError, match="here: cannot multiply in rings of 20 and 64 bits"):
        session.run(build, session.share(torch.zeros(3), 20, 0))


X, Y = uniform((2, 6), -7, 7, 28, 12), uniform((2, 6), -7, 7, 28, 12, 1)


@pytest.mark.parametrize(
    ("build", "inputs"),
    [(pi_mul, (X, Y)), (pi_square, (X,)), (lifted_square, (X,)), (lifted_product, (X, Y)),
     (pi_matmul, (X, Input(Y.x.t(), 28, 12)))],
)  # fmt: skip
def test_one_corrupted_reply_changes_the_result(build: object, inputs: tuple[Input, ...]) -> None:
    check_corruption(build, *inputs)  # type: ignore[arg-type]


def test_products_chain_through_rescaling() -> None:
    """((x y) rescaled) x, as a layer does: each step within an ulp of the real numbers."""

    async def build(p: Party, x: Shared, y: Shared) -> Shared:
        first = p.rescale(await pi_mul(p, x, y), 12)
        return p.rescale(await pi_mul(p, first, x.reduce(52)), 12)

    x, y = uniform((500,), -4, 4, 64, 12), uniform((500,), -4, 4, 64, 12, 1)
    done = outcome(build, x, y)
    assert distance(done.value, x.x * x.x * y.x) <= (4 + 1) * 2.0**-12
    assert distance(done.oracle, x.x * x.x * y.x) <= (4 + 1) * 2.0**-13
    assert done.cost.rounds == 2


def test_the_opened_product_is_the_result_of_one_opening() -> None:
    """A value opened once serves all its products: three of them, one round."""

    async def build(p: Party, x: Shared) -> Shared:
        wide = lift(p, await p.open_one(x))
        return product(p, wide, wide) + square(p, wide) + product(p, wide, wide.affine(2, 0.0))

    x = uniform((7,), -7, 7, 24, 12)
    done = outcome(build, x)
    assert torch.equal(done.value, 4 * x.x**2)
    assert done.cost.rounds == 1
