"""Softmax times V: numerators (squares, positive parts or exponentials), the product with V, and the division per row.

Normalising after the product with V divides d columns instead of n. Numerators are opened once for the product; the row
sums are sums of their shares and cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import WIDE, lift, lift_bit, matmul, product, square
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.division import RowRange, reciprocal
from mpcnet.protocols.exponential import BUCKET_BITS, ENTRY_BITS, clamped_exponential, exponential, reach
from mpcnet.protocols.party import Party
from mpcnet.protocols.rowmax import SLACK, coarse_max, window_limit
from mpcnet.protocols.share import Masked, Shared
from mpcnet.rounds import parallel

Inverse: TypeAlias = Callable[[Party, Shared, RowRange], Coroutine[Any, Any, tuple[Shared, int]]]
Product: TypeAlias = Callable[[Party, Masked, Masked], Shared]
SHIFT = 5.0  # c of 2Quad: (x + c)^2; SecFormer and MPCFormer
RELU_EPS = 0.25  # of 2ReLU: row sums are 0 where no score is positive; 1/4 is exact in fixed point, takes 1% of a row
# that sums to 25, and lets the reciprocal's range, from it to 2^16 times it, reach rows of 512 keys that average 32


@dataclass(frozen=True, slots=True)
class WeighBits:
    """Widths of the product with V and of its division (planned in mpcnet.models.formats.fixed_point)."""

    product: int  # ring of numerators, V and their product
    context_frac: int  # fraction bits of the unnormalised product when it is opened
    result: int  # ring of the result
    frac: int  # fraction bits of the result

    def inverse_frac(self) -> int:
        """Fraction bits of 1 / row sum: what the quotient's rescale leaves to it of the wide ring."""
        return WIDE - self.result + self.frac - self.context_frac


async def squares(p: Party, scores: Shared, keep: Tensor, bits: int, frac: int, *, sure: bool = False) -> Shared:
    """The numerators of 2Quad, (s + 5)^2, zero where `keep` is 0. Needs |s + 5| < 2^(k-2) as an integer; `sure`:
    proved.

    Padding multiplies s + 5: SecFormer's additive -1e4 would be squared.

    Rounds   1
    Sends    3 bytes a score each way for scores of 22 bits
    Offline  25 bytes a score for a ring of 48 after the rescale
    Error    <= 1 ulp
    Source   [MPCFormer]; [SecFormer], 2Quad
    """
    opened = await p.open_one((scores + SHIFT).scale(keep))
    return p.rescale(square(p, lift(p, opened, bits + 2 * scores.frac - frac, sure=sure)), frac)


async def relus(p: Party, scores: Shared, keep: Tensor, bits: int, *, sure: bool = False) -> Shared:
    """The numerators of 2ReLU, max(s, 0), zero where `keep` is 0, exactly. Needs |s| < 2^(k-2) as an integer; `sure`:
    proved.

    One opening serves the comparison and the product; a bit switched by a unit too early would let a row sum below 0.

    Rounds   3: the opening, the comparison, its bit
    Sends    4.125 bytes a score each way for scores of 22 bits
    Offline  40.75 bytes a score for a ring of 48: comparison 16.75, growth and product with its bit 24
    Source   [MPCFormer], 2ReLU
    """
    opened = await p.open_one(scores.scale(keep))
    (positive,) = await at_least(p, opened, [0.0])
    (bit,) = await p.open_bits(positive)
    return product(p, lift_bit(p, bit, bits), lift(p, opened, bits, sure=sure))


@dataclass(frozen=True, slots=True)
class Window:
    """How exact softmax looks at the scores of some heads of a layer.

    `bits`: the row maximum is sought in a window of 2^bits around each head's centre. `period_bits`: scores are opened
    modulo 2^period_bits. `clamped`: those far below their row's maximum are clamped, for a round.
    """

    bits: int
    period_bits: int
    clamped: bool
    heads: tuple[int, ...]
    centres: tuple[float, ...]

    @property
    def span(self) -> int:
        """How far below its row's maximum a score may lie."""
        return reach(self.bits if self.clamped else BUCKET_BITS + ENTRY_BITS) - math.ceil(SLACK)

    def lowest(self) -> Tensor:
        """The lower ends of the heads' windows, [head, 1, 1]."""
        return torch.tensor(self.centres, dtype=torch.float64).reshape(-1, 1, 1) - window_limit(self.bits)


async def exponentials(p: Party, scores: Shared, keep: Tensor, frac: int, windows: Sequence[Window]) -> Shared:
    """The numerators of softmax, each head in its window, zero where `keep` is 0: [batch, head, query, key].

    Rounds   of the window with the most
    """
    if len(windows) == 1:
        return await windowed_exponentials(p, scores, keep, frac, windows[0])
    chosen = [torch.tensor(window.heads) for window in windows]
    parts = [scores.map(lambda value, heads=heads: value.index_select(1, heads)) for heads in chosen]  # type: ignore[misc]
    found = await parallel(
        *(windowed_exponentials(p, part, keep, frac, window) for part, window in zip(parts, windows, strict=True))
    )
    first: Shared = found[0]
    places = torch.cat(chosen).argsort()
    return replace(first, value=torch.cat([part.value for part in found], 1).index_select(1, places))


