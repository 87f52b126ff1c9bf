"""e^d for d <= 0 in one opening, over a wide range, without a comparison.

With d = x^ - r in a ring of period 2^k, r = 8 r_hi + r_lo and x^ = 8 x_hi + x_lo,

    e^d = e^(8 j + x_lo) e^(-r_lo),   j = x_hi - r_hi

The dealer shares onehot(r_hi)[v] e^(-r_lo) for its 2^(k-3) values v; the servers know x_hi, so the entry that belongs
to j is at v = x_hi - j. Only j = 0, -1, -2 matter: below -16 the result is under 2^-23 and counts as 0. What a wider
range costs is entries: 16 for a range of 120, 8 for one of 56.

The public factor is computed in integers, so that two hosts never differ in it (see protocols.series).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mpcnet import ring
from mpcnet.native import exponential as native
from mpcnet.native.library import usable
from protocols.party import Party
from protocols.share import Masked, Shared

BUCKET_BITS = 3  # e^8: the public factor stays below 2^12
LEAST_PERIOD_BITS = 5  # of fewer buckets than 4, those of j = 0, -1, -2 would not be three
DEALT_FRAC = 26  # of e^(-r_lo): times e^8 its rounding is still below 2^-15
PUBLIC_FRAC = 14
LAST = -2  # the last bucket that can hold more than 2^-23
EXACT_FRAC = 25  # of the two table digits; e^8 in 37 bits times the other in 26 fits an int64


def reach(period_bits: int) -> int:
    """How far below 0 an argument may lie that is opened mod 2^period_bits."""
    return (1 << period_bits) - (1 << BUCKET_BITS)


def exponential(p: Party, x: Masked, frac: int) -> Shared:
    """e^x for an opened x in (-(2^k - 8), 0], opened mod 2^k; `frac` fraction bits in a ring of 24 + frac bits.

    Rounds   0
    Offline  2^k bytes an element: 128 for k = 7, 64 for k = 6
    Error    <= 5e-5 absolute
    Source   protocol.md section 7, "one-opening exponential"
    """
    period_bits = x.bits - x.frac
    if period_bits < LEAST_PERIOD_BITS:
        raise ValueError(f"{p.label}: want an argument of at least {LEAST_PERIOD_BITS + x.frac} bits, got {x.bits}")
    buckets = 1 << (period_bits - BUCKET_BITS)
    dealt = p.deal(lambda r: _rows(ring.unsigned(r, x.bits), x.frac, buckets), (x.mask,), (*x.shape, buckets), 64).share
    total = _weighted_sum(ring.unsigned(x.opened, x.bits), dealt, x.frac)
    return p.rescale(Shared(total, 64, DEALT_FRAC + PUBLIC_FRAC, x.party), frac)


def _rows(word: Tensor, frac: int, buckets: int) -> Tensor:
    """The dealer's: e^(-r_lo) at the entry of r_hi."""
    values = _values(frac)
    if usable(word):
        return native.rows(word, values, buckets)
    hot = (word >> (BUCKET_BITS + frac)).unsqueeze(-1) == torch.arange(buckets)
    return hot * ring.lookup(values, word & (len(values) - 1)).unsqueeze(-1)


@cache
def _values(frac: int) -> Tensor:
    """e^(-r_lo) for every r_lo at DEALT_FRAC bits; in floating point, as only the dealer needs it."""
    low = torch.arange(1 << (BUCKET_BITS + frac), dtype=torch.float64) * 2.0**-frac
    return torch.round(torch.exp(-low) * 2.0**DEALT_FRAC).to(torch.int64)


def _weighted_sum(word: Tensor, dealt: Tensor, frac: int) -> Tensor:
    """The sum over j of e^(8 j + x_lo) at PUBLIC_FRAC bits times the dealt entry that belongs to j."""
    coarse, fine = _factors(frac)
    shift = 2 * EXACT_FRAC - PUBLIC_FRAC
    if usable(word, dealt):
        return native.weighted_sum(word, coarse, fine, shift, dealt)
    low_bits, fine_bits = BUCKET_BITS + frac, _fine_bits(frac)
    high, first = word >> low_bits, (word & ((1 << low_bits) - 1)) >> fine_bits
    times = ring.lookup(fine, word & (len(fine) - 1))
    total = torch.zeros_like(word)
    for k, table in enumerate(coarse):  # j = -k
        entry = torch.take_along_dim(dealt, ((high + k) & (dealt.shape[-1] - 1)).unsqueeze(-1), -1).squeeze(-1)
        total = total + ((ring.lookup(table, first) * times + (1 << (shift - 1))) >> shift) * entry
    return total


def _fine_bits(frac: int) -> int:
    """Of x_lo, which is cut in two."""
    return (BUCKET_BITS + frac) // 2


@cache
def _factors(frac: int) -> tuple[Tensor, Tensor]:
    """e^(8 j + x_lo) as a product, by the two digits of x_lo: [3, coarse digit] for j = 0, -1, -2, and [fine digit]."""
    fine_bits = _fine_bits(frac)
    coarse = [_table(BUCKET_BITS + frac - fine_bits, frac - fine_bits, j) for j in range(0, LAST - 1, -1)]
    return torch.stack(coarse), _table(fine_bits, frac, 0)


def _table(digits: int, frac: int, j: int) -> Tensor:
    """e^(8 j + i / 2^frac) for i < 2^digits at EXACT_FRAC bits, by Taylor sums in integers of 96 fraction bits.

    8 j is reached by repeated multiplication with e^-8, so every argument of the series is positive and small.
    """
    one = 1 << 96
    down = one * one // _exp_exact(8 << 96)
    rows = []
    for i in range(1 << digits):
        value = _exp_exact((i << 96) >> frac)
        for _ in range(-j):
            value = value * down >> 96
        rows.append((value + (1 << (95 - EXACT_FRAC))) >> (96 - EXACT_FRAC))
    return torch.tensor(rows)


def _exp_exact(x: int) -> int:
    total, term, n = 0, 1 << 96, 0
    while term:
        total += term
        n += 1
        term = (term * x >> 96) // n
    return total
