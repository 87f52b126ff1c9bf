"""Trigonometric series in integers (csrc/series.c); what they mean stands in mpcnet.protocols.series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check, digit, usable

_ANGLES = (POINTER, SIZE, INT, INT, POINTER, POINTER, POINTER, INT)  # words, count, Angles, harmonics
_sum = Kernel("mpc_series_sum", *_ANGLES, POINTER, POINTER, SIZE, POINTER, POINTER, INT)
_waves = Kernel("mpc_series_waves", *_ANGLES, INT, POINTER, INT)

WAVES = (torch.int32, torch.int64)
TRIG_FRAC = 30  # of csrc/series.c


@dataclass(frozen=True, slots=True, eq=False)
class Angles:
    """How an angle is read from a word: one turn is 2^(bits of the coarse and of the fine digit).

    Each table, [2, values of the digit] in int32, holds cos and sin of the angles of a digit at 30 fraction bits.
    """

    coarse: Tensor
    fine: Tensor


def fits(kind: torch.dtype, *tensors: Tensor) -> bool:
    """Whether these kernels can work on the tensors, with waves of that type."""
    return kind in WAVES and usable(*tensors)


def weighted_sum(
    words: Tensor, angles: Angles, harmonics: Sequence[int], cosine: Sequence[int], sine: Sequence[int], constant: int,
    shares: Tensor, level: str | None = None,
) -> Tensor:  # fmt: skip
    """constant + the sum over k of [a cos + b sin] C_k + [a sin - b cos] S_k, of the angles k times those of `words`.

    `shares` are [C_1, S_1, C_2, ...] of one of `WAVES`, and so is the result; brackets are rounded to integers.

    :raises ValueError: types or sizes are others.
    """
    shares = check("shares", shares, _wave(shares.dtype), (2 * len(harmonics), *words.shape))
    if not len(harmonics) == len(cosine) == len(sine):
        raise ValueError(f"want factors for {len(harmonics)} harmonics, got {len(cosine)} and {len(sine)}")
    factors = _integers(cosine), _integers(sine)
    out = torch.empty(words.shape, dtype=shares.dtype)
    rest = (*(x.data_ptr() for x in factors), constant, shares.data_ptr(), out.data_ptr(), shares.dtype.itemsize)
    _call(_sum, level, words, angles, harmonics, *rest)
    return out


def waves(
    words: Tensor, angles: Angles, harmonics: Sequence[int], frac: int, kind: torch.dtype, level: str | None = None
) -> Tensor:
    """cos and sin of each harmonic of the words' angles at `frac` bits, stacked [cos k1, sin k1, cos k2, ...].

    :raises ValueError: types or sizes are others than in :func:`weighted_sum`.
    """
    if not 0 <= frac < TRIG_FRAC:
        raise ValueError(f"waves: want 0 to {TRIG_FRAC - 1} fraction bits, got {frac}")
    out = torch.empty(2 * len(harmonics), *words.shape, dtype=_wave(kind))
    _call(_waves, level, words, angles, harmonics, frac, out.data_ptr(), kind.itemsize)
    return out


def _call(
    kernel: Kernel, level: str | None, words: Tensor, angles: Angles, harmonics: Sequence[int], *rest: int
) -> None:
    words = check("words", words, torch.int64, words.shape)
    sizes = [digit("angles", table.numel() // 2) for table in (angles.coarse, angles.fine)]
    coarse = check("coarse", angles.coarse, torch.int32, (2, 1 << sizes[0]))
    fine = check("fine", angles.fine, torch.int32, (2, 1 << sizes[1]))
    k = _integers(harmonics)
    kernel(
        level, words.data_ptr(), words.numel(), sum(sizes), sizes[1], coarse.data_ptr(), fine.data_ptr(),
        k.data_ptr(), len(k), *rest,
    )  # fmt: skip


def _integers(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _wave(kind: torch.dtype) -> torch.dtype:
    if kind not in WAVES:
        raise ValueError(f"waves: want int32 or int64, got {kind}")
    return kind
