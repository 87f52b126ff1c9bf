"""1/x and 1/sqrt(x) over a wide range in three rounds: segments of ratio 8, each with its own series.

A value x is opened once, at its finest scale. For segment s, q = x / c_s with c_s = 8^s c_0 is what remains of the
opened value when its lowest bits are left out; a short series in q of period 16 gives f(q) for q in [1, 8). Interval
bits select the segment, and the selected value is scaled by the public f(c_s). There is one such value per row, so
rounds are what counts: the dealer sends under 1 kB a row for five segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from mpcnet import ring
from mpcnet.rounds import parallel
from protocols.arith import lift, lift_bit, product
from protocols.compare import at_least
from protocols.division import ROW_FRAC, Z_FRAC, RowRange
from protocols.party import Party
from protocols.series import Series, evaluate
from protocols.share import Bits, Masked, Shared

# protocols.fit: RSQRT, INVERSE print these: the constant, then cosine and sine of each harmonic.
RSQRT = (
    6.771995561, 4.121199684, -10.3949563, -5.944912676, -5.100681311, -3.755347177, 2.273177065, 0.4513576523,
    1.860572927, 0.6163307969, 0.03692574633, 0.04568547771, -0.1245766231, -0.01161516301, -0.008638082714,
)  # fmt: skip
INVERSE = (
    33.79889429, 20.48820844, -57.25914288, -35.29991104, -28.24430802, -23.15428523, 14.94363297, 3.450206265,
    13.11060384, 5.217109244, 0.2759253902, 0.5248423146, -1.398951259, -0.2246322914, -0.1753084234, -0.02262994271,
    0.01562776007,
)  # fmt: skip

PERIOD_BITS = 4  # the series have period 16, twice their interval
ARGUMENT_FRAC = 14  # fraction bits of q, 1 at least
DEALT_FRAC = 26  # the coefficients add up to 240: their rounding errors stay below 1e-5
PUBLIC_FRAC = 22
VALUE_FRAC = 20  # of f(q), below 2, when it is opened for the selection
VALUE_BITS = 24
SCALE_FRAC = 18  # of the public scale of a segment
RATIO_BITS = 3  # a segment spans a factor of 8
BLOCK, GROUP = 6, 5  # 37 bits are compared in one round


def _series(coefficients: tuple[float, ...]) -> Series:
    cosine = ((0, coefficients[0]), *enumerate(coefficients[1::2], 1))
    return Series(1 << PERIOD_BITS, cosine, tuple(enumerate(coefficients[2::2], 1)))


@dataclass(frozen=True, slots=True)
class Segments:
    """How a range is cut: c_0 = 2^first, and so many segments."""

    first: int
    count: int

    @staticmethod
    def of(rows: RowRange) -> Segments:
        first = ring.floor_log2(rows.low)
        return Segments(first, max(1, -((first - ring.ceil_log2(rows.high)) // RATIO_BITS)))

    @property
    def frac(self) -> int:
        """Fraction bits of the opened value: ARGUMENT_FRAC for the first segment's q."""
        return ARGUMENT_FRAC - self.first

    @property
    def bits(self) -> int:
        """Ring of the opened value: its largest value, a sign, and room for the differences with thresholds."""
        return ARGUMENT_FRAC + RATIO_BITS * self.count + 2

    def start(self, index: int) -> float:
        return 2.0 ** (self.first + RATIO_BITS * index)


async def segmented_rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x) for x in the calibrated range, at ROW_FRAC fraction bits.

    Rounds   3 (open; join the comparison; bits with values), 2 for one segment, 4 for more than seven
    Sends    23.625 bytes a row each way for five segments
    Offline  774 bytes a row for five segments
    Error    relative <= 2e-4 over the range, of which the fit is 2.5e-5
    Source   protocol.md section 6
    """
    return await _segmented(p, x, rows, _series(RSQRT), lambda start: factor / sqrt(start), ROW_FRAC)


async def segmented_reciprocal(p: Party, x: Shared, rows: RowRange) -> tuple[Shared, int]:
    """2^e / x and e, for x in the calibrated range: the deflated form of protocols.division.reciprocal.

    Rounds   3, 2 for one segment, 4 for more than seven
    Sends    23.625 bytes a row each way for five segments
    Offline  854 bytes a row for five segments
    Error    relative <= 2e-4 over the range, of which the fit is 4e-5
    """
    e = ring.ceil_log2(rows.high)
    return await _segmented(p, x, rows, _series(INVERSE), lambda start: 2.0**e / start, Z_FRAC), e


async def _segmented(
    p: Party, x: Shared, rows: RowRange, series: Series, scale: Callable[[float], float], frac: int
) -> Shared:
    cut = Segments.of(rows)
    opened = await p.open_one(p.rescale(x, cut.frac).reduce(cut.bits))
    values = [_value(p, opened, series, index).reduce(VALUE_BITS) for index in range(cut.count)]
    if cut.count == 1:
        picked = [lift(p, await p.open_one(values[0])).shared()]
    else:
        chosen = await _one_of(p, opened, cut)
        pairs = zip(*await parallel(p.open_bits(*chosen), p.open(*values)), strict=True)
        picked = [product(p, lift_bit(p, bit), lift(p, value)) for bit, value in pairs]
    scales = [round(scale(cut.start(index)) * 2**SCALE_FRAC) for index in range(cut.count)]
    terms = [value.scale(factor, SCALE_FRAC) for value, factor in zip(picked, scales, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return p.rescale(total, frac)


async def _one_of(p: Party, x: Masked, cut: Segments) -> list[Bits]:
    """For each segment, the bit that x lies in it."""
    starts = [cut.start(index) for index in range(1, cut.count)]
    above = await at_least(p, x, starts, block=BLOCK, group=GROUP)
    return [above[0].flip(), *(low ^ high for low, high in pairwise(above)), above[-1]]


def _value(p: Party, x: Masked, series: Series, index: int) -> Shared:
    """f(q) of one segment at VALUE_FRAC bits; beyond the segment anything, and not selected."""
    size, drop = PERIOD_BITS + ARGUMENT_FRAC, RATIO_BITS * index
    return p.rescale(evaluate(p, x, series, size, drop, 64, PUBLIC_FRAC, DEALT_FRAC), VALUE_FRAC)
