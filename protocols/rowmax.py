"""A coarse row maximum in three rounds, whatever the length of the row.

Softmax needs the maximum only to keep e^(s - m) in range. Scores are counted into 64 buckets of width 2 by rotating
dealt one-hot vectors, and the highest bucket that is not empty gives m with max < m <= max + 4.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from mpcnet import onehot, ring
from mpcnet.native import histogram as native
from protocols.arith import lift_bit
from protocols.boolean import xor_of_products
from protocols.compare import blocks
from protocols.party import Party
from protocols.share import Bits, Masked, Shared

BUCKET_BITS = 6
BUCKETS = 1 << BUCKET_BITS
WIDTH_BITS = 1  # a bucket is 2 wide, so scores in [-62, 62) have one
LIMIT = (BUCKETS // 2 - 1) << WIDTH_BITS
SLACK = 4.0  # m - max is at most this
TABLE_BITS = 8  # a count of up to 8 bits is tested for zero by one table


async def coarse_max(p: Party, scores: Shared, keep: Tensor) -> Shared:
    """m with max < m <= max + 4 along the last axis, for scores in [-62, 62), over the keys where `keep` is 1.

    [..., query, key] -> [..., query, 1] at the scores' scale, in their ring.

    Rounds   3 (coarse scores, counts, bits) for up to 255 keys, 4 beyond
    Sends    1 byte a score, 63 bytes and 63 bits a row each way (126 and 189 for 256 to 1023 keys)
    Offline  64 bytes a score (128 from 256 keys on), 2205 bytes a row (575 for 256 to 511 keys, 701 to 1023)
    Source   protocol.md section 7, "coarse row maximum", with buckets of 2 instead of 4
    """
    count_bits = max(8, scores.shape[-1].bit_length())
    coarse = p.rescale(scores.halve(WIDTH_BITS), 0) + float(BUCKETS // 2)
    opened = await p.open_reduced(coarse, BUCKET_BITS, BUCKETS // 2, BUCKETS // 2, keep)
    counts = _counts(p, opened, keep, count_bits)
    at_or_above = counts.map(lambda value: value.flip(-1).cumsum(-1, dtype=value.dtype).flip(-1)[..., 1:])
    empty = await _is_zero(p, await p.open_one(at_or_above))
    (opened_bits,) = await p.open_bits(empty)
    empties = lift_bit(p, opened_bits, scores.bits).shared().sum(-1, keepdim=True)
    top = -empties + float(BUCKETS - 1)  # the highest bucket in use
    m = top + (1.0 - BUCKETS // 2)  # rounding may have lowered a score by less than one bucket
    return m.map(lambda value: value << (scores.frac + WIDTH_BITS)).halve(scores.frac)


def _counts(p: Party, x: Masked, keep: Tensor, bits: int) -> Shared:
    """How many kept scores of a row fall into each bucket: [..., query, key] -> [..., query, bucket]."""

    table = p.deal(lambda r: _hot(r, bits), (x.mask,), (*x.shape, BUCKETS), bits).share
    rows, keys = prod(x.shape[:-1]), x.shape[-1]
    opened, kept = x.opened.reshape(rows, keys), keep.expand(x.shape).reshape(rows, keys)
    counts = _histogram(opened, kept, table.reshape(rows, keys, BUCKETS))
    return Shared(counts.reshape(*x.shape[:-1], BUCKETS), bits, 0, x.party)


def _hot(r: Tensor, bits: int) -> Tensor:
    """The dealer's: 1 at the bucket that r names, mod 2^bits."""
    if native.fits(ring.dtype(bits), r):
        return native.rows(r, ring.dtype(bits))
    return ring.fit(ring.unsigned(r, BUCKET_BITS).unsqueeze(-1) == torch.arange(BUCKETS), bits)


def _histogram(opened: Tensor, keep: Tensor, table: Tensor) -> Tensor:
    """[row, key], [row, key], [row, key, bucket] -> [row, bucket]: the sum of the kept tables, turned by their scores.

    Bucket b of a score opened as u is entry u - b of its table. Sum the tables of equal u first, then turn.
    """
    if native.fits(table.dtype, table, opened):
        return native.counts(opened, keep.to(torch.uint8), table)
    rows = len(opened)
    table = table * keep.to(table.dtype).unsqueeze(-1)
    place = ring.unsigned(opened, BUCKET_BITS) + BUCKETS * torch.arange(rows).unsqueeze(-1)
    grouped = table.new_zeros(rows * BUCKETS, BUCKETS)
    grouped = grouped.index_add(0, place.reshape(-1), table.reshape(-1, BUCKETS))
    u, b = torch.arange(BUCKETS).unsqueeze(0), torch.arange(BUCKETS).unsqueeze(1)
    turned = u * BUCKETS + ((u - b) & (BUCKETS - 1))
    return grouped.reshape(rows, BUCKETS * BUCKETS)[:, turned].sum(-1, dtype=table.dtype)


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
