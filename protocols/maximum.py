"""The largest of many values, exactly: a tournament, in which every second value leaves in each of log2 n rounds of it.

Which values take part is public, so where one of a pair does not, the other goes on without a comparison that counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mpcnet.protocols.arith import lift_bit, own_ring, product
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared


async def largest(p: Party, x: Shared, keep: Tensor) -> Shared:
    """max_i x_i over the i of the mask `keep` [..., n], which is public: [..., n, c] -> [..., c].

    Needs |x_i - x_j| < 2^(bits - 1) as an integer. Where the mask has no i, the result means nothing.

    Rounds   3 ceil(log2 n) in a ring of up to 26 bits: the difference, its comparison, its sign
    Sends    4 bytes and 9 bits a comparison each way in a ring of 26 bits; n - 1 comparisons a column
    Offline  198 bits and 8 bytes a comparison in a ring of 26 bits
    Error    none
    Source   docs/protocol.md, "Argmax and maximum"
    """
    while (count := x.shape[-2]) > 1:
        pairs = count // 2
        first, second = x.take(np.s_[..., :pairs, :]), x.take(np.s_[..., pairs : 2 * pairs, :])
        shown = await p.open_one(first - second)
        (not_below,) = await at_least(p, shown, [0.0])
        (sign,) = await p.open_bits(not_below)
        larger = second + product(p, lift_bit(p, sign, x.bits), own_ring(shown))
        mine, theirs = keep[..., :pairs], keep[..., pairs : 2 * pairs]
        parts = (larger, mine & theirs), (first, mine & ~theirs), (second, theirs & ~mine)
        chosen, one, other = (value.scale(mask.to(torch.int64).unsqueeze(-1)) for value, mask in parts)
        won, left = chosen + one + other, x.take(np.s_[..., 2 * pairs :, :])
        x = replace(won, value=torch.cat([won.value, left.value], -2))
        keep = torch.cat([mine | theirs, keep[..., 2 * pairs :]], -1)
    return x.take(np.s_[..., 0, :])


async def below_largest(p: Party, x: Shared, keep: Tensor) -> Masked:
    """x less the largest of its row, opened; 0 where `keep` is 0: [..., query, key], `keep` [..., 1, key], public.

    Needs |x_i - x_j| < 2^(bits - 1) in a row.

    Rounds   1 more than :func:`largest`
    Sends    ceil(bits / 8) bytes an element each way, and what the maximum takes
    Error    none
    """
    top = await largest(p, x.map(lambda value: value.transpose(-1, -2)), keep.squeeze(-2).bool())
    return await p.open_one((x - top.map(lambda value: value.unsqueeze(-1))).scale(keep))
