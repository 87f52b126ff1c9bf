"""Kernels of parities against torch, bit by bit: every level and thread count, odd sizes, arbitrary words."""

import pytest
import torch
from kernels import in_torch, refuse, strangers, words
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import parity as native
from mpcnet.arrays.native.histogram import BUCKETS
from mpcnet.protocols import parities as P


def operands(rows: int, keys: int, buckets: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Opened words with bits above those that number buckets, keys of which some are kept, tables, coefficients."""
    tables = words((rows * keys * buckets // 8,), torch.uint8, 2)
    return words((rows, keys), torch.int16, 1), words((rows, keys), torch.uint8, 3) & 1, tables, words((keys, buckets))


@pytest.mark.parametrize("buckets", BUCKETS)
@pytest.mark.parametrize(("rows", "keys"), [(1, 300), (65, 1), (0, 5), (5, 0), (7, 8), (17, 33), (9, 64)])
def test_parities(level: str, rows: int, keys: int, buckets: int) -> None:
    opened, keep, tables, coefficients = operands(rows, keys, buckets)
    for kept in (keep, torch.ones_like(keep), torch.zeros_like(keep)):
        got = native.parities(opened, kept, tables, coefficients, 5, level)
        want = in_torch(P._summed, opened, kept, ring.unpack_bits(tables, (rows, keys, buckets)), coefficients)
        assert torch.equal(got, ring.pack_bits(want))


@pytest.mark.parametrize("nbytes", [1, 4, 8])
def test_the_lowest_bytes_of_each(level: str, nbytes: int) -> None:
    given = operands(3, 9, 64)
    whole = native.parities(*given, 8, level).reshape(-1, 8)
    assert torch.equal(native.parities(*given, nbytes, level), whole[:, :nbytes].reshape(-1))


def test_operands_of_any_layout(level: str) -> None:
    opened, keep, tables, coefficients = operands(7, 5, 64)
    want = native.parities(opened.t().contiguous(), keep.t().contiguous(), tables, words((64, 7)).t().contiguous(), 5)
    assert torch.equal(native.parities(opened.t(), keep.t(), tables, words((64, 7)).t(), 5, level), want)
    assert not torch.equal(native.parities(opened, keep, tables, coefficients, 5, level), want)


def test_what_is_refused(level: str) -> None:
    opened, keep, tables, coefficients = operands(5, 7, 64)
    for y in (*strangers(opened), opened[0], opened[:4], opened.to(torch.uint8)):
        refuse(native.parities, y, keep, tables, coefficients, 5, level)
    for y in (*strangers(keep), keep[0], keep[:4], opened):
        refuse(native.parities, opened, y, tables, coefficients, 5, level)
    for y in (*strangers(tables), tables[1:], tables.to(torch.int64)):
        refuse(native.parities, opened, keep, y, coefficients, 5, level)
    for y in (*strangers(coefficients), coefficients[:6], coefficients[:, :16], coefficients.to(torch.int32)):
        refuse(native.parities, opened, keep, tables, y, 5, level)
    for nbytes in (0, 9):
        refuse(native.parities, opened, keep, tables, coefficients, nbytes, level)
