"""Interval bits: comparing an opened value with public thresholds.

For y = x - theta, opened as y^ = y + r mod 2^k,

    [y < 0] = msb(y^) xor msb(r) xor [y^_low < r_low]

The dealer shares msb(r) and, for each block of r_low, a one-hot table. "Block of r greater than the public block" and
"equal" are then parities of table entries, local, and the same tables serve every threshold. The blocks are joined by
products of opened bits, so 25 bits cost one round; the bit of the highest block is only added, and never opened.

Source   docs/protocol.md, "Comparisons"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import lift_bit
from mpcnet.protocols.boolean import xor_of_products
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, MaskedBits, Shared
from mpcnet.randomness import onehot

BLOCK = 5  # bits of a block, at most: its table has 2^5 entries; 4 needs more joins, 6 twice the dealt bits
GROUP = 4  # blocks joined in one round once there are more than GROUP + 1


@dataclass(frozen=True, slots=True, repr=False)
class Tables:
    """Shares of the one-hot blocks of a mask, and of its most significant bit, which is bit `bits` - 1 above `drop`."""

    rows: Tensor
    top: Bits
    sizes: tuple[int, ...]
    drop: int
    bits: int


def blocks(bits: int, block: int = BLOCK) -> tuple[int, ...]:
    """Sizes of the fewest blocks of at most `block` bits, as even as possible: their tables are smallest then."""
    count = -(-bits // block)
    return tuple(bits // count + (index < bits % count) for index in range(count))


def tables(p: Party, x: Masked, drop: int = 0, block: int = BLOCK) -> Tables:
    """Deal the comparison tables of an opened value, ignoring its `drop` lowest bits.

    Rounds   0
    Offline  2^b bits an element for each block of b bits, and one bit
    """
    bits = x.bits - drop
    sizes = blocks(bits - 1, block)
    rows = p.deal(lambda r: onehot.tables(r, sizes, drop), (x.mask,), (*x.shape, onehot.entries(sizes)), 1)
    top = p.deal(lambda r: ring.pack_bits(r.to(torch.int64) >> (x.bits - 1) & 1), (x.mask,), x.shape, 1)
    return Tables(rows.share, Bits(top.share, x.shape, x.party), sizes, drop, bits)


async def at_least(p: Party, x: Masked, thresholds: Sequence[float], drop: int = 0, block: int = BLOCK) -> list[Bits]:
    """Bits [x >= theta], one for each public threshold.

    Needs |x - theta| < 2^(k-1) as an integer. With `drop` = d the answer may be 1 already for x in
    [theta - 2^d, theta), in units of 2^-frac, at random: right for a join that is smooth there.

    Rounds   0 for up to 6 + d bits, 1 for up to 26 + d, 2 beyond
    Sends    2 B - 2 bits an element and threshold each way, B = ceil((k - d - 1) / 5) blocks, for up to 5 blocks
    Offline  2^b bits an element for each block of b bits and one more, and 5 bits an element and threshold for B = 3
    Source   docs/protocol.md, "Comparisons"
    """
    known = tables(p, x, drop, block)
    levels = [round(theta * 2**x.frac) for theta in thresholds]
    word = x.opened.to(torch.int64)
    reads = [onehot.read(known.rows, word, known.sizes, drop, level) for level in levels]
    digits = list(zip(*(read.digits for read in reads), strict=True))
    less, equal = ([[Bits(pair[side], x.shape, x.party) for pair in digit] for digit in digits] for side in (0, 1))
    borrows = await _join(p, less, equal)
    signs = [borrow ^ known.top for borrow in borrows]
    return [sign.flip(read.above).flip() for sign, read in zip(signs, reads, strict=True)]


async def _join(p: Party, less: list[list[Bits]], equal: list[list[Bits]]) -> list[Bits]:
    """[public < secret] from the bits of blocks, [block][threshold]: the highest block that differs decides.

    Rounds   1 for up to GROUP + 1 blocks, else one for each level of groups
    """
    while len(less) > 1:
        size = len(less) if len(less) <= GROUP + 1 else GROUP
        groups = [range(start, min(start + size, len(less))) for start in range(0, len(less), size)]
        wanted_less = [i for g in groups for i in g[:-1]]
        wanted_equal = [i for g in groups for i in (g[1:] if len(groups) == 1 else g)]
        wanted = [*(less[i] for i in wanted_less), *(equal[i] for i in wanted_equal)]
        opened = iter(await p.open_bits(*chain.from_iterable(wanted)))
        lows = {i: [next(opened) for _ in less[i]] for i in wanted_less}
        evens = {i: [next(opened) for _ in less[i]] for i in wanted_equal}
        less = [
            [
                _below(p, top, [lows[i][t] for i in g[:-1]], [evens[i][t] for i in g[1:]])
                for t, top in enumerate(less[g[-1]])
            ]
            for g in groups
        ]
        if len(groups) > 1:
            every = [[[evens[i][t] for i in g] for t in range(len(less[0]))] for g in groups]
            equal = [[xor_of_products(p, bits, [tuple(range(len(bits)))]) for bits in row] for row in every]
    return less[0]


def _below(p: Party, top: Bits, less: Sequence[MaskedBits], equal: Sequence[MaskedBits]) -> Bits:
    """top xor, over i, less_i and all equal_j above i (at most one term is 1); `equal` starts at the second block."""
    count = len(less)
    if not count:
        return top
    monomials = [(i, *range(count + i, 2 * count)) for i in range(count)]
    return top ^ xor_of_products(p, [*less, *equal], monomials)


async def pi_lt(p: Party, x: Shared, y: Shared) -> Shared:
    """Pi_LT: the bit [x < y] as an arithmetic share of the ring of x, with no fraction bits.

    Needs |x - y| < 2^(k-1) as an integer.

    Rounds   4 in a 64-bit ring (open, two joins, and the bit into arithmetic); the paper's takes 7
    Sends    12.4 bytes an element each way in a 64-bit ring
    Offline  54 bytes an element
    Source   [SecFormer], Pi_LT (there a bitwise adder); docs/protocol.md, "Comparisons"
    """
    opened = await p.open_one(x - y)
    (bit,) = await at_least(p, opened, [0.0], block=4)
    (less,) = await p.open_bits(bit.flip())
    return lift_bit(p, less, x.bits).shared()
