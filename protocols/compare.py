"""Interval bits: comparing an opened value with public thresholds.

For y = x - theta, opened as y^ = y + r mod 2^k,

    [y < 0] = msb(y^) xor msb(r) xor [y^_low < r_low]

The dealer shares msb(r) and, for each 4-bit block of r_low, a one-hot table of 16 bits. "Block of r greater than the
public block" and "equal" are then parities of table entries, local, and the same tables serve every threshold.
The blocks are joined by products of up to five opened bits, so 20 bits cost one round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet import ring
from protocols.arith import lift_bit
from protocols.boolean import xor_of_products
from protocols.party import Party
from protocols.share import Masked, Shared

BLOCK = 4  # bits: a table has 2^4 entries; 3 needs more joins, 5 twice the dealt bits
GROUP = 4  # blocks joined in one round once there are more than GROUP + 1


@dataclass(frozen=True, slots=True, repr=False)
class Tables:
    """Shares of the one-hot blocks of a mask: `blocks` is [..., block, entry]; `top` is its most significant bit."""

    blocks: Tensor
    top: Tensor
    bits: int


def tables(p: Party, x: Masked, drop: int = 0, block: int = BLOCK) -> Tables:
    """Deal the comparison tables of an opened value, ignoring its `drop` lowest bits.

    Rounds   0
    Offline  2^block bits for each block of bits an element, and one bit
    """
    bits, entries = x.bits - drop, 1 << block
    count = (bits - 1 + block - 1) // block

    def blocks(r: Tensor) -> Tensor:
        low = ((ring.unsigned(r, 63) >> drop) & ((1 << (bits - 1)) - 1)).unsqueeze(-1)
        digits = (low >> (block * torch.arange(count))) & (entries - 1)
        return (digits.unsqueeze(-1) == torch.arange(entries)).to(torch.uint8)

    shares = p.deal(blocks, (x.mask,), (*x.shape, count, entries), 1)
    top = p.deal(lambda r: (r.to(torch.int64) >> (x.bits - 1)) & 1, (x.mask,), x.shape, 1)
    return Tables(shares.share, top.share, bits)


async def at_least(
    p: Party, x: Masked, thresholds: Sequence[float], drop: int = 0, block: int = BLOCK, group: int = GROUP
) -> Shared:
    """Bits [x >= theta] for public thresholds, stacked in front: [threshold, ...].

    Needs |x - theta| < 2^(k-1) as an integer. With `drop` = d the answer may be 1 already for x in
    [theta - 2^d, theta), in units of 2^-frac, at random: right for a join that is smooth there. Wider blocks and groups
    save rounds where elements are few: a group of g + 1 blocks deals about 2^(g + 1) bits.

    Rounds   0 for up to 5 + d bits, 1 for up to 21 + d, 2 beyond
    Sends    2 B - 1 bits an element and threshold each way, B = ceil((k - d - 1) / 4) blocks, for up to 5 blocks
    Offline  16 B + 1 bits an element, and 15 bits an element and threshold for B = 4
    Source   protocol.md section 5; the one-round join of blocks replaces a logarithmic one
    """
    known = tables(p, x, drop, block)
    word = x.opened.to(torch.int64)
    levels = [round(theta * 2**x.frac) for theta in thresholds]
    moved = torch.stack([ring.shift_right(word - level, 64, drop) if drop else word - level for level in levels])
    count = known.blocks.shape[-2]
    place = block * torch.arange(count)
    low = (moved & ((1 << (known.bits - 1)) - 1)).unsqueeze(-1)
    digits = ((low >> place) & ((1 << block) - 1)).unsqueeze(-1)
    up_to = known.blocks.cumsum(-1, dtype=torch.uint8)
    below = [full - part for full, part in zip(up_to[..., -1].unbind(-1), _pick(up_to, digits), strict=True)]
    equal = _pick(known.blocks, digits)
    party = x.party
    borrow = await _join(p, [Shared(t, 1, 0, party) for t in below], [Shared(t, 1, 0, party) for t in equal], group)
    sign = borrow.value ^ known.top
    if party == 0:
        public = (moved >> (known.bits - 1)) & 1
        sign = sign ^ public.to(torch.uint8) ^ 1
    return Shared(sign, 1, 0, party)


def _pick(table: Tensor, digits: Tensor) -> list[Tensor]:
    """The entry of each block's table at the public digit, a tensor per block from the lowest."""
    wide = table.expand(*digits.shape[:-1], table.shape[-1])
    return list(torch.take_along_dim(wide, digits, -1).squeeze(-1).unbind(-1))


async def _join(p: Party, less: list[Shared], equal: list[Shared], group: int) -> Shared:
    """[public < secret] from the blocks' bits: the highest block that differs decides.

    Rounds   1 for up to group + 1 blocks, else one for each level of groups
    """
    while len(less) > 1:
        size = len(less) if len(less) <= group + 1 else group
        groups = [range(start, min(start + size, len(less))) for start in range(0, len(less), size)]
        last = len(groups) == 1
        opened = await p.open(*less, *(equal[1:] if last else equal))
        lows, evens = opened[: len(less)], opened[len(less) :]
        if last:
            return _below(p, lows, evens)
        less = [_below(p, [lows[i] for i in g], [evens[i] for i in g[1:]]) for g in groups]
        equal = [xor_of_products(p, [evens[i] for i in g], [tuple(range(len(g)))]) for g in groups]
    return less[0]


def _below(p: Party, less: Sequence[Masked], equal: Sequence[Masked]) -> Shared:
    """xor over i of less_i and all equal_j above i (at most one term is 1); `equal` starts at the second block."""
    count = len(less)
    monomials = [(i, *range(count + i, 2 * count - 1)) for i in range(count)]
    return xor_of_products(p, [*less, *equal], monomials)


async def pi_lt(p: Party, x: Shared, y: Shared) -> Shared:
    """Pi_LT: the bit [x < y] as an arithmetic share of the ring of x, with no fraction bits.

    Needs |x - y| < 2^(k-1) as an integer.

    Rounds   4 in a 64-bit ring (open, two joins, and the bit into arithmetic); the paper's takes 7
    Sends    13 bytes an element each way in a 64-bit ring
    Offline  55 bytes an element
    Source   SecFormer, section 2 (there: a bitwise adder); here by one-hot tables
    """
    opened = await p.open_one(x - y)
    bit = await at_least(p, opened, [0.0])
    less = bit.take(0)
    if less.party == 0:
        less = less.map(lambda value: value ^ 1)
    return lift_bit(p, await p.open_one(less), x.bits).shared()
