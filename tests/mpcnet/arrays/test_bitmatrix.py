"""Rows of bits, turned and folded: each bit by its definition."""

import numpy as np
import pytest
import torch
from kernels import words

from mpcnet.arrays import bitmatrix


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
