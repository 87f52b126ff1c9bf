"""Lookups: exact for every index, of the right cost, and one row of the table whatever is shared as an index."""

from __future__ import annotations

import pytest
import torch
from checks import check_corruption, check_cost, few
from hypothesis import given
from hypothesis import strategies as st
from kernels import without_kernels
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.ledger import Cost
from mpcnet.protocols import lookup as L
from mpcnet.protocols.lockstep import Input, Result, run
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared, Weight
from mpcnet.rounds import Part

FRAC = 7
LOADED = "table"


def words(rows: int, columns: int, bits: int, seed: int = 0) -> Tensor:
    """A table: uniform words, the least and the largest among them."""
    x = torch.randint(
        -(2 ** (bits - 1)), 2 ** (bits - 1), (rows, columns), generator=torch.Generator().manual_seed(seed)
    )
    x.view(-1)[:2] = torch.tensor([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])[: x.numel()]
    return x


class Lookup:
    """A protocol that loads a table, which its owner shared with the servers, and looks indices up in it."""

    def __init__(self, rows: int, columns: int = 5, bits: int = 16, *, short: bool = False) -> None:
        self.rows, self.columns, self.bits, self.short = rows, columns, bits, short
        self.table = words(rows, columns, bits)

    @property
    def index_bits(self) -> int:
        return L.index_bits(self.rows, short=self.short)

    async def __call__(self, p: Party, index: Shared) -> Shared:
        """The table is opened whole at both servers, as in a load; its shares are server 0's."""
        q, party = p.at(LOADED), p.source.party
        word = ring.fit(self.table if party == 0 else torch.zeros_like(self.table), self.bits)
        if self.short:
            weight = Weight.of(await q.open_one(Shared(word, self.bits, FRAC, party)))
            return await L.look_up_short(p.at("here"), index, weight)
        shape = L.table_shape(self.rows, self.columns, self.bits)
        (opened,) = await q.open_bits(Bits(L.table_bits(word, self.bits), shape, party))
        table = L.Table.of(opened, self.columns, self.bits, FRAC)
        return await L.look_up(p.at("here"), index, table)

    def given(self, indices: Tensor) -> Input:
        half = 1 << (self.index_bits - 1)
        return Input(((indices + half) % (2 * half) - half).to(torch.float64), self.index_bits, 0)

    def outcome(self, indices: Tensor, seed: int = 0) -> Result:
        return run(self, self.given(indices), session=Session(seed))

    def check(self, indices: Tensor, seed: int = 0) -> Cost:
        """The rows are those of the table; what the lookup cost, without the table's opening."""
        done = self.outcome(indices, seed)
        expected = ring.decode(self.table[indices % (1 << self.index_bits) % self.rows], FRAC, self.bits)
        assert torch.equal(done.value, expected)
        assert torch.equal(done.oracle, expected)
        assert (done.run.results[0].bits, done.run.results[0].frac) == (self.bits, FRAC)
        return done.operations["here"]


LONG = [(1, 16), (2, 16), (3, 24), (63, 16), (64, 24), (65, 16), (100, 20), (128, 24), (1000, 17), (1025, 16)]
SHORT = [(2, 16), (3, 24), (4, 16), (7, 20)]


@pytest.mark.parametrize(("rows", "bits"), LONG)
def test_every_index(rows: int, bits: int) -> None:
    """All words of the index's ring, those that name no row too: they stand for index mod rows."""
    look = Lookup(rows, bits=bits)
    look.check(torch.arange(1 << look.index_bits))


@pytest.mark.parametrize(("rows", "bits"), SHORT)
def test_every_index_of_a_short_table(rows: int, bits: int) -> None:
    look = Lookup(rows, bits=bits, short=True)
    look.check(torch.arange(1 << look.index_bits))


