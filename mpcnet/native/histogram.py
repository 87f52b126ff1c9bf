"""Counts of 64 buckets from rotated one-hot rows (csrc/histogram.c); what they mean stands in protocols.rowmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check, usable

_counts = Kernel("mpc_histogram", POINTER, POINTER, POINTER, SIZE, SIZE, POINTER, INT)
_rows = Kernel("mpc_histogram_rows", POINTER, SIZE, POINTER, INT)

BUCKETS = 64
COUNTS = (torch.uint8, torch.int16)  # sums are mod 2^8 or 2^16


def fits(kind: torch.dtype, *tensors: Tensor) -> bool:
    """Whether these kernels can work on the tensors, with tables and counts of that type."""
    return kind in COUNTS and usable(*tensors)


def counts(opened: Tensor, keep: Tensor, tables: Tensor, level: str | None = None) -> Tensor:
    """[row, key], [row, key], [row, key, 64] -> [row, 64]: bucket b gets entry (opened - b) of each kept key's table.

    `opened` and `keep` are uint8, `tables` of one of `COUNTS`. Of `opened` the lowest 6 bits count; a key is kept
    where `keep` is not 0.

    :raises ValueError: types or sizes are others.
    """
    if opened.ndim != 2:
        raise ValueError(f"opened: want [row, key], got {list(opened.shape)}")
    opened = check("opened", opened, torch.uint8, opened.shape)
    keep = check("keep", keep, torch.uint8, opened.shape)
    tables = check("tables", tables, _counted(tables.dtype), (*opened.shape, BUCKETS))
    out = torch.empty(len(opened), BUCKETS, dtype=tables.dtype)
    _counts(
        level, opened.data_ptr(), keep.data_ptr(), tables.data_ptr(), *opened.shape, out.data_ptr(),
        tables.dtype.itemsize,
    )  # fmt: skip
    return out


def rows(words: Tensor, kind: torch.dtype, level: str | None = None) -> Tensor:
    """[..., 64] of one of `COUNTS`: 1 at the bucket that the lowest 6 bits of each word (uint8) name, 0 elsewhere.

    :raises ValueError: types are others.
    """
    words = check("words", words, torch.uint8, words.shape)
    out = torch.empty(*words.shape, BUCKETS, dtype=_counted(kind))
    _rows(level, words.data_ptr(), words.numel(), out.data_ptr(), kind.itemsize)
    return out


def _counted(kind: torch.dtype) -> torch.dtype:
    if kind not in COUNTS:
        raise ValueError(f"tables: want uint8 or int16, got {kind}")
    return kind
