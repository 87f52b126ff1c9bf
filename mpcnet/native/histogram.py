"""Counts of 64 buckets from rotated one-hot rows (csrc/histogram.c); what they mean stands in protocols.rowmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check, usable

_counts = Kernel("mpc_histogram", POINTER, POINTER, POINTER, SIZE, SIZE, POINTER, INT)
_rows = Kernel("mpc_histogram_rows", POINTER, SIZE, POINTER, INT)

BUCKETS = 64
__all__ = ["counts", "rows", "usable"]


def counts(opened: Tensor, keep: Tensor, tables: Tensor, level: str | None = None) -> Tensor:
    """[row, key], [row, key], [row, key, 64] -> [row, 64]: bucket b gets entry (opened - b) of each kept key's table.

    `opened` and `keep` are uint8, `tables` uint8 or int16; sums are mod 2^8 or 2^16.
    """
    opened = check("opened", opened, torch.uint8, (opened.shape[0], opened.shape[1]))
    keep = check("keep", keep, torch.uint8, tuple(opened.shape))
    tables = check("tables", tables, _kind(tables.dtype), (*opened.shape, BUCKETS))
    out = torch.empty(len(opened), BUCKETS, dtype=tables.dtype)
    _counts(
        level, opened.data_ptr(), keep.data_ptr(), tables.data_ptr(), *opened.shape, out.data_ptr(),
        tables.dtype.itemsize,
    )  # fmt: skip
    return out


def rows(words: Tensor, kind: torch.dtype, level: str | None = None) -> Tensor:
    """[..., 64]: 1 at each word's own bucket."""
    words = check("words", words, torch.uint8, tuple(words.shape))
    out = torch.empty(*words.shape, BUCKETS, dtype=_kind(kind))
    _rows(level, words.data_ptr(), words.numel(), out.data_ptr(), kind.itemsize)
    return out


def _kind(kind: torch.dtype) -> torch.dtype:
    if kind not in (torch.uint8, torch.int16):
        raise ValueError(f"tables: want uint8 or int16, got {kind}")
    return kind