@few
@given(
    rows=st.integers(1, 300), columns=st.integers(1, 12), bits=st.sampled_from([16, 24]), short=st.booleans(),
    indices=st.lists(st.integers(0, 1 << 9), min_size=1, max_size=9), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_table(rows: int, columns: int, bits: int, short: bool, indices: list[int], seed: int) -> None:
    Lookup(rows, columns, bits, short=short).check(torch.tensor(indices), seed)


def test_without_kernels() -> None:
    look, indices = Lookup(100), torch.arange(40).reshape(8, 5)
    with_kernels = look.outcome(indices, 3)
    with without_kernels():
        alone = look.outcome(indices, 3)
    for one, other in zip(with_kernels.run.results[:2], alone.run.results[:2], strict=True):
        assert torch.equal(one.value, other.value)


@pytest.mark.parametrize(("bits", "a_word"), [(16, 24), (24, 48)])
def test_cost(bits: int, a_word: int) -> None:
    """As the docstring says: 1,000 rows have indices of 10 bits, so of two bytes, and one-hot rows of 125."""
    look, count = Lookup(1000, 8, bits), 6
    cost = look.check(torch.arange(count))
    row = 8 * bits // 8
    assert cost.rounds == 3
    assert cost.sent_bytes == count * (2 + 125 + row)
    assert sum(cost.dealt_bytes) == count * (1024 // 8 + row + 8 * a_word)


def test_cost_of_a_short_table() -> None:
    look, count = Lookup(3, 8, 24, short=True), 6
    cost = look.check(torch.arange(count))
    assert cost.rounds == 2
    assert cost.sent_bytes == count * (1 + 3 * 3)
    assert sum(cost.dealt_bytes) == count * (4 * 3 + 8 * 3)


@pytest.mark.parametrize(("rows", "of"), [(3, 9), (9, 9), (16, 9), (1, 5)])
def test_one_hot_rows(rows: int, of: int) -> None:
    """Of a place among `rows`, where an index names up to `of`: one 1 a row whatever the index, at index mod rows."""
    bits = L.index_bits(of, short=True)
    indices, half = torch.arange(1 << bits).reshape(2, -1), 1 << (bits - 1)

    async def hot(p: Party, index: Shared) -> Shared:
        return await L.one_hot_rows(p, index, rows, 40)

    done = run(hot, Input(((indices + half) % (2 * half) - half).to(torch.float64), bits, 0), session=Session(1))
    want = torch.nn.functional.one_hot(indices % rows, rows).double()
    assert torch.equal(done.value, want) and torch.equal(done.oracle, want)
    count = indices.numel()
    check_cost(done, rounds=1, sent=count * -(-bits // 8))
    assert sum(sum(cost.dealt_bytes) for cost in done.operations.values()) == count * (1 << bits) * 5
    check_corruption(hot, Input(torch.zeros(3, dtype=torch.float64), bits, 0)) if rows > 1 else None


@pytest.mark.parametrize("short", [False, True])
def test_the_place_of_the_table_opened_is_one_hot(short: bool) -> None:
    """Under masks of zero the one-hot rows themselves are opened: one 1 a row, whatever the index."""
    look = Lookup(37, short=short)
    seen: list[Tensor] = []  # the table, the indices, their one-hot rows

    def see(part: Part, count: int, word: Tensor) -> Tensor:
        seen.append(ring.unpack_bits(word, part.shape) if part.bits == 1 else word)
        return word

    indices = torch.arange(1 << look.index_bits)
    evaluate(lambda p: look(p, look.given(indices).plain()), see)
    hot = seen[2][:, : look.rows]
    assert torch.equal(hot.long(), torch.nn.functional.one_hot(indices % look.rows, look.rows))


@pytest.mark.parametrize("short", [False, True])
def test_one_corrupted_reply_changes_the_result(short: bool) -> None:
    look = Lookup(100, short=short)
    check_corruption(look, look.given(torch.arange(7)))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (3, 1, 2), ()])
@pytest.mark.parametrize("short", [False, True])
def test_shapes(shape: tuple[int, ...], short: bool) -> None:
    look = Lookup(50, short=short)
    done = look.outcome(torch.full(shape, 41))
    assert torch.equal(done.value, ring.decode(look.table[41], FRAC, 16).expand(*shape, 5))


def test_the_total_is_the_sum_of_its_parts() -> None:
    """The table's opening costs a round and its bytes, and nothing is dealt for it."""
    done = Lookup(100).outcome(torch.arange(3))
    check_cost(done, rounds=4, sent=100 * 5 * 2 + 3 * (1 + 13 + 10))
    assert done.operations[LOADED].dealt_bytes == [0, 0]
