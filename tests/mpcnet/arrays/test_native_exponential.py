"""Kernels of e^x against torch, bit by bit: every level and thread count, odd sizes, arbitrary words."""

import pytest
import torch
from kernels import SIZES, in_torch, refuse, strangers, words

from mpcnet.arrays import ring
from mpcnet.arrays.native import exponential as native
from mpcnet.protocols import exponential as E

SHIFT = 2 * E.EXACT_FRAC - E.PUBLIC_FRAC


BLOCKS = [(4, 4), (8, 8), (8, 4), (8, 2), (8, 1), (16, 4)]  # entries of a row, and of a block


@pytest.mark.parametrize(("entries", "near"), BLOCKS)
@pytest.mark.parametrize("frac", [3, 4, 9, 12])
def test_weighted_sum(level: str, frac: int, entries: int, near: int) -> None:
    for count in SIZES:
        x, shares = words((count,), seed=count), words((count, entries), seed=count + 1)
        want = in_torch(E._weighted_sum, x, shares, frac, near)
        assert torch.equal(native.weighted_sum(x, *E._factors(frac), SHIFT, shares, near, level), want)


@pytest.mark.parametrize("shift", [1, 36, 63])
@pytest.mark.parametrize("near", [1, 2, 4, 16])
@pytest.mark.parametrize(("coarse_bits", "fine_bits"), [(0, 0), (0, 3), (3, 0), (2, 5)])
def test_any_tables(level: str, coarse_bits: int, fine_bits: int, near: int, shift: int) -> None:
    """Against Python's integers, where sums wrap as words do."""
    x, shares = words((20,)), words((20, 16), seed=1)
    coarse, fine = words((3, 1 << coarse_bits), seed=2), words((1 << fine_bits,), seed=3)

    def word(value: int) -> int:
        return (value + 2**63) % 2**64 - 2**63

    want = []
    for value, row in zip(x.tolist(), shares.tolist(), strict=True):
        low, high = value % (1 << coarse_bits + fine_bits), value >> coarse_bits + fine_bits
        times = fine.tolist()[low % (1 << fine_bits)]
        factors = [word(table[low >> fine_bits] * times + (1 << shift - 1)) >> shift for table in coarse.tolist()]
        block = high % 16 // near * near
        want.append(word(sum(factor * row[block + (high + k) % near] for k, factor in enumerate(factors))))
    assert native.weighted_sum(x, coarse, fine, shift, shares, near, level).tolist() == want


@pytest.mark.parametrize("frac", [0, 3, 12])
def test_rows(level: str, frac: int) -> None:
    """Bits above the digit of the entry count for nothing."""
    entries = 1 << E.ENTRY_BITS
    for count in SIZES:
        x = words((count,), seed=count)
        want = in_torch(E._rows, ring.unsigned(x, E.ENTRY_BITS + E.BUCKET_BITS + frac), frac)
        assert torch.equal(native.rows(x, E._values(frac), entries, level), want)


@pytest.mark.parametrize("entries", [1, 4, 16])
def test_rows_of_other_lengths(level: str, entries: int) -> None:
    x, values = words((33,)), words((8,), seed=1)
    want = [[values[v % 8] if e == (v >> 3) % entries else 0 for e in range(entries)] for v in x.tolist()]
    assert torch.equal(native.rows(x, values, entries, level), torch.tensor(want))


def test_operands_of_any_layout(level: str) -> None:
    x, shares, tables = words((7, 5)), words((16, 7, 5)), E._factors(3)
    moved = shares.permute(2, 1, 0)
    want = native.weighted_sum(x.t().contiguous(), *tables, SHIFT, moved.contiguous(), 8, level)
    assert torch.equal(native.weighted_sum(x.t(), *tables, SHIFT, moved, 8, level), want)
    values = words((8,))
    want = native.rows(x.t().contiguous(), values[::2].contiguous(), 16, level)
    assert torch.equal(native.rows(x.t(), values[::2], 16, level), want)


def test_what_is_refused(level: str) -> None:
    coarse, fine = E._factors(3)
    x, shares, values = words((9,)), words((9, 16)), E._values(3)

    def total(x=x, coarse=coarse, fine=fine, shift=SHIFT, shares=shares, near=8):  # type: ignore[no-untyped-def]
        return native.weighted_sum(x, coarse, fine, shift, shares, near, level)

    for y in strangers(x):
        refuse(total, x=y)
    for y in (*strangers(coarse), coarse[:2], coarse[:, :3], coarse[:, :0], coarse.reshape(-1)):
        refuse(total, coarse=y)
    for y in (*strangers(fine), fine[:3], fine[:0], fine.unsqueeze(0)):
        refuse(total, fine=y)
    for y in strangers(shares):
        refuse(total, shares=y)
    for shift in (0, 64):
        refuse(total, shift=shift)
    for near in (0, 3, 32):
        refuse(total, near=near)
    for y in (x.to(torch.int32), x.to("meta")):
        refuse(native.rows, y, values, 16, level)
    for y in (*strangers(values), values[:0], values.unsqueeze(0)):
        refuse(native.rows, x, y, 16, level)
    for entries in (0, 12):
        refuse(native.rows, x, values, entries, level)
