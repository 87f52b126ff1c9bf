"""Kernels of histograms against torch, bit by bit: every level and thread count, odd sizes, arbitrary words."""

from functools import cache

import pytest
import torch
from kernels import SIZES, in_torch, refuse, strangers, words
from torch import Tensor

from mpcnet.arrays.native import histogram as native
from mpcnet.protocols import rowmax as R

BUCKETS = pytest.mark.parametrize("buckets", native.BUCKETS)


@cache
def counted(rows: int, keys: int, buckets: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Opened words with bits above those that number buckets, tables, and what torch counts for each of some `keep`.

    Torch takes the square of the buckets for each row, so it is asked once and not once for each level.
    """
    opened, tables = words((rows, keys), torch.int16, 1), words((rows, keys, buckets), torch.uint8, 2)
    keeps = (
        words((rows, keys), torch.uint8, 3) & 1,
        torch.ones(rows, keys, dtype=torch.uint8),
        torch.zeros(rows, keys, dtype=torch.uint8),
    )
    return opened, tables, [(keep, in_torch(R._histogram, opened, keep, tables)) for keep in keeps]


@BUCKETS
@pytest.mark.parametrize(("rows", "keys"), [(1, 1025), (1025, 1), (0, 5), (5, 0), (7, 8), (65, 9), (129, 7), (63, 64)])
def test_counts(level: str, rows: int, keys: int, buckets: int) -> None:
    rows = min(rows, 9) if buckets > 128 else rows
    opened, tables, cases = counted(rows, keys, buckets)
    for keep, want in cases:
        got = native.counts(opened, keep, tables, level)
        assert torch.equal(got, want)


@BUCKETS
def test_rows(level: str, buckets: int) -> None:
    for count in SIZES:
        x = words((count,), torch.int16, count)
        assert torch.equal(native.rows(x, buckets, level), in_torch(R._hot, x, buckets))


def test_operands_of_any_layout(level: str) -> None:
    opened, keep, tables = words((7, 5), torch.int16), words((5,), torch.uint8) & 1, words((64, 5, 7), torch.uint8)
    spread, moved = keep.unsqueeze(1).expand(5, 7), tables.permute(1, 2, 0)
    want = native.counts(opened.t().contiguous(), spread.contiguous(), moved.contiguous(), level)
    assert torch.equal(native.counts(opened.t(), spread, moved, level), want)
    turned, one = (native.rows(x, 64, level) for x in (opened.t(), opened[3, 2]))
    assert torch.equal(turned[2, 3], one)


def test_what_is_refused(level: str) -> None:
    opened, tables = words((5, 7), torch.int16), words((5, 7, 64), torch.uint8)
    keep = torch.ones(5, 7, dtype=torch.uint8)
    for y in (*strangers(opened), opened[0], opened.unsqueeze(0), opened[:4], opened.to(torch.uint8)):
        refuse(native.counts, y, keep, tables, level)
    for y in (*strangers(keep), keep[0], keep.unsqueeze(0), keep[:4], opened):
        refuse(native.counts, opened, y, tables, level)
    for y in (*strangers(tables), tables.to(torch.int32), tables[:, :6]):
        refuse(native.counts, opened, keep, y, level)
    for y in (opened.to(torch.uint8), opened.to("meta")):
        refuse(native.rows, y, 64, level)
    refuse(native.rows, opened, 16, level)


def test_other_numbers_of_buckets_are_torchs() -> None:
    assert not native.fits(16)
    opened, tables = words((2, 3), torch.int16), words((2, 3, 16), torch.uint8)
    counts = R._histogram(opened, torch.ones_like(opened), tables)
    assert counts[1, 5] == sum(tables[1, key, (int(opened[1, key]) - 5) % 16] for key in range(3))
