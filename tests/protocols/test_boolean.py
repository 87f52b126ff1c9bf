"""Xor of products of bits, against Python's own booleans."""

from itertools import product

import torch
from checks import Input, check_corruption, check_cost, few, numbers, outcome
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build

from mpcnet.protocols.boolean import xor_of_products
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared


def every_combination(count: int) -> Input:
    """[bit, combination]: all 2^count combinations."""
    return Input(torch.tensor(list(product([0.0, 1.0], repeat=count)), dtype=torch.float64).t().contiguous(), 8, 0)


def program(monomials: list[tuple[int, ...]]) -> Build:
    """The xor as the bits of a ring of 8, where check and oracle can read them."""

    async def build(p: Party, x: Shared) -> Shared:
        rows = [Bits.of(x.value[i] & 1, x.party) for i in range(x.shape[0])]
        result = xor_of_products(p, await p.open_bits(*rows), monomials)
        return numbers(result)

    return build


def expected(x: torch.Tensor, monomials: list[tuple[int, ...]]) -> list[int]:
    """The parity of the products."""
    return [sum(all(column[i] for i in m) for m in monomials) % 2 for column in x.t().tolist()]


@few
@given(st.integers(1, 5), st.data())
def test_against_booleans(count: int, data: st.DataObject) -> None:
    subset = st.sets(st.integers(0, count - 1), max_size=count).map(lambda s: tuple(sorted(s)))
    monomials = data.draw(st.lists(subset, max_size=4))
    x = every_combination(count)
    done = outcome(program(monomials), x, seed=data.draw(st.integers(0, 2**31)))
    assert (done.value % 2).tolist() == expected(x.x, monomials)
    assert torch.equal(done.value % 2, done.oracle % 2)
    column_bytes = (x.x.shape[1] + 7) // 8
    shared = {s for m in monomials for s in _subsets(m) if len(s) > 1}
    check_cost(done, rounds=1, sent=count * column_bytes, dealt=len(shared) * column_bytes)


def _subsets(monomial: tuple[int, ...]) -> set[tuple[int, ...]]:
    chosen = product([False, True], repeat=len(monomial))
    return {tuple(i for i, taken in zip(monomial, c, strict=True) if taken) for c in chosen}


def test_a_monomial_twice_cancels_and_the_empty_one_is_one() -> None:
    x = every_combination(3)
    assert not (outcome(program([(0, 1), (0, 1)]), x).value % 2).any()
    assert (outcome(program([()]), x).value % 2).tolist() == [1] * 8
    assert not (outcome(program([]), x).value % 2).any()


def test_a_subset_shared_by_monomials_is_dealt_once() -> None:
    done = outcome(program([(0, 1, 2), (0, 1)]), every_combination(3))
    check_cost(done, rounds=1, sent=3, dealt=4)  # 01, 02, 12, 012: one byte of eight bits each


def test_empty() -> None:
    x = Input(torch.zeros(2, 0, dtype=torch.float64), 8, 0)
    assert outcome(program([(0, 1)]), x).value.shape == (0,)


def test_one_corrupted_reply_changes_the_result() -> None:
    check_corruption(program([(0, 1, 2), (1,)]), every_combination(3), modulus=2)
