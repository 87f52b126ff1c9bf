"""One-hot tables of digits (csrc/onehot.c); what they mean stands in :mod:`mpcnet.randomness.onehot`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check, usable

_tables = Kernel("mpc_onehot_tables", POINTER, SIZE, POINTER, INT, INT, POINTER)
_read = Kernel("mpc_onehot_read", POINTER, POINTER, SIZE, SIZE, POINTER, INT, INT, POINTER)

LEAST, MOST = 3, 9  # bits of a digit: whole bytes of table, and few of them
DIGITS = 16


def fits(sizes: Sequence[int], *tensors: Tensor) -> bool:
    """Whether these kernels can work on the tensors, with tables of these digits."""
    return _have_kernels(sizes) and usable(*tensors)


def tables(words: Tensor, sizes: Sequence[int], drop: int, level: str | None = None) -> Tensor:
    """The rows of int64 words without their `drop` lowest bits, packed.

    :raises ValueError: there are no such digits in a word, or none that these kernels know; other types.
    """
    words = check("words", words, torch.int64, words.shape)
    digits = _digits(sizes, drop)
    rows = torch.empty(words.numel() * _row_bytes(sizes), dtype=torch.uint8)
    _tables(level, words.data_ptr(), words.numel(), digits.data_ptr(), len(sizes), drop, rows.data_ptr())
    return rows


def read(
    rows: Tensor, words: Tensor, subtract: int, sizes: Sequence[int], drop: int, level: str | None = None
) -> Tensor:
    """For (words - subtract) >> drop, packed bits: less and equal of each digit, then the bit above the digits.

    "Less" is [public digit < secret digit], "equal" [public digit = secret digit]; [2 digits + 1, bytes].

    :raises ValueError: as in :func:`tables`, or `rows` are not what that makes of so many words.
    """
    words = check("words", words, torch.int64, words.shape)
    digits = _digits(sizes, drop)
    rows = check("rows", rows, torch.uint8, (words.numel() * _row_bytes(sizes),))
    planes = torch.empty(2 * len(sizes) + 1, (words.numel() + 7) // 8, dtype=torch.uint8)
    _read(
        level, rows.data_ptr(), words.data_ptr(), words.numel(), subtract, digits.data_ptr(), len(sizes), drop,
        planes.data_ptr(),
    )  # fmt: skip
    return planes


def _row_bytes(sizes: Sequence[int]) -> int:
    return sum(1 << (size - 3) for size in sizes)


def _have_kernels(sizes: Sequence[int]) -> bool:
    return 1 <= len(sizes) <= DIGITS and all(LEAST <= size <= MOST for size in sizes)


def _digits(sizes: Sequence[int], drop: int) -> Tensor:
    if not _have_kernels(sizes) or not 0 <= drop <= 64 - sum(sizes):
        digits = f"1 to {DIGITS} digits of {LEAST} to {MOST} bits"
        raise ValueError(f"want {digits} in a word of 64, got {list(sizes)} above {drop} dropped")
    return torch.tensor(list(sizes), dtype=torch.int64)
