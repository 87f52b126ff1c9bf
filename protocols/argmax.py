"""Which of a few values is the largest, as one-hot bits.

All pairs are compared in one batch, w_ij = [x_i >= x_j] for i < j. A value wins if it is not below any behind it and
above all before it: of equal values the first wins, and always exactly one does. The w_ij, which would tell the order
of all values, stay shared, and so do the products of them: what is opened on the way is masked.
"""

from __future__ import annotations

from itertools import combinations

import torch

from mpcnet.arrays import ring
from mpcnet.protocols.boolean import xor_of_products
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared

DIFFERENCE_BITS = 26  # five blocks to compare, as many as one round joins
SHOWN_BITS = 32
GROUP = 4  # factors that one round multiplies: 11 dealt bits a product, and twice that for a fifth


async def one_hot_argmax(p: Party, x: Shared, *, sure: bool = False) -> Bits:
    """The bits [x_i is the largest], the lowest i of equal ones: [..., n] -> [..., n], n >= 2.

    Needs |x_i - x_j| < 2^(DIFFERENCE_BITS - 1) as an integer; `sure`: proved. A pair is one of n (n - 1) / 2.

    Rounds   2 for n = 2; 3 up to n = 5; 4 up to n = 17: the opening, the comparison, products of n - 1 bits
    Sends    4 bytes and 8 bits a pair each way, and for n > 2 n (n - 1) bits in the first round of products
    Offline  198 bits a pair, and for n = 3, 4, 5 n times 1, 4, 11 bits
    Source   docs/protocol.md, "Argmax and maximum"
    """
    count = x.shape[-1]
    first, second = (torch.tensor(places) for places in zip(*_pairs(count), strict=True))
    difference = x.map(lambda value: value.index_select(-1, first) - value.index_select(-1, second))
    # More bits than are compared, in as many bytes, show an audit what leaves them.
    bits = DIFFERENCE_BITS if sure else p.audit.shown_bits(DIFFERENCE_BITS, SHOWN_BITS)
    shown = await p.open_one(difference.reduce(bits))
    if not sure:
        p.audit.within(p, shown, 1 << (DIFFERENCE_BITS - 1))
    (not_below,) = await at_least(p, shown.reduce(DIFFERENCE_BITS), [0.0])
    factors = [_beats(not_below, k, count) for k in range(count - 1)]
    while len(factors) > 1:
        opened = await p.open_bits(*factors)
        groups = [opened[start : start + GROUP] for start in range(0, len(opened), GROUP)]
        factors = [xor_of_products(p, group, [tuple(range(len(group)))]) for group in groups]
    return factors[0]


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(combinations(range(count), 2))


def _beats(not_below: Bits, k: int, count: int) -> Bits:
    """For each value, whether it wins against the k-th of the others, from the bits of pairs."""
    pairs = _pairs(count)
    others = [k + (k >= i) for i in range(count)]
    places = torch.tensor([pairs.index((min(i, j), max(i, j))) for i, j in enumerate(others)])
    chosen = not_below.map(lambda bits: bits.index_select(-1, places))
    later = torch.tensor([i > j for i, j in enumerate(others)])
    return chosen.flip(ring.pack_bits(later.expand(chosen.shape)))
