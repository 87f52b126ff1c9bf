"""Softmax times V: numerators (squares, positive parts or exponentials), the product with V, and the division per row.

Normalising after the product with V divides d columns instead of n. Numerators are opened once for the product; the row
sums are sums of their shares and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from mpcnet.rounds import parallel
from protocols.arith import WIDE, lift, lift_bit, matmul, product, square
from protocols.compare import at_least
from protocols.division import RowRange, reciprocal
from protocols.exponential import PERIOD_BITS, RANGE, exponential
from protocols.party import Party
from protocols.rowmax import coarse_max
from protocols.share import Shared

Inverse: TypeAlias = Callable[[Party, Shared, RowRange], Coroutine[Any, Any, tuple[Shared, int]]]
SHIFT = 5.0  # c of 2Quad: (x + c)^2; SecFormer and MPCFormer
RELU_EPS = 0.25  # of 2ReLU: row sums are 0 where no score is positive; 1/4 is exact in fixed point, takes 1% of a row
# that sums to 25, and lets the reciprocal's range, from it to 2^16 times it, reach rows of 512 keys that average 32


@dataclass(frozen=True, slots=True)
class WeighBits:
    """Widths of the product with V and of its division (planned in models.numbers)."""

    product: int  # ring of numerators, V and their product
    context_frac: int  # fraction bits of the unnormalised product when it is opened
    result: int  # ring of the result
    frac: int  # fraction bits of the result

    def inverse_frac(self) -> int:
        """Fraction bits of 1 / row sum: what the quotient's rescale leaves to it of the wide ring."""
        return WIDE - self.result + self.frac - self.context_frac


async def squares(p: Party, scores: Shared, keep: Tensor, bits: int, frac: int) -> Shared:
    """The numerators of 2Quad, (s + 5)^2, zero where `keep` is 0. Needs |s + 5| < 2^(k-2) as an integer.

    Padding multiplies s + 5: SecFormer's additive -1e4 would be squared.

    Rounds   1
    Source   SecFormer, section 3; MPCFormer (Li et al. 2023)
    """
    opened = await p.open_one((scores + SHIFT).scale(keep))
    return p.rescale(square(p, lift(p, opened, bits + 2 * scores.frac - frac)), frac)


async def relus(p: Party, scores: Shared, keep: Tensor, bits: int) -> Shared:
    """The numerators of 2ReLU, max(s, 0), zero where `keep` is 0, exactly. Needs |s| < 2^(k-2) as an integer.

    One opening serves the comparison and the product; a bit switched by a unit too early would let a row sum below 0.

    Rounds   3: the opening, the comparison, its bit
    Sends    4.125 bytes a score each way for scores of 22 bits
    Offline  40.75 bytes a score for a ring of 48: comparison 16.75, growth and product with its bit 24
    Source   MPCFormer (Li et al. 2023)
    """
    opened = await p.open_one(scores.scale(keep))
    (positive,) = await at_least(p, opened, [0.0])
    (bit,) = await p.open_bits(positive)
    return product(p, lift_bit(p, bit, bits), lift(p, opened, bits))


async def exponentials(p: Party, scores: Shared, keep: Tensor, frac: int) -> Shared:
    """The numerators of softmax, e^(s - m) with max < m <= max + 4, zero where `keep` is 0.

    For scores in [-62, 62) whose row spans less than 116. Result in a ring of 24 + frac bits.

    Rounds   4, 5 from 256 keys on
    Source   exact softmax, protocol.md section 6
    """
    m = await coarse_max(p, scores, keep)
    bits, half = PERIOD_BITS + scores.frac, 1 << (PERIOD_BITS - 1)
    # Below 8 it is below 0, since all scores have buckets.
    opened = await p.open_reduced(scores + -m, bits, half << scores.frac, (half - RANGE) << scores.frac, keep)
    return exponential(p, opened, frac).scale(keep)


async def weigh(
    p: Party,
    numerators: Shared,
    value: Shared,
    rows: RowRange,
    bits: WeighBits,
    inverse: Inverse = reciprocal,
    eps: float = 0.0,
) -> Shared:
    """sum_j a_j v_j / (sum_j a_j + eps): [..., query, key] and [..., key, dim] -> [..., query, dim].

    The reciprocal stays deflated, multiplies the raw product, and the quotient is rescaled once. Both factors have few
    enough fraction bits that this leaves it in the ring of the result: it need not be opened again to grow. Nor need it
    be looked at: it is a mean of V's rows.

    Rounds   1 + those of `inverse`, t iterations or 1 by point functions: its first round opens the factors too; then
             the quotient's
    Error    that of the reciprocal relative to each result, and rounding: 2^-frac, 2^-context_frac / row sum, and
             2^-inverse_frac * row sum relative to each result
    Source   SecFormer, Pi_Softmax; deviation: division after V
    """
    factors = p.open(numerators.reduce(bits.product), value.reduce(bits.product))
    row_sum = numerators.sum(-1, keepdim=True) + eps
    (a, v), (z, e) = await parallel(factors, inverse(p.at("reciprocal"), row_sum, rows))
    raw = p.rescale(matmul(p, a, v), bits.context_frac)
    z = p.rescale(z, min(z.frac, bits.inverse_frac() - e))
    wide_raw, wide_z = (lift(p, x) for x in await p.open(raw, z))
    if p.audit is not None:
        p.audit.inverse(p, row_sum, wide_z.shared(), rows, 2**e)
    return p.rescale(product(p, wide_raw, wide_z).halve(e), bits.frac).reduce(bits.result)
