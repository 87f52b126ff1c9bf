"""e^x for opened x (csrc/exponential.c); what the tables mean stands in protocols.exponential."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check, usable

__all__ = ["rows", "usable", "weighted_sum"]

_sum = Kernel("mpc_exponential_sum", POINTER, SIZE, INT, INT, POINTER, POINTER, INT, POINTER, POINTER)
_rows = Kernel("mpc_exponential_rows", POINTER, SIZE, INT, POINTER, POINTER)

BUCKETS = 16


def weighted_sum(
    words: Tensor, low_bits: int, coarse: Tensor, fine: Tensor, shift: int, shares: Tensor, level: str | None = None
) -> Tensor:
    """Sum over j = 0, -1, -2 of [coarse_j fine 2^-shift] times the share at entry (high digit - j) of the word's row.

    `words` are int64 of low_bits + 4 bits, `coarse` [3, digits], `fine` [digits], `shares` [..., 16].
    """
    words = check("words", words, torch.int64, tuple(words.shape))
    fine = check("fine", fine, torch.int64, (fine.numel(),))
    fine_bits = fine.numel().bit_length() - 1
    coarse = check("coarse", coarse, torch.int64, (3, 1 << (low_bits - fine_bits)))
    shares = check("shares", shares, torch.int64, (*words.shape, BUCKETS))
    out = torch.empty_like(words)
    _sum(
        level, words.data_ptr(), words.numel(), low_bits, fine_bits, coarse.data_ptr(), fine.data_ptr(), shift,
        shares.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def rows(words: Tensor, values: Tensor, level: str | None = None) -> Tensor:
    """[..., 16]: the value of each word's low digit at the entry of its high digit, and 0 elsewhere.

    :raises ValueError: a word has more bits than values and entries account for.
    """
    words = check("words", words, torch.int64, tuple(words.shape))
    values = check("values", values, torch.int64, (values.numel(),))
    low_bits = values.numel().bit_length() - 1
    if words.numel() and (words.min() < 0 or int(words.max()) >> low_bits >= BUCKETS):
        raise ValueError(f"words: want {low_bits + 4} bits")
    out = torch.empty(*words.shape, BUCKETS, dtype=torch.int64)
    _rows(level, words.data_ptr(), words.numel(), low_bits, values.data_ptr(), out.data_ptr())
    return out
