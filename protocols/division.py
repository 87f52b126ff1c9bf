"""1/x and 1/sqrt(x) by Goldschmidt's iteration, deflated per site from the range that is served there.

That range is proved from the weights, or calibrated (mpcnet.models.formats.planner). An audit finds what leaves it
(mpcnet.protocols.audit.Audit.inverse), and any result that is wrong by more than one part in 128.

There is one such value per row, so what counts is rounds and precision, not bytes. Every iteration opens its values,
multiplies them in the 64-bit ring and rescales exactly; opening regrows the ring for the next iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from mpcnet.arrays import ring
from mpcnet.protocols.arith import WIDE, lift, product, square
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Lifted, Shared

ROW_FRAC = 26  # fraction bits of 1/sqrt and its q
INVERSE_FRAC = 28  # of 1/x's q: 3e-5, the least of a row of 512, is still known to 1e-4
Q_BITS = 32  # |q| < 4 at 28 fraction bits, with room for growth
LARGEST_ROOT = 2.0**9  # y is opened in a ring of 37 bits: 26 fraction bits, and two for growth
START_FRAC = 24  # of y's public start; m's 27, these, and 2^9 make 61 bits
Z_FRAC = 20  # of the deflated reciprocal
Z_BITS = 64 - INVERSE_FRAC  # its ring; it is opened there, which leaves |z| < 2^14
TOLERANCE = 2e-4  # relative error an iteration count must reach on the whole range, in exact arithmetic


@dataclass(frozen=True, slots=True)
class RowRange:
    """The range of a per-row positive value that is served, and how Goldschmidt's iteration serves it.

    No text brings about a value of `most` or more; where that is above `high`, an audit looks for those between.
    """

    low: float
    high: float
    most: float = 0.0  # `high` at least

    def deflation(self, limit: float) -> int:
        """The e with high / 2^e <= limit: deflating by a power of two costs nothing."""
        return ring.ceil_log2(self.high / limit)

    def reciprocal_steps(self, deflation: int) -> int:
        """Iterations until (1 - q)^(2^t) is below the tolerance on the whole range."""
        return self._steps(deflation, RECIPROCAL_LEAST, lambda q: q * (2 - q))

    def rsqrt_steps(self, deflation: int) -> int:
        return self._steps(deflation, RSQRT_LEAST, lambda q: q * ((3 - q) / 2) * ((3 - q) / 2))

    def _steps(self, deflation: int, least: float, step: Callable[[float], float]) -> int:
        """Both ends count: the error is largest at one of them, the upper one where the range is narrow."""
        ends = [self.low / 2**deflation, self.high / 2**deflation]
        count = 0
        while max(abs(1 - q) for q in ends) > TOLERANCE or count == 0:
            if ends[0] < least:
                raise ValueError(f"the range {self.low:g} to {self.high:g} is too wide for Goldschmidt's iteration")
            ends, count = [step(q) for q in ends], count + 1
        return count


RECIPROCAL_LIMIT = 1.5  # q in (0, 2) converges; 1.5 leaves a margin of a third
RSQRT_LIMIT = 2.0  # q in (0, 3) converges; likewise
RECIPROCAL_LEAST = 2.0**-17  # the least q: two units of 2^-28 are 1e-3 of it
RSQRT_LEAST = 2.0**-16  # likewise, one unit of 2^-26


async def reciprocal(p: Party, x: Shared, rows: RowRange) -> tuple[Shared, int]:
    """2^e' / x and e', for x in the range `rows`; the caller keeps it deflated and divides by 2^e' by scale alone.

    q = x / 2^e, z = 2^(e' - e); repeat m = 2 - q; q <- q m; z <- z m. e' is e, or less where 1/q would leave z's ring.

    Rounds   t (t iterations; the first needs no opening of z, the last none of q)
    Sends    9 t - 5 bytes a row each way (4 for t = 1)
    Error    relative <= 2e-4 + 2^(e - 27) / low: TOLERANCE, and the roundings of the least q
    Source   [Goldschmidt64]; [SecFormer] (eta = 5000, t = 13 there); eta and t come from the range here
    """
    e = rows.deflation(RECIPROCAL_LIMIT)
    start = max(0, ring.ceil_log2(2.0**e / rows.low) - (Z_BITS - 2 - Z_FRAC))
    q = _deflate(p, x, e, INVERSE_FRAC)
    z: Shared | None = None
    for _ in range(rows.reciprocal_steps(e)):
        wide_q, wide_z = await _open(p, q, z)
        m = wide_q.affine(-1, 2.0)
        q = p.rescale(product(p, wide_q, m), INVERSE_FRAC).reduce(Q_BITS)
        z = p.rescale(m.shared().halve(start) if wide_z is None else product(p, wide_z, m), Z_FRAC).reduce(Z_BITS)
    assert z is not None
    p.audit.inverse(p, x, z, rows.low, rows.high, 2.0 ** (e - start))
    return z, e - start


async def rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x) for x in the range `rows`, at ROW_FRAC fraction bits.

    q = x / 2^e, y = factor / 2^(e/2); repeat m = (3 - q) / 2; q <- q m^2; y <- y m.

    Rounds   2 t - 1 (m^2 is opened for its second product; the first iteration needs no opening of y)
    Sends    13 t - 9 bytes (4 if t = 1) a row each way
    Error    relative <= 2e-4 + 2^(e - 26) / low
    Source   [Goldschmidt64]; [SecFormer] (eta = 2000, t = 11 there); eta and t come from the range here

    :raises ValueError: factor / sqrt(low) is LARGEST_ROOT or more: y would not fit the ring it is opened in.
    """
    if factor >= LARGEST_ROOT * sqrt(rows.low):
        raise ValueError(f"{p.label}: want factor / sqrt(x) < {LARGEST_ROOT}, got {factor / sqrt(rows.low):.4g}")
    e = rows.deflation(RSQRT_LIMIT)
    q = _deflate(p, x, e, ROW_FRAC)
    start = factor * sqrt(2.0**-e)  # sqrt is correctly rounded everywhere; a power with a fraction is not
    y: Shared | None = None
    steps = rows.rsqrt_steps(e)
    for step in range(steps):
        opened, *rest = await p.open(q) if y is None else await p.open(q, y)
        if step == 0:  # from q = 3 on y could become the negative root
            p.audit.within(p, opened, 3 << ROW_FRAC)
        wide_q, wide_y = lift(p, opened, sure=step == 0), lift(p, rest[0]) if rest else None
        m = wide_q.affine(-1, 1.5, frac=1)
        if wide_y is None:
            scaled = m.affine(round(start * 2**START_FRAC), 0.0, START_FRAC).shared()
        else:
            scaled = product(p, wide_y, m)
        y = p.rescale(scaled, ROW_FRAC)
        if step + 1 < steps:
            wide_s, _ = await _open(p, p.rescale(square(p, m), ROW_FRAC).reduce(Q_BITS), None)
            q = p.rescale(product(p, wide_q, wide_s), ROW_FRAC).reduce(Q_BITS)
    assert y is not None
    p.audit.root(p, x, y, rows.low, rows.high, factor * factor)
    return y


async def divide(p: Party, a: Shared, b: Shared, rows: RowRange) -> Shared:
    """Pi_Div: a / b for b in the range `rows`, at ROW_FRAC fraction bits; b broadcasts against a.

    The reciprocal stays deflated, multiplies the numerator, and the result is rescaled once; a reciprocal that is
    rounded first may be less than one ulp. Needs |a / b| 2^e < 2^(62 - a.frac - Z_FRAC).

    Rounds   t + 1
    Sends    9 t - 5 bytes a row, 5 more for z, and ceil(bits / 8) an element of a, each way
    Error    relative, that of :func:`reciprocal`; 2^(-Z_FRAC - e) |a|, and an ulp of the result
    Source   [SecFormer], Pi_Div; docs/protocol.md, "Goldschmidt's iterations"
    """
    z, e = await reciprocal(p, b, rows)
    numerator, wide_z = await _open(p, a, z)
    assert wide_z is not None
    quotient = product(p, numerator, wide_z).halve(e)
    return p.rescale(quotient, min(ROW_FRAC, quotient.frac))


async def _open(p: Party, first: Shared, second: Shared | None) -> tuple[Lifted, Lifted | None]:
    """Open one or two values in one round and lift them to the wide ring."""
    values = [first] if second is None else [first, second]
    opened = [lift(p, value, WIDE) for value in await p.open(*values)]
    return opened[0], opened[1] if second is not None else None


def _deflate(p: Party, x: Shared, e: int, frac: int) -> Shared:
    """q = x / 2^e at so many fraction bits."""
    return p.rescale(x.halve(e), frac).reduce(Q_BITS)
