"""Counts of 32 to 512 buckets from rotated one-hot rows (csrc/histogram.c); see mpcnet.protocols.rowmax."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check, usable

_counts = Kernel("mpc_histogram", POINTER, POINTER, POINTER, SIZE, SIZE, INT, POINTER)
_rows = Kernel("mpc_histogram_rows", POINTER, SIZE, INT, POINTER)

BUCKETS = (32, 64, 128, 256, 512)


def fits(buckets: int, *tensors: Tensor) -> bool:
    """Whether these kernels can work on the tensors, with so many buckets."""
    return buckets in BUCKETS and usable(*tensors)


def counts(opened: Tensor, keep: Tensor, tables: Tensor, level: str | None = None) -> Tensor:
    """[row, key], [row, key], [row, key, B] -> [row, B]: bucket b gets entry (opened - b) of each kept key's table.

    Sums are mod 2^8. `opened` is int16, `keep` and `tables` are uint8, B is one of `BUCKETS`. Of `opened` the bits
    below B count; a key is kept where `keep` is not 0.

    :raises ValueError: types or sizes are others.
    """
    opened, keep = check_keys(opened, keep)
    tables = check("tables", tables, torch.uint8, (*opened.shape, known(tables.shape[-1])))
    out = torch.empty(len(opened), tables.shape[-1], dtype=torch.uint8)
    _counts(
        level, opened.data_ptr(), keep.data_ptr(), tables.data_ptr(), *opened.shape, tables.shape[-1], out.data_ptr()
    )
    return out


def rows(words: Tensor, buckets: int, level: str | None = None) -> Tensor:
    """[..., buckets]: 1 at the bucket that the lowest bits of each word (int16) name, 0 elsewhere.

    :raises ValueError: types or sizes are others.
    """
    words = check("words", words, torch.int16, words.shape)
    out = torch.empty(*words.shape, known(buckets), dtype=torch.uint8)
    _rows(level, words.data_ptr(), words.numel(), buckets, out.data_ptr())
    return out


def check_keys(opened: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """What a kernel reads of each key of each row, checked and contiguous."""
    if opened.ndim != 2:
        raise ValueError(f"opened: want [row, key], got {list(opened.shape)}")
    opened = check("opened", opened, torch.int16, opened.shape)
    return opened, check("keep", keep, torch.uint8, opened.shape)


def known(buckets: int) -> int:
    """The number of buckets, checked."""
    if buckets not in BUCKETS:
        raise ValueError(f"tables: want {BUCKETS} entries, got {buckets}")
    return buckets
