"""Fourier functions: any trigonometric polynomial of a bounded value, local after its opening (SecFormer's Pi_Sin).

With x = x^ - r and w = 2 pi / P,

    cos(k w x) = cos(k w x^) cos(k w r) + sin(k w x^) sin(k w r)

where the dealer shares cos(k w r) and sin(k w r). For a period that is a power of two, reduction mod P 2^frac is a
reduction of the ring: one opening of x serves every series of x, and the result lands in any ring.

The public factors are computed in integers only. Two hosts that rounded a cosine differently would multiply different
public numbers into shares, and the result would be noise; libm differs between hosts, integers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import series as native
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared

TRIG_FRAC = 30  # fraction bits of the tables: products of two entries fit an int64
TABLE_BITS = 10  # an angle is split into digits of this size


@dataclass(frozen=True, slots=True)
class Series:
    """f(x) = sum_k cosine[k] cos(k w x) + sine[k] sin(k w x), w = 2 pi / period; (harmonic, coefficient) pairs."""

    period: int
    cosine: tuple[tuple[int, float], ...] = ()
    sine: tuple[tuple[int, float], ...] = ()

    @property
    def harmonics(self) -> tuple[int, ...]:
        """The harmonics that need dealt values, in order; the constant needs none."""
        return tuple(sorted({k for k, _ in (*self.cosine, *self.sine)} - {0}))


def fourier(p: Party, x: Masked, series: Series, bits: int, frac: int, dealt_frac: int = 14) -> Shared:
    """Evaluate a series on an opened value; exact periodicity, for every x.

    The result has `frac` + `dealt_frac` fraction bits in a ring of `bits`; rescale it as wanted.

    Rounds   0
    Offline  2 ceil(bits / 8) bytes an element and harmonic
    Error    <= 0.71 (sum of |coefficients|) 2^-dealt_frac + 1.42 (number of harmonics) 2^-frac, besides the fit's
    Source   docs/protocol.md, "Fourier series"; [SecFormer], Pi_Sin, after [Zheng23] (there the period is 20)
    """
    size = (series.period.bit_length() - 1) + x.frac
    if series.period & (series.period - 1) or not x.frac <= size <= x.bits:
        held = f"the ring of {x.bits} bits, {x.frac} fraction"
        raise ValueError(f"{p.label}: period {series.period} does not divide {held}")
    harmonics = series.harmonics
    secrets = p.deal(
        lambda r: _waves(r.to(torch.int64), size, harmonics, dealt_frac, bits), (x.mask,),
        (2 * len(harmonics), *x.shape), bits,
    )  # fmt: skip
    cosine, sine = ([_coefficient(pairs, k, frac) for k in harmonics] for pairs in (series.cosine, series.sine))
    constant = _coefficient(series.cosine, 0, frac + dealt_frac) if x.party == 0 else 0
    total = _weighted_sum(x.opened.to(torch.int64), size, harmonics, cosine, sine, constant, secrets.share)
    return Shared(total, bits, frac + dealt_frac, x.party)


def _weighted_sum(
    words: Tensor, size: int, harmonics: Sequence[int], cosine: Sequence[int], sine: Sequence[int],
    constant: int, shares: Tensor,
) -> Tensor:  # fmt: skip
    """constant + sum of [a cos + b sin] C_k + [a sin - b cos] S_k, in the type of the shares [C_1, S_1, C_2, ...]."""
    if native.fits(shares.dtype, words, shares):
        return native.weighted_sum(words, _angles(size), harmonics, cosine, sine, constant, shares)
    total = torch.zeros_like(words) + constant
    for row, (k, a, b) in enumerate(zip(harmonics, cosine, sine, strict=True)):
        cos, sin = turned(k * words, size)
        total = total + _scaled(a * cos + b * sin) * shares[2 * row]
        total = total + _scaled(a * sin - b * cos) * shares[2 * row + 1]
    return total.to(shares.dtype)


async def pi_sin(p: Party, x: Shared, series: Series) -> Shared:
    """Pi_Sin: [x] -> [f(x)] for a series of power-of-two period.

    Rounds   1
    Sends    ceil((log2 P + frac) / 8) bytes an element each way: 3 for P = 16 and 16 fraction bits
    Offline  16 bytes an element and harmonic
    Source   [SecFormer], Pi_Sin, after [Zheng23]
    """
    size = (series.period.bit_length() - 1) + x.frac
    return fourier(p, await p.open_one(x.reduce(size)), series, 64, 16)


def _coefficient(pairs: Sequence[tuple[int, float]], harmonic: int, frac: int) -> int:
    return round(sum(value for k, value in pairs if k == harmonic) * 2.0**frac)


def _scaled(x: Tensor) -> Tensor:
    """Drop the table's fraction bits, to nearest."""
    return (x + (1 << (TRIG_FRAC - 1))) >> TRIG_FRAC


def _waves(words: Tensor, size: int, harmonics: Sequence[int], frac: int, bits: int) -> Tensor:
    """cos and sin of each harmonic of the mask, stacked [cos k1, sin k1, cos k2, ...], at `frac` of `bits` bits."""
    if native.fits(ring.dtype(bits), words):
        return native.waves(words, _angles(size), harmonics, frac, ring.dtype(bits))
    rows = [wave for k in harmonics for wave in turned(k * words, size)]
    half = 1 << (TRIG_FRAC - frac - 1)
    return ring.fit(torch.stack([(row + half) >> (TRIG_FRAC - frac) for row in rows]), bits)


def turned(angle: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi angle / 2^size in integers, from tables of two digits of the angle."""
    angle = angle & ((1 << size) - 1)
    coarse = min(size, TABLE_BITS)
    fine = size - coarse
    cos, sin = (ring.lookup(table, angle >> fine) for table in _table(coarse, coarse))
    if fine:
        low = angle & ((1 << fine) - 1)
        c, s = (ring.lookup(table, low) for table in _table(fine, size))
        cos, sin = _scaled(cos * c - sin * s), _scaled(sin * c + cos * s)
    return cos, sin


@cache
def _angles(size: int) -> native.Angles:
    coarse = min(size, TABLE_BITS)
    tables = (torch.stack(_table(*digit)).to(torch.int32) for digit in ((coarse, coarse), (size - coarse, size)))
    return native.Angles(*tables)


@cache
def _table(digits: int, size: int) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi i / 2^size for i < 2^digits, by Taylor sums in integers of 96 fraction bits."""
    pi = 248902613312231085230521944622  # floor(pi * 2^96)
    pairs = [_cos_sin_exact((2 * pi * i) >> size) for i in range(1 << digits)]
    cos, sin = zip(*pairs, strict=True)
    return torch.tensor(cos), torch.tensor(sin)


def _cos_sin_exact(angle: int) -> tuple[int, int]:
    """cos and sin of angle / 2^96, rounded to TRIG_FRAC bits."""
    sums, term, n = [0, 0], 1 << 96, 0
    while term:
        sums[n & 1] += term if n % 4 < 2 else -term
        n += 1
        term = (term * angle >> 96) // n
    half = 1 << (96 - TRIG_FRAC - 1)
    return (sums[0] + half) >> (96 - TRIG_FRAC), (sums[1] + half) >> (96 - TRIG_FRAC)
