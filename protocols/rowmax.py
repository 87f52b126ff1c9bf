"""A coarse row maximum in three rounds after the opening of the scores, and four for long rows.

Softmax needs the maximum only to keep e^(s - m) in range. Scores are counted into buckets of width 2 by rotating dealt
one-hot vectors, and the highest bucket that is not empty gives m with max < m <= max + 4. In rows of 256 keys and more
parities take the place of counts (:mod:`mpcnet.protocols.parities`).

The scores of a row should lie in a window of 2^bits less 2, which is known beforehand: half the window is half the
buckets. The exponential reads the same opening (:mod:`mpcnet.protocols.softmax`), and with it what tells if they do
not.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import histogram as native
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.protocols import parities
from mpcnet.protocols.arith import lift_bit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, Shared
from mpcnet.randomness import onehot

WIDTH_BITS = 1  # a bucket is 2 wide
SLACK = 4.0  # m - max is at most this
DIGIT_BITS = 16  # of words that number buckets
COUNT_BITS = 8  # a count of so many is tested for zero by one table
GROUPED = 1 << 22  # entries at a time, where torch counts: it takes the square of the buckets for a row


def window_limit(bits: int) -> int:
    """How far from its centre a score may lie in a window of 2^bits.

    A mask may move a score to the bucket above its own, so there is one above the highest.
    """
    return (1 << (bits - 1)) - (1 << (WIDTH_BITS - 1))


async def coarse_max(p: Party, x: Masked, bits: int, keep: Tensor) -> Masked:
    """T with max < 2 T + 2 <= max + 4 along the last axis, for opened x in [0, 2^bits - 2), over the keys of `keep`.

    An x elsewhere counts at its residue mod 2^bits.

    [..., query, key] -> [..., query, 1], without fraction bits, opened modulo half of what x is: mod 2^(k - 1) if
    x was opened mod 2^k.

    Rounds   3 (counts, bits, maxima) for up to 255 keys, 4 beyond
    Sends    for B buckets, B - 1 bytes and B - 1 bits a row each way, and a byte for T or two from periods of 2^10 on;
             6 times the bytes from 256 keys on
    Offline  a byte a score and bucket, and a row and bucket but the lowest 33 bytes, or 34 from periods of 2^10 on;
             from 256 keys on a bit a score and bucket, and 32 bytes more a row and bucket but the lowest
    Error    for 256 keys and more m is too low by 2 with a chance of 2^-40 for each bucket below the maximum
    Source   docs/protocol.md, "Row maximum"
    """
    low, buckets = x.frac + WIDTH_BITS, 1 << (bits - WIDTH_BITS)
    none_at_or_above = _none_counted if x.shape[-1] < 1 << COUNT_BITS else parities.none_at_or_above
    (none,) = await p.open_bits(await none_at_or_above(p, x, low, buckets, keep))
    empties = lift_bit(p, none, x.bits - low).shared().sum(-1, keepdim=True)
    return await p.open_one(-empties + float(buckets - 1))  # the highest bucket in use


async def _none_counted(p: Party, x: Masked, low: int, buckets: int, keep: Tensor) -> Bits:
    """For each bucket b >= 1: whether no kept score of a row lies in b or above it, for fewer than 256 of them.

    [..., query, key] -> [..., query, B - 1]. The bits of the opened word from `low` on, less those of its mask, are the
    bucket, or one more.

    Rounds   1
    """
    table = p.deal(lambda r: _hot(_digit(r, low), buckets), (x.mask,), (*x.shape, buckets), COUNT_BITS).share
    rows, keys = prod(x.shape[:-1]), x.shape[-1]
    opened, kept = _digit(x.opened, low).reshape(rows, keys), keep.expand(x.shape).reshape(rows, keys)
    counts = _histogram(opened, kept, table.reshape(rows, keys, buckets)).reshape(*x.shape[:-1], buckets)
    at_or_above = counts.flip(-1).cumsum(-1, dtype=counts.dtype).flip(-1)[..., 1:]
    return _is_zero(p, await p.open_one(Shared(at_or_above, COUNT_BITS, 0, x.party)))


def _digit(words: Tensor, low: int) -> Tensor:
    """The bits from `low` on, as many as number the buckets of any window."""
    return ring.fit(words >> low, DIGIT_BITS)


def _hot(digit: Tensor, buckets: int) -> Tensor:
    """The dealer's: 1 at the bucket that the digit names."""
    if native.fits(buckets, digit):
        return native.rows(digit, buckets)
    return ((digit & (buckets - 1)).unsqueeze(-1) == torch.arange(buckets)).to(torch.uint8)


def _histogram(opened: Tensor, keep: Tensor, table: Tensor) -> Tensor:
    """[row, key], [row, key], [row, key, bucket] -> [row, bucket]: the sum of the kept tables, turned by their scores.

    Bucket b of a score opened as u is entry u - b of its table. Sum the tables of equal u first, then turn.
    """
    buckets = table.shape[-1]
    if native.fits(buckets, table, opened):
        return native.counts(opened, keep.to(torch.uint8), table)
    if isinstance(table, ShapeOnly):
        return table.sum(1, dtype=table.dtype)
    parts = range(0, len(opened), max(1, GROUPED // buckets**2))
    found = [_grouped(*(x[start : start + parts.step] for x in (opened, keep, table))) for start in parts]
    return torch.cat(found) if found else table.new_zeros(0, buckets)


def _grouped(opened: Tensor, keep: Tensor, table: Tensor) -> Tensor:
    """:func:`_histogram` in torch, of a few rows."""
    rows, buckets = len(opened), table.shape[-1]
    table = table * keep.to(table.dtype).unsqueeze(-1)
    place = (opened.to(torch.int64) & (buckets - 1)) + buckets * torch.arange(rows).unsqueeze(-1)
    grouped = table.new_zeros(rows * buckets, buckets)
    grouped = grouped.index_add(0, place.reshape(-1), table.reshape(-1, buckets))
    u, b = torch.arange(buckets).unsqueeze(0), torch.arange(buckets).unsqueeze(1)
    turned = u * buckets + ((u - b) & (buckets - 1))
    return grouped.reshape(rows, buckets * buckets)[:, turned].sum(-1, dtype=table.dtype)


def _is_zero(p: Party, x: Masked) -> Bits:
    """The bit [x = 0]: x^ = r, read from one-hot tables of r.

    Offline  2^8 bits an element
    """
    sizes = (COUNT_BITS,)
    rows = p.deal(lambda r: onehot.tables(r, sizes), (x.mask,), (*x.shape, onehot.entries(sizes)), 1).share
    ((_, equal),) = onehot.read(rows, x.opened, sizes).digits
    return Bits(equal, x.shape, x.party)
