"""MPNet's relative position bias: what each head adds to a score, by how far the key is from the query.

The bias is a learned table of one row a bucket, the same for all layers. Distances are public, so picking rows of a
shared table is local: no round, no byte.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

FARTHEST = 128  # from this distance on all keys share a bucket; transformers' max_distance, which no setting changes
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


def near_pairs(window: int, length: int) -> Tensor | None:
    """Which keys a query attends to: bool [query, key]; None: all."""
    if not window:
        return None
    place = torch.arange(length)
    return (place[:, None] - place).abs() <= window
