"""MPCFormer's Quad, which stands in for GeLU in models that were trained with it."""

from __future__ import annotations

from mpcnet.protocols.arith import lift, square
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

OUTER_BITS = 3  # Quad is a square divided by 2^3, plus 3/8
CONSTANT = 0.375


async def quad(p: Party, x: Shared, bits: int, *, sure: bool = False) -> Shared:
    """0.125 x^2 + 0.25 x + 0.5 = (x + 1)^2 / 8 + 3/8. Needs |x + 1| < 2^(k-2) as an integer; `sure`: that is proved.

    The result has the fraction bits of x, in a ring of `bits`.

    Rounds   1
    Sends    3 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  20 bytes an element for a ring of 40: the growth's 8, the products of mask and wrap bit 12
    Error    <= 1 ulp of the result, beside x's own rounding
    Source   [MPCFormer], Quad; the completed square saves the linear term

    :raises ValueError: the largest result does not fit the ring.
    """
    drop = x.frac + OUTER_BITS
    if bits < 2 * (x.bits - 2) - drop + 2:
        raise ValueError(f"{p.label}: want a ring for squares of {x.bits} bits less {drop}, got {bits} bits")
    wide = lift(p, await p.open_one(x + 1.0), bits + drop, sure=sure)
    return p.rescale(square(p, wide).halve(OUTER_BITS), x.frac) + CONSTANT
