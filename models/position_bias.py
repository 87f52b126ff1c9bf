"""MPNet's relative position bias: what each head adds to a score, by how far the key is from the query.

The bias is a learned table of one row a bucket, the same for all layers. Distances are public, so picking rows of a
shared table is local: no round, no byte.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache

import torch
from torch import Tensor

FARTHEST = 128  # from this distance on all keys share a bucket; transformers' max_distance, which no setting changes
DIGITS = Context(prec=50)
SLOPE_BITS = 40  # of ALiBi's slopes: times any distance they fit an int64
FAR = 256  # ALiBi takes no more than this off a score: a key whose score is lower by 24 already counts as 0
NEGLIGIBLE = 24  # of exact softmax: see mpcnet.protocols.exponential
NEAR = (FAR - NEGLIGIBLE) / 2  # what products of queries and keys stay below, so that such keys do
BUCKETS = 32  # transformers' num_buckets, likewise


@lru_cache(maxsize=8)  # 2 MB for 512 tokens
def buckets(length: int) -> Tensor:
    """The bucket of each pair of positions: int64 [query, key].

    Keys before the query and at it have the first half of the buckets, keys behind it the second. Of each half, the
    first half are distances of their own; the others grow by a constant factor up to FARTHEST.
    """
    side = BUCKETS // 2
    exact = side // 2
    # Distance n is beyond the i-th wide bucket if n >= exact (FARTHEST / exact)^(i / exact): powers of integers, since
    # servers that take logarithms could differ in a last bit, and so in a bucket.
    wide = [
        next(n for n in range(exact, FARTHEST + 1) if n**exact * exact**i >= exact**exact * FARTHEST**i)
        for i in range(1, exact)
    ]
    starts = torch.tensor([*range(1, exact + 1), *wide])
    position = torch.arange(length)
    distance = position[None, :] - position[:, None]
    return torch.bucketize(distance.abs(), starts, right=True) + side * (distance > 0)


def bias(table: Tensor, length: int) -> Tensor:
    """Rows of the table for every pair of positions: [bucket, head] -> [head, query, key]."""
    rows = table.index_select(0, buckets(length).reshape(-1))
    return rows.reshape(length, length, table.shape[1]).permute(2, 0, 1)


def slopes(heads: int) -> list[Decimal]:
    """ALiBi's slope of each head: 2^(-8 / n), and its powers, for n heads; of other counts than powers of two those of
    the power below, and then every other one of the power above.

    Source   [ALiBi]; docs/protocol.md, "A BERT"
    """
    whole = 1 << (heads.bit_length() - 1)
    powers = [Decimal(-8 * (i + 1)) / whole for i in range(whole)]
    powers += [Decimal(-4 * (2 * i + 1)) / whole for i in range(heads - whole)]
    return [DIGITS.exp(DIGITS.multiply(power, DIGITS.ln(Decimal(2)))) for power in powers]


@lru_cache(maxsize=8)
def falls(heads: int, length: int, frac: int) -> Tensor:
    """What a head's scores fall by at each distance, int64 [head, distance] with `frac` fraction bits; FAR at most.

    In integers: two hosts must not add different numbers.
    """
    steps = torch.tensor([int(slope * (1 << SLOPE_BITS)) for slope in slopes(heads)])
    exact = steps[:, None] * torch.arange(length) + (1 << (SLOPE_BITS - frac - 1))
    return (exact >> (SLOPE_BITS - frac)).clamp(max=FAR << frac)


def float_falls(heads: int, length: int) -> Tensor:
    """The same in float64, not rounded."""
    exact = torch.tensor([float(slope) for slope in slopes(heads)], dtype=torch.float64)
    return (exact[:, None] * torch.arange(length)).clamp(max=float(FAR))


def by_gap(values: Tensor, length: int) -> Tensor:
    """Values by distance for every pair of positions: [head, distance] -> [head, query, key]."""
    place = torch.arange(length)
    apart = (place[:, None] - place).abs().reshape(-1)
    return values.index_select(1, apart).reshape(len(values), length, length)


def near_pairs(window: int, length: int) -> Tensor | None:
    """Which keys a query attends to: bool [query, key]; None: all."""
    if not window:
        return None
    place = torch.arange(length)
    return (place[:, None] - place).abs() <= window


@lru_cache(maxsize=8)
def distance_rows(length: int, rows: int, farthest: int) -> Tensor:
    """DeBERTa's row of the table of distances, for each query and key: int64 [query, key], from 0 to 2 rows - 1.

    Up to half of `rows` each distance has its own; from there to `farthest` they grow by a constant factor. Without a
    `farthest` each has its own.
    """
    place = torch.arange(length)
    apart = place[:, None] - place
    if not farthest:
        return (apart + rows).clamp(0, 2 * rows - 1)
    half = rows // 2
    # half + ceil(log(n / half) / log((farthest - 1) / half) (half - 1)), in powers of integers: see `buckets`
    last = farthest - 1
    starts, n = [], half
    for i in range(half - 1):
        while n ** (half - 1) * half**i <= half ** (half - 1) * last**i:
            n += 1
        starts.append(n)
    distance = torch.arange(length)
    row = half + torch.bucketize(distance, torch.tensor(starts), right=True)
    row = torch.where(distance <= half, distance, row)
    return (row[apart.abs()] * apart.sign() + rows).clamp(0, 2 * rows - 1)


def by_distance(found: Tensor, rows: Tensor, by_key: bool) -> Tensor:
    """From products with each row, [..., query or key, row], those of each pair's row: [..., query, key]."""
    length, count = rows.shape[0], found.shape[-1]
    own = torch.arange(length)[None, :] if by_key else torch.arange(length)[:, None]
    index = (own * count + rows).reshape(-1)
    flat = found.reshape(*found.shape[:-2], length * count)
    return flat.index_select(len(flat.shape) - 1, index).reshape(*found.shape[:-2], length, length)
