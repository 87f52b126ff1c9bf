"""e^x for opened x (csrc/exponential.c); what the tables mean stands in mpcnet.protocols.exponential."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check, digit

_sum = Kernel("mpc_exponential_sum", POINTER, SIZE, SIZE, SIZE, INT, INT, POINTER, POINTER, INT, POINTER, POINTER)
_rows = Kernel("mpc_exponential_rows", POINTER, SIZE, SIZE, INT, POINTER, POINTER)

TERMS = 3  # of csrc/exponential.c


def weighted_sum(
    words: Tensor, coarse: Tensor, fine: Tensor, shift: int, shares: Tensor, near: int, level: str | None = None
) -> Tensor:
    """Sum over k < 3 of [coarse_k fine 2^-shift] times the share k behind entry `high` of the word's row.

    A row consists of blocks of `near` entries; behind the last of a block comes its first. A word consists of the
    digits high, coarse, fine; what stands above counts for nothing. `words` are int64, `coarse` [3, values of the
    digit], `fine` [values of the digit], `shares` [..., E], E and `near` powers of two; brackets are rounded.

    :raises ValueError: types or sizes are others.
    """
    words = check("words", words, torch.int64, words.shape)
    coarse_bits, fine_bits = digit("coarse", coarse.numel() // TERMS), digit("fine", fine.numel())
    coarse = check("coarse", coarse, torch.int64, (TERMS, 1 << coarse_bits))
    fine = check("fine", fine, torch.int64, (1 << fine_bits,))
    entries = 1 << digit("shares", shares.shape[-1])
    shares = check("shares", shares, torch.int64, (*words.shape, entries))
    if entries % (1 << digit("near", near)):
        raise ValueError(f"want blocks that fit rows of {entries} entries, got {near}")
    if not 1 <= shift < 64:
        raise ValueError(f"want a shift of 1 to 63 bits, got {shift}")
    out = torch.empty_like(words)
    _sum(
        level, words.data_ptr(), words.numel(), entries, near, coarse_bits + fine_bits, fine_bits, coarse.data_ptr(),
        fine.data_ptr(), shift, shares.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def rows(words: Tensor, values: Tensor, entries: int, level: str | None = None) -> Tensor:
    """[..., entries]: the value of each word's low digit at the entry of its high digit, and 0 elsewhere.

    :raises ValueError: types or sizes are others than in :func:`weighted_sum`.
    """
    words = check("words", words, torch.int64, words.shape)
    low_bits, entries = digit("values", values.numel()), 1 << digit("rows", entries)
    values = check("values", values, torch.int64, (1 << low_bits,))
    out = torch.empty(*words.shape, entries, dtype=torch.int64)
    _rows(level, words.data_ptr(), words.numel(), entries, low_bits, values.data_ptr(), out.data_ptr())
    return out
