"""Matrices of bits: products against sums of rows, one by one, and turned rows against single bits."""

import numpy as np
import pytest
import torch
from kernels import in_torch, refuse, strangers, words

from mpcnet.arrays import bitmatrix
from mpcnet.arrays.native import bitmatrix as native

SHAPES = [
    (0, 9, 5),
    (3, 0, 5),
    (3, 9, 0),
    (1, 1, 1),
    (2, 8, 16),
    (7, 31, 127),
    (129, 33, 128),
    (5, 70, 300),
    (128, 64, 129),
]


def one_by_one(chosen: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Each row of the result is the xor of the rows that are chosen."""
    bits = np.unpackbits(chosen.numpy(), axis=1, bitorder="little")[:, : len(table)].astype(bool)
    rows = [np.bitwise_xor.reduce(table.numpy()[row], axis=0) for row in bits]
    return torch.from_numpy(np.array(rows, np.uint8).reshape(len(chosen), table.shape[1]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product(level: str, shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    chosen, table = words((rows, (depth + 7) // 8), torch.uint8), words((depth, columns), torch.uint8, 1)
    start = words((rows, columns), torch.uint8, 2)
    out = start.clone()
    native.add_product(chosen, table, out, level)
    want = one_by_one(chosen, table)
    assert torch.equal(out ^ start, want)
    assert torch.equal(in_torch(bitmatrix.product, (chosen, table)), want)
    assert torch.equal(bitmatrix.product((chosen, table), (chosen.flip(0), table)), want ^ want.flip(0))


def test_what_is_refused(level: str) -> None:
    chosen, table, out = (words(shape, torch.uint8) for shape in ((3, 2), (9, 5), (3, 5)))
    for x in strangers(chosen):
        refuse(native.add_product, x, table, out, level)
    for x in strangers(out):
        refuse(native.add_product, chosen, table, x, level)
    for x in (table.to(torch.int16), table[:8], table.to("meta")):
        refuse(native.add_product, chosen, x, out, level)
    refuse(native.add_product, chosen, table, words((5, 3), torch.uint8).t(), level)


@pytest.mark.parametrize("size", [64, 128, 512])
@pytest.mark.parametrize("part", [1, 5, 8, 33, 63, 64])
def test_turned(size: int, part: int) -> None:
    """Every turn of random rows, folded onto a part of them, each bit by its definition."""
    columns = max(size * part // 64, 1)
    rows, by = words((size + 3, size // 8), torch.uint8), torch.arange(size + 3)
    bits = np.unpackbits(rows.numpy(), axis=1, bitorder="little")
    want = np.zeros((len(rows), columns), np.uint8)
    for start in range(0, size, columns):
        places = np.arange(start, min(start + columns, size))
        turned = np.take_along_axis(bits, (places - by.numpy()[:, None]) % size, 1)
        want[:, : len(places)] ^= turned
    got = bitmatrix.turned(rows, by, columns)
    assert got.shape == (len(rows), (columns + 7) // 8)
    assert np.array_equal(np.unpackbits(got.numpy(), axis=1, bitorder="little")[:, :columns], want)


def test_rows_at_any_address() -> None:
    """As they lie in a frame of corrections."""
    raw = words((1 + 3 * 16,), torch.uint8)
    rows, by = raw[1:].reshape(3, 16), torch.tensor([1, 70, 127])
    assert torch.equal(bitmatrix.turned(rows, by, 100), bitmatrix.turned(rows.clone(), by, 100))


def test_no_rows() -> None:
    assert bitmatrix.turned(torch.zeros(0, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), 50).shape == (0, 7)
