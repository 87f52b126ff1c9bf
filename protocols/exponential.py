"""e^d for d <= 0 over a whole ring, from one opening; far below it is 0.

With d = x^ - r in a ring of period 2^k, r = 8 r_hi + r_lo and x^ = 8 x_hi + x_lo,

    e^d = e^(8 j + x_lo) e^(-r_lo),   j = x_hi - r_hi

Only j = 0, -1, -2 matter: below -16 the result is under 2^-23 and counts as 0. The dealer shares e^(-r_lo) at one of
eight entries, 0 at the others, and the servers read those at which it is for these j. There are two ways:

* Arguments down to -56: the entry is r_hi mod 8.
* Clamped: whether j is 0, -1 or -2 is a bit c, a parity of entries of a one-hot table of r_hi
  (:mod:`mpcnet.protocols.intervals`) that is opened under a dealt bit rho. The entry is (rho, r_hi mod 4), and the
  servers read those with rho = 1 xor c^, which are all 0 unless c = 1.

An audit is told of arguments that are out of reach, above or below, by the same table; that takes no round.

The public factor is computed in integers, so that two hosts never differ in it (see mpcnet.protocols.series).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import exponential as native
from mpcnet.arrays.native.library import usable
from mpcnet.protocols.intervals import Digit, between, digit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared

BUCKET_BITS = 3  # e^8: the public factor stays below 2^12
ENTRY_BITS = 3
DEALT_FRAC = 23  # of e^(-r_lo): times e^8 its rounding is below 2^-12 of the result, and 2^-15 of it on average
PUBLIC_FRAC = 15  # of e^(8 j + x_lo): its rounding, times an entry of at most 1, is what small results differ by
LARGEST = 2981.0  # e^8: what no result exceeds that an audit was not told of; a literal, the same on every host
LAST = -2  # the last bucket that can hold more than 2^-23
EXACT_FRAC = 25  # of the two table digits; e^8 in 37 bits times the other in 26 fits an int64


def reach(bits: int) -> int:
    """How far below 0 an argument may lie, if an audit is to notice all those from 2^bits below 0 on."""
    return (1 << bits) - (1 << BUCKET_BITS)


def exponential(p: Party, x: Masked, frac: int, keep: Tensor) -> Shared:
    """e^x for an opened x in [-56, 0], zero where `keep` is 0; `frac` fraction bits in a ring of 26 + frac bits.

    An audit is told of every x from 8 on or below -64, and of none in [-56, 0]. Where it is not told of one above 0, by
    chance, the result is right, and below e^8.

    Rounds   0
    Offline  64 bytes an element, and 2^(k - 6) for a period of 2^k: 8 for k = 9
    Error    <= 2e-4 relative and 2e-5 absolute
    Source   docs/protocol.md, "Exponential"
    """
    inside = _inside(BUCKET_BITS + ENTRY_BITS)
    p.audit.flag(lambda: [between(_buckets(p, x), [inside])[0].flip()], keep)
    low = ENTRY_BITS + BUCKET_BITS + x.frac
    dealt = p.deal(lambda r: _rows(ring.unsigned(r, low), x.frac), (x.mask,), (*x.shape, 1 << ENTRY_BITS), 64)
    return _sum(p, x, ring.unsigned(x.opened, low), dealt.share, 1 << ENTRY_BITS, frac).scale(keep)


async def clamped_exponential(p: Party, x: Masked, bits: int, frac: int, keep: Tensor) -> Shared:
    """:func:`exponential` for every opened x up to 0 in its ring.

    An audit is told of every x from 8 on or below -2^bits, and of none in [-reach(bits), 0]; see exponential for those
    above 0.

    Rounds   1
    Sends    1 bit an element each way
    Offline  as exponential, with an audit or without
    Hiding   the bit is opened under a fresh uniform bit
    Source   docs/protocol.md, "Exponential"
    """
    near, inside = between(_buckets(p, x), [(LAST, 0), _inside(bits)])
    p.audit.flag(lambda: [inside.flip()], keep)
    (chosen,) = await p.open_bits(near)
    low = ENTRY_BITS - 1 + BUCKET_BITS + x.frac

    def rows(r: Tensor, rho: Tensor) -> Tensor:
        return _rows(ring.unsigned(r, low) | ring.unpack_bits(rho, x.shape).to(torch.int64) << low, x.frac)

    dealt = p.deal(rows, (x.mask, chosen.mask), (*x.shape, 1 << ENTRY_BITS), 64)
    block = 1 - ring.unpack_bits(chosen.opened, x.shape).to(torch.int64)
    word = ring.unsigned(x.opened, low) | block << low
    return _sum(p, x, word, dealt.share, 1 << (ENTRY_BITS - 1), frac).scale(keep)


def _buckets(p: Party, x: Masked) -> Digit:
    """The digit j."""
    low = BUCKET_BITS + x.frac
    return digit(p, x, low, x.bits - low)


def _inside(bits: int) -> tuple[int, int]:
    """The j of arguments that an audit takes: of none below -2^bits, and of all down to -reach."""
    return 1 - (1 << (bits - BUCKET_BITS)), 0


def _sum(p: Party, x: Masked, word: Tensor, dealt: Tensor, near: int, frac: int) -> Shared:
    """The entries times their public factors."""
    return p.rescale(Shared(_weighted_sum(word, dealt, x.frac, near), 64, DEALT_FRAC + PUBLIC_FRAC, x.party), frac)


def _rows(word: Tensor, frac: int) -> Tensor:
    """The dealer's: e^(-r_lo) at the entry of the digits above it."""
    values = _values(frac)
    if usable(word):
        return native.rows(word, values, 1 << ENTRY_BITS)
    hot = (word >> (BUCKET_BITS + frac)).unsqueeze(-1) == torch.arange(1 << ENTRY_BITS)
    return hot * ring.lookup(values, word & (len(values) - 1)).unsqueeze(-1)


@cache
def _values(frac: int) -> Tensor:
    """e^(-r_lo) for every r_lo at DEALT_FRAC bits; in floating point, as only the dealer needs it."""
    low = torch.arange(1 << (BUCKET_BITS + frac), dtype=torch.float64) * 2.0**-frac
    return torch.round(torch.exp(-low) * 2.0**DEALT_FRAC).to(torch.int64)


def _weighted_sum(word: Tensor, dealt: Tensor, frac: int, near: int) -> Tensor:
    """The sum over j of e^(8 j + x_lo) at PUBLIC_FRAC bits times the dealt entry that belongs to j."""
    coarse, fine = _factors(frac)
    shift = 2 * EXACT_FRAC - PUBLIC_FRAC
    if usable(word, dealt):
        return native.weighted_sum(word, coarse, fine, shift, dealt, near)
    low_bits, fine_bits = BUCKET_BITS + frac, _fine_bits(frac)
    high, first = word >> low_bits, (word & ((1 << low_bits) - 1)) >> fine_bits
    times = ring.lookup(fine, word & (len(fine) - 1))
    total = torch.zeros_like(word)
    for k, table in enumerate(coarse):  # j = -k
        place = (high & (dealt.shape[-1] - near)) | ((high + k) & (near - 1))  # k stays within a block
        entry = torch.take_along_dim(dealt, place.unsqueeze(-1), -1).squeeze(-1)
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
