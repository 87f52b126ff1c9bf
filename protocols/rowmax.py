"""A coarse row maximum in three rounds after the opening of the scores, whatever the length of the row.

Softmax needs the maximum only to keep e^(s - m) in range. Scores are counted into buckets of width 2 by rotating dealt
one-hot vectors, and the highest bucket that is not empty gives m with max < m <= max + 4.

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
from mpcnet.protocols.arith import lift_bit
from mpcnet.protocols.boolean import xor_of_products
from mpcnet.protocols.compare import blocks
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, Shared
from mpcnet.randomness import onehot

WIDTH_BITS = 1  # a bucket is 2 wide
SLACK = 4.0  # m - max is at most this
DIGIT_BITS = 16  # of words that number buckets
GROUPED = 1 << 22  # entries at a time, where torch counts: it takes the square of the buckets for a row
TABLE_BITS = 8  # a count of up to 8 bits is tested for zero by one table


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
             twice the bytes of counts and thrice the bits from 256 keys on
    Offline  a byte a score and bucket (2 from 256 keys on), and a row and bucket but the lowest 33 bytes, or 34 from
             periods of 2^10 on (7 to 8 for 256 to 511 keys, 9 to 10 to 1023)
    Source   docs/protocol.md, "Row maximum"
    """
    low = x.frac + WIDTH_BITS
    count_bits = max(8, x.shape[-1].bit_length())
    counts = _counts(p, x, 1 << (bits - WIDTH_BITS), keep, count_bits)
    at_or_above = counts.map(lambda value: value.flip(-1).cumsum(-1, dtype=value.dtype).flip(-1)[..., 1:])
    empty = await _is_zero(p, await p.open_one(at_or_above))
    (opened_bits,) = await p.open_bits(empty)
    empties = lift_bit(p, opened_bits, x.bits - low).shared().sum(-1, keepdim=True)
    return await p.open_one(-empties + float(counts.shape[-1] - 1))  # the highest bucket in use


def _counts(p: Party, x: Masked, buckets: int, keep: Tensor, bits: int) -> Shared:
    """How many kept scores of a row fall into each bucket: [..., query, key] -> [..., query, bucket].

    The highest bits of the opened word less those of its mask are the bucket, or one more.
    """
    low = x.frac + WIDTH_BITS
    table = p.deal(lambda r: _hot(_digit(r, low), buckets, bits), (x.mask,), (*x.shape, buckets), bits).share
    rows, keys = prod(x.shape[:-1]), x.shape[-1]
    opened, kept = _digit(x.opened, low).reshape(rows, keys), keep.expand(x.shape).reshape(rows, keys)
    counts = _histogram(opened, kept, table.reshape(rows, keys, buckets))
    return Shared(counts.reshape(*x.shape[:-1], buckets), bits, 0, x.party)


def _digit(words: Tensor, low: int) -> Tensor:
    """The bits from `low` on, as many as number the buckets of any window."""
    return ring.fit(words >> low, DIGIT_BITS)


def _hot(digit: Tensor, buckets: int, bits: int) -> Tensor:
    """The dealer's: 1 at the bucket that the digit names, mod 2^bits."""
    if native.fits(ring.dtype(bits), buckets, digit):
        return native.rows(digit, buckets, ring.dtype(bits))
    return ring.fit((digit & (buckets - 1)).unsqueeze(-1) == torch.arange(buckets), bits)


def _histogram(opened: Tensor, keep: Tensor, table: Tensor) -> Tensor:
    """[row, key], [row, key], [row, key, bucket] -> [row, bucket]: the sum of the kept tables, turned by their scores.

    Bucket b of a score opened as u is entry u - b of its table. Sum the tables of equal u first, then turn.
    """
    buckets = table.shape[-1]
    if native.fits(table.dtype, buckets, table, opened):
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


async def _is_zero(p: Party, x: Masked) -> Bits:
    """The bit [x = 0]: x^ = r, read from one-hot tables of r.

    Rounds   0 for up to 8 bits, else 1
    Offline  2^b bits an element for each block of b bits: one of 8, or several of up to 5
    """
    sizes = (x.bits,) if x.bits <= TABLE_BITS else blocks(x.bits)
    rows = p.deal(lambda r: onehot.tables(r, sizes), (x.mask,), (*x.shape, onehot.entries(sizes)), 1).share
    equal = [Bits(bits, x.shape, x.party) for _, bits in onehot.read(rows, x.opened, sizes).digits]
    if len(equal) == 1:
        return equal[0]
    return xor_of_products(p, await p.open_bits(*equal), [tuple(range(len(equal)))])
