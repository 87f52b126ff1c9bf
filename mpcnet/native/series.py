"""Trigonometric series in integers (csrc/series.c); what they mean stands in protocols.series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check, usable

__all__ = ["Angles", "usable", "waves", "weighted_sum"]

_ANGLES = (INT, INT, INT, POINTER, POINTER, POINTER, POINTER)
_sum = Kernel(
    "mpc_series_sum", POINTER, SIZE, *_ANGLES, POINTER, INT, POINTER, POINTER, SIZE, POINTER, POINTER, INT
)  # fmt: skip
_waves = Kernel("mpc_series_waves", POINTER, SIZE, *_ANGLES, POINTER, INT, INT, POINTER, INT)


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """How an angle is read from a word: its `drop` lowest bits left out, one turn being 2^size then.

    The tables hold cos and sin of the digits of an angle at 30 fraction bits, in int32: the higher digit's, and the
    lower digit's, which has `fine_bits`.
    """

    drop: int
    size: int
    fine_bits: int
    coarse: tuple[Tensor, Tensor]
    fine: tuple[Tensor, Tensor]

    def arguments(self) -> tuple[int, ...]:
        """:raises ValueError: a table has another size than its digit needs."""
        coarse, fine = 1 << (self.size - self.fine_bits), 1 << self.fine_bits
        tables = [check("coarse", x, torch.int32, (coarse,)) for x in self.coarse]
        tables += [check("fine", x, torch.int32, (fine,)) for x in self.fine]
        return (self.drop, self.size, self.fine_bits, *(table.data_ptr() for table in tables))


def weighted_sum(
    words: Tensor, angles: Angles, harmonics: Sequence[int], cosine: Sequence[int], sine: Sequence[int], constant: int,
    shares: Tensor, level: str | None = None,
) -> Tensor:  # fmt: skip
    """constant + the sum over k of [a cos + b sin] C_k + [a sin - b cos] S_k, of the angles k times those of `words`.

    `shares` are [C_1, S_1, C_2, ...] in int32 or int64, and so is the result; brackets are rounded to integers.
    """
    words = check("words", words, torch.int64, tuple(words.shape))
    if shares.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"shares: want int32 or int64, got {shares.dtype}")
    shares = check("shares", shares, shares.dtype, (2 * len(harmonics), *words.shape))
    k, a, b = (torch.tensor(list(row), dtype=torch.int64) for row in (harmonics, cosine, sine))
    if not len(k) == len(a) == len(b):
        raise ValueError(f"want a factor for each harmonic, got {len(k)}, {len(a)} and {len(b)}")
    out = torch.empty(words.shape, dtype=shares.dtype)
    _sum(
        level, words.data_ptr(), words.numel(), *angles.arguments(), k.data_ptr(), len(k), a.data_ptr(), b.data_ptr(),
        constant, shares.data_ptr(), out.data_ptr(), shares.dtype.itemsize,
    )  # fmt: skip
    return out


def waves(
    words: Tensor, angles: Angles, harmonics: Sequence[int], frac: int, kind: torch.dtype, level: str | None = None
) -> Tensor:
    """cos and sin of each harmonic of the words' angles at `frac` bits, stacked [cos k1, sin k1, cos k2, ...]."""
    words = check("words", words, torch.int64, tuple(words.shape))
    if kind not in (torch.int32, torch.int64) or not 0 <= frac < 30:
        raise ValueError(f"waves: want int32 or int64 and 0 to 29 fraction bits, got {kind} and {frac}")
    k = torch.tensor(list(harmonics), dtype=torch.int64)
    out = torch.empty(2 * len(k), *words.shape, dtype=kind)
    _waves(
        level, words.data_ptr(), words.numel(), *angles.arguments(), k.data_ptr(), len(k), frac, out.data_ptr(),
        kind.itemsize,
    )  # fmt: skip
    return out