async def windowed_exponentials(p: Party, scores: Shared, keep: Tensor, frac: int, window: Window) -> Shared:
    """e^(s - m) with max < m <= max + 4, zero where `keep` is 0: [batch, head, query, key], of a window's heads.

    For rows whose scores lie in their head's window and span less than `Window.span`. An audit is told of every other
    row whose result may be wrong: with a score above its window m may be too low, and then some s - m is above 0; a
    score below comes out in the window 2^bits too high, and then m is above that, and s - m below -2^bits. Where s - m
    is above 0 by less than 8, it may not be told: the result is right then, but larger than 1, up to `LARGEST`, and
    whoever sums a row has to serve that, or look. What lies more than 24 below the maximum counts as 0. Result in a
    ring of 26 + frac bits.

    The argument s - m needs no opening: s and m are opened, so it is, under the difference of their masks.

    Rounds   4, 5 from 256 keys on; 1 more if clamped
    Sends    3 bytes a score for 12 fraction bits, a bit if clamped, and what the maximum takes, each way
    Offline  64 bytes a score, 2^(period_bits - 6) if clamped or audited, and what the maximum takes: 104 for a
             window of 6 bits in a period of 9, 136 for one of 7; and what a row's maximum takes
    Hiding   scores and maxima are opened under fresh masks each; what follows from these words tells no more than they
    Source   docs/protocol.md, "Softmax"
    """
    opened = await p.open_one((scores - window.lowest()).reduce(window.period_bits + scores.frac))
    below = _below(opened, await coarse_max(p, opened, window.bits, keep))
    if window.clamped:
        return await clamped_exponential(p, below, window.bits, frac, keep)
    return exponential(p, below, frac, keep)


def _below(x: Masked, top: Masked) -> Masked:
    """x - (2 T + 2), as coarse_max opens T: a 1 of it is a bucket of x."""
    bucket = x.bits - top.bits  # as a power of 2
    opened = x.opened - (ring.fit(top.opened + 1, x.bits) << bucket)
    return replace(x, opened=ring.reduce(opened, x.bits), mask=x.mask.less(top.mask, bucket))


async def mix(p: Party, weights: Shared, value: Shared, bits: WeighBits) -> Shared:
    """sum_j g_j v_j for rows of weights that add up to 1: [..., query, key] and [..., key, dim] -> [..., query, dim].

    Rounds   2
    Sends    words of the product's ring for weights and V, then those of the product, which grows
    Error    roundings
    Source   docs/protocol.md, "Softmax"
    """
    a, v = await p.open(weights.reduce(bits.product), value.reduce(bits.product))
    result = p.rescale(matmul(p, a, v), bits.frac)
    return lift(p, await p.open_one(result), bits.result, sure=True).shared()  # a mean of V's rows


async def weigh(
    p: Party,
    numerators: Shared,
    value: Shared,
    rows: RowRange,
    bits: WeighBits,
    inverse: Inverse = reciprocal,
    eps: float = 0.0,
    multiply: Product = matmul,
) -> Shared:
    """sum_j a_j v_j / (sum_j a_j + eps): [..., query, key] and [..., key, dim] -> [..., query, dim].

    `multiply` is the product of the opened numerators and V, for rows that hold some of the keys only.

    The reciprocal stays deflated, multiplies the raw product, and the quotient is rescaled once. Both factors have few
    enough fraction bits that this leaves it in the ring of the result: it need not be opened again to grow. Nor need it
    be looked at: it is a mean of V's rows.

    Rounds   1 + those of `inverse`, t iterations or 1 by point functions: its first round opens the factors too; then
             the quotient's
    Sends    words of the product's ring for numerators and V, then those of the raw product and of the reciprocal,
             and what `inverse` sends; docs/protocol.md, "Costs", has the figures of a head
    Offline  as there
    Error    that of the reciprocal relative to each result, and rounding: 2^-frac, 2^-context_frac / row sum, and
             2^-inverse_frac * row sum relative to each result
    Source   docs/protocol.md, "Softmax"; [SecFormer], Pi_Softmax (there the division is before V)
    """
    factors = p.open(numerators.reduce(bits.product), value.reduce(bits.product))
    row_sum = numerators.sum(-1, keepdim=True) + eps
    (a, v), (z, e) = await parallel(factors, inverse(p.at("reciprocal"), row_sum, rows))
    raw = p.rescale(multiply(p, a, v), bits.context_frac)
    z = p.rescale(z, min(z.frac, bits.inverse_frac() - e))
    # Both fit whenever the row sum is in its range, which `inverse` has audited, and V in its own.
    wide_raw, wide_z = (lift(p, x, sure=True) for x in await p.open(raw, z))
    return p.rescale(product(p, wide_raw, wide_z).halve(e), bits.frac).reduce(bits.result)
