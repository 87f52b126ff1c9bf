"""Products of bit matrices: kernels and numpy against sums of rows, one by one: every level, odd sizes, refusals."""

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
