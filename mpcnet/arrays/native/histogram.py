"""Counts of 32 to 512 buckets from rotated one-hot rows (csrc/histogram.c); see mpcnet.protocols.rowmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check, usable

_counts = Kernel("mpc_histogram", POINTER, POINTER, POINTER, SIZE, SIZE, INT, POINTER, INT)
_rows = Kernel("mpc_histogram_rows", POINTER, SIZE, INT, POINTER, INT)

BUCKETS = (32, 64, 128, 256, 512)
COUNTS = (torch.uint8, torch.int16)  # sums are mod 2^8 or 2^16


def fits(kind: torch.dtype, buckets: int, *tensors: Tensor) -> bool:
    """Whether these kernels can work on the tensors, with so many buckets, and tables and counts of that type."""
    return kind in COUNTS and buckets in BUCKETS and usable(*tensors)


def counts(opened: Tensor, keep: Tensor, tables: Tensor, level: str | None = None) -> Tensor:
    """[row, key], [row, key], [row, key, B] -> [row, B]: bucket b gets entry (opened - b) of each kept key's table.

    `opened` is int16, `keep` uint8, `tables` of one of `COUNTS`, B one of `BUCKETS`. Of `opened` the bits below B
    count; a key is kept where `keep` is not 0.

    :raises ValueError: types or sizes are others.
    """
    if opened.ndim != 2:
        raise ValueError(f"opened: want [row, key], got {list(opened.shape)}")
    opened = check("opened", opened, torch.int16, opened.shape)
    keep = check("keep", keep, torch.uint8, opened.shape)
    buckets = _counted(tables.dtype, tables.shape[-1])
    tables = check("tables", tables, tables.dtype, (*opened.shape, buckets))
    out = torch.empty(len(opened), buckets, dtype=tables.dtype)
    _counts(
        level, opened.data_ptr(), keep.data_ptr(), tables.data_ptr(), *opened.shape, buckets, out.data_ptr(),
        tables.dtype.itemsize,
    )  # fmt: skip
    return out


def rows(words: Tensor, buckets: int, kind: torch.dtype, level: str | None = None) -> Tensor:
    """[..., buckets] of one of `COUNTS`: 1 at the bucket that the lowest bits of each word (int16) name, 0 elsewhere.

    :raises ValueError: types are others.
    """
    words = check("words", words, torch.int16, words.shape)
    out = torch.empty(*words.shape, _counted(kind, buckets), dtype=kind)
    _rows(level, words.data_ptr(), words.numel(), buckets, out.data_ptr(), kind.itemsize)
    return out


def _counted(kind: torch.dtype, buckets: int) -> int:
    """The number of buckets, checked."""
    if kind not in COUNTS or buckets not in BUCKETS:
        raise ValueError(f"tables: want {BUCKETS} entries of uint8 or int16, got {buckets} of {kind}")
    return buckets
