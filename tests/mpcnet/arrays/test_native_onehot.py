"""Kernels of one-hot tables against torch, bit by bit: every level and thread count, odd sizes, arbitrary words."""

from itertools import chain

import pytest
import torch
from kernels import SIZES, in_torch, refuse, strangers, words

from mpcnet.arrays.native import onehot as native
from mpcnet.randomness import onehot

DIGITS = [(3,), (4,), (5,), (6,), (7,), (8,), (9,), (5, 4, 4), (3, 8, 7, 3, 6), (4,) * 16]


@pytest.mark.parametrize("sizes", DIGITS, ids=str)
def test_tables(level: str, sizes: tuple[int, ...]) -> None:
    for count in SIZES:
        x = words((count,), seed=count)
        for drop in {0, min(5, 64 - sum(sizes)), 64 - sum(sizes)}:
            assert torch.equal(native.tables(x, sizes, drop, level), in_torch(onehot.tables, x, sizes, drop))


@pytest.mark.parametrize("sizes", DIGITS, ids=str)
def test_read(level: str, sizes: tuple[int, ...]) -> None:
    """From any rows, as a share of them is."""
    for count in SIZES:
        x = words((count,), seed=count)
        rows = words((count * onehot.entries(sizes) // 8,), torch.uint8, count + 1)
        for drop, subtract in ((0, 0), (64 - sum(sizes), 7), (0, -(2**63)), (0, 2**63 - 1)):
            want = in_torch(onehot.read, rows, x, sizes, drop, subtract)
            got = native.read(rows, x, subtract, sizes, drop, level)
            assert torch.equal(got, torch.stack([*chain.from_iterable(want.digits), want.above]))


def test_operands_of_any_layout(level: str) -> None:
    x, sizes = words((9, 7)), (3, 4)
    rows = words((2 * 9 * 7 * 3,), torch.uint8)[::2]
    assert torch.equal(native.tables(x.t(), sizes, 2, level), native.tables(x.t().contiguous(), sizes, 2, level))
    want = native.read(rows.contiguous(), x.t().contiguous(), 1, sizes, 2, level)
    assert torch.equal(native.read(rows, x.t(), 1, sizes, 2, level), want)


def test_what_is_refused(level: str) -> None:
    x, sizes = words((9,)), (3, 4)
    rows = native.tables(x, sizes, 0, level)
    for y in strangers(rows):
        refuse(native.read, y, x, 0, sizes, 0, level)
    for y in strangers(x):
        refuse(native.read, rows, y, 0, sizes, 0, level)
    for y in (x.to(torch.int32), x.to("meta")):
        refuse(native.tables, y, sizes, 0, level)
    for wrong, drop in (((), 0), ((2,), 0), ((10,), 0), ((3,) * 17, 0), ((3,), -1), ((3,), 62), ((8,) * 8, 1)):
        refuse(native.tables, x, wrong, drop, level)
        refuse(native.read, rows, x, 0, wrong, drop, level)


def test_digits_without_kernels() -> None:
    """Tables of parts of a byte, and of many words, are torch's."""
    assert not native.fits(())
    assert not native.fits((2, 3))
    assert not native.fits((10,))
    assert not native.fits((3,) * 17)
