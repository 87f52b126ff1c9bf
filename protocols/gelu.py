"""GeLU and its like for every input: a fitted middle between exact tails.

GeLU(x) = x/2 + E(x) with E(x) = x erf(x / sqrt 2) / 2, even. Beyond 4 it is 0 or x to 1.3e-4. GeLU by tanh and SiLU
have an E of their own. Where an argument is `sure`, |x| < 2^(k-2) as an integer of its k-bit ring is proved, and no
audit looks at it.

| function | middle | rounds | used by |
|---|---|---|---|
| `gelu` | E by five odd cosines | 3 | suite "fast" |
| `gelu_tanh` | its E by five odd cosines | 3 | all suites |
| `silu` | its E by eight odd cosines | 3 | all suites |
| `relu` | none | 3 | all suites |
| `tanh` | twelve sines | 3 | all suites |
| `pi_gelu` | erf by seven sines (SecFormer v2) | 4 | suite "secformer" |
| `pi_gelu_polynomial` | E by two polynomials in x^2 (SecFormer v1) | 4 | comparison |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpcnet.protocols.arith import lift, lift_bit, product
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.party import Party
from mpcnet.protocols.series import Series, fourier
from mpcnet.protocols.share import Masked, Shared
from mpcnet.rounds import parallel

# mpcnet.protocols.fit: GELU_EVEN, GELU_TANH_EVEN, SILU_EVEN, ERF, TANH, INNER, OUTER print these.
ODD = (0, 1, 3, 5, 7, 9)
EVEN_PART = (1.999823426, -1.732060349, -0.2149625821, -0.0457621261, -0.006509708626, -0.0004772625188)
TANH_EVEN_PART = (1.999883255, -1.732093304, -0.2151938347, -0.04556996449, -0.006410961787, -0.0005583825016)
SILU_ODD = (0, 1, 3, 5, 7, 9, 11, 13, 15)
SILU_EVEN_PART = (
    3.99724894, -3.418901714, -0.4185266455, -0.1133075617, -0.03305571243, -0.009490755484, -0.002842140118,
    -0.0007753262294, -0.0002808486736,
)  # fmt: skip
ERF_SINES = (1.254947516, -0.1205430029, 0.3330170867, -0.08947771123, 0.08657782892, -0.01944445066, 0.008589750349)
TANH_SINES = (
    -0.6513446167, 3.28083036, -3.774214567, 4.034627097, -3.388274259, 2.581607118,
    -1.657096963, 0.9420087578, -0.4415578187, 0.1734219644, -0.04909833861, 0.009478714807,
)  # fmt: skip
INNER = (0.001961073791, 0.3848731779, -0.05031514188, 0.003380427498)
OUTER = (0.3709368699, 0.1741764165, -0.006636711731, 0.0001315806691)

GELU_EVEN = Series(16, cosine=tuple(zip(ODD, EVEN_PART, strict=True)))
GELU_TANH_EVEN = Series(16, cosine=tuple(zip(ODD, TANH_EVEN_PART, strict=True)))
SILU_EVEN = Series(32, cosine=tuple(zip(SILU_ODD, SILU_EVEN_PART, strict=True)))
ERF = Series(16, sine=tuple(enumerate(ERF_SINES, 1)))
TANH = Series(16, sine=tuple(enumerate(TANH_SINES, 1)))

LOW, HIGH = -4.0, 4.25  # a coarse bit may switch 1/4 early, so the middle serves [-4.25, 4.25], where it is fitted
STEP_BITS = 2  # thresholds are compared in steps of 2^-2: fewer bits to compare, and the joins are smooth there
SILU_LOW, SILU_HIGH = -8.0, 8.25
TANH_LOW, TANH_HIGH = -4.75, 5.0
SPLIT = 2.25  # where the two polynomials of |x| meet with equal errors


def _drop(x: Masked) -> int:
    """Fraction bits below the step of comparisons."""
    return max(x.frac - STEP_BITS, 0)


@dataclass(frozen=True, slots=True)
class Ramp:
    """f(x) = x/2 + E(x) from `low` to `high`, 0 below and x above.

    The middle less `centre` is opened in a ring of x.frac + `whole` bits; E's cosines are dealt with `dealt_frac`.
    """

    even: Series
    low: float
    high: float
    centre: int
    whole: int
    dealt_frac: int


async def _ramp(p: Party, x: Shared, ramp: Ramp, bits: int, sure: bool) -> Shared:
    """[low <= x < high] (x/2 + E(x)) + [x >= high] x, right for every x of the ring."""
    opened = await p.open_one(x)
    even = fourier(p, opened, ramp.even, x.frac + ramp.whole + ramp.dealt_frac + 2, x.frac + 2, ramp.dealt_frac)
    half = opened.shared().halve().finer(even.frac - x.frac - 1)
    inner = p.rescale(half + even - ramp.centre, x.frac)
    grown = lift(p, opened, bits, sure=sure)
    low, high = await at_least(p, opened, [ramp.low, ramp.high], _drop(opened))
    (between, above), (middle,) = await parallel(p.open_bits(low ^ high, high), p.open(inner))
    inside = lift_bit(p, between, bits)
    result = product(p, inside, lift(p, middle, bits, sure=True))
    result = result + inside.shared().scale(ramp.centre << x.frac, x.frac)
    return result + product(p, lift_bit(p, above, bits), grown)


async def gelu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """GeLU, right for every x of the ring: [low <= x < high] (x/2 + E(x)) + [x >= high] x.

    The middle lies in [-0.2, 4.25), so 2 less of it is opened in a ring of x.frac + 4 bits; where the bit that
    multiplies it is 0 it may be anything. The result has the fraction bits of x, in a ring of `bits`.

    Rounds   3
    Sends    6.25 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  84.4 bytes an element for a ring of 40: series 40, comparison 9.4, its selection and growth 35
    Error    <= 5e-4 absolute at 12 fraction bits: roundings, the fit's 5.2e-5, the tail's 1.3e-4 where it begins
    Source   docs/protocol.md, "GeLU and tanh"; Pi_Sin of [SecFormer] applied to E
    """
    return await _ramp(p, x, Ramp(GELU_EVEN, LOW, HIGH, centre=2, whole=4, dealt_frac=14), bits, sure)


async def gelu_tanh(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """GeLU by tanh, x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): :func:`gelu` with another E, at its cost.

    Rounds   3
    Sends    6.25 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  84.4 bytes an element for a ring of 40
    Error    <= 5e-4 absolute at 12 fraction bits
    Source   docs/protocol.md, "GeLU and tanh"
    """
    return await _ramp(p, x, Ramp(GELU_TANH_EVEN, LOW, HIGH, centre=2, whole=4, dealt_frac=14), bits, sure)


async def silu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """SiLU, x / (1 + e^-x) = x/2 + E(x) with E(x) = x tanh(x / 2) / 2: :func:`gelu` with a wider middle.

    Rounds   3
    Sends    7.25 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  108.4 bytes an element for a ring of 40: series 64, and more of the middle
    Error    <= 3e-3 absolute, which is the tail's where it begins, at 8; <= 1e-3 where |x| < 7.75
    Source   docs/protocol.md, "GeLU and tanh"
    """
    return await _ramp(p, x, Ramp(SILU_EVEN, SILU_LOW, SILU_HIGH, centre=4, whole=5, dealt_frac=13), bits, sure)


async def relu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """max(x, 0), exactly; x.frac fraction bits in a ring of `bits`.

    Rounds   3
    Sends    4.125 bytes an element each way for a 24-bit input
    Offline  36.75 bytes an element for a ring of 40
    Error    none
    Source   docs/protocol.md, "GeLU and tanh"
    """
    opened = await p.open_one(x)
    (positive,) = await at_least(p, opened, [0.0])
    (bit,) = await p.open_bits(positive)
    return product(p, lift_bit(p, bit, bits), lift(p, opened, bits, sure=sure))


async def pi_gelu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """Pi_GeLU by segmented Fourier: x/2 (1 + erf), erf = -1, seven sines, or 1. Result: 2 x.frac + 4 fraction bits.

    Rounds   4
    Sends    10.25 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  173.4 bytes an element for a ring of 64
    Error    <= 2.5e-4 absolute at 12 fraction bits; beyond 5 only x's own rounding
    Source   [SecFormer], Pi_GeLU; docs/protocol.md, "Differences from SecFormer": power-of-two period, refitted sines
             (theirs err by 2e-2), and the two comparisons read the same opening as the sines
    """
    opened = await p.open_one(x)
    fine = x.frac + 3  # 1 + erf multiplies values up to 4 before it is exactly 2
    erf = await _clipped(p, opened, ERF, LOW, HIGH, fine, bits)
    factor = lift(p, await p.open_one((erf + 1.0).reduce(fine + 4)), bits, sure=True)  # from 0 to 2
    return product(p, lift(p, opened, bits, sure=sure), factor).halve()


async def tanh(p: Party, x: Shared, bits: int) -> Shared:
    """tanh by twelve sines between -5 and 5, and -1 or 1 outside; x.frac fraction bits in a ring of `bits`.

    Rounds   3
    Sends    7.25 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  165.4 bytes an element for a ring of 48
    Error    <= 5e-4 absolute at 12 fraction bits
    Source   docs/protocol.md, "GeLU and tanh"
    """
    return await _clipped(p, await p.open_one(x), TANH, TANH_LOW, TANH_HIGH, x.frac, bits)


async def _clipped(p: Party, x: Masked, series: Series, low: float, high: float, frac: int, bits: int) -> Shared:
    """An odd series inside [low, high), -1 below and 1 above: 2 rounds after the opening of x."""
    small = frac + 5  # |f| < 2 inside; outside it is multiplied by 0, whatever it is
    waves = p.rescale(fourier(p, x, series, small + 20, frac + 4, dealt_frac=16), frac)
    below, above = await at_least(p, x, [low, high], _drop(x))
    (between, top), (middle,) = await parallel(p.open_bits(below ^ above, above), p.open(waves))
    chosen = product(p, lift_bit(p, between, bits), lift(p, middle, bits, sure=True))
    inner, upper = lift_bit(p, between, bits).shared(), lift_bit(p, top, bits).shared()
    sign = upper.scale(2) + inner  # 2 above, 1 between, 0 below
    return chosen + replace(sign, value=sign.value << frac, frac=frac) - 1.0


async def pi_gelu_polynomial(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """Pi_GeLU by segmented polynomials: E(x) by cubics in x^2 on |x| < 2.25 and up to 4.25. Result: x.frac bits.

    Rounds   4
    Sends    23.375 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  176.6 bytes an element for a ring of 64
    Error    <= 4.5e-3 absolute, of which 2.2e-3 are the fit's
    Source   [SecFormer], version 1, whose coefficients are unpublished: own fit; those of [PUMA] err by 2e-2
    """
    opened = await p.open_one(x)
    grown = lift(p, opened, bits, sure=sure)
    thresholds = [LOW, -SPLIT, SPLIT, HIGH]
    squared = p.rescale(product(p, grown, grown), x.frac).reduce(x.bits + 8)
    bit, (u,) = await parallel(at_least(p, opened, thresholds, max(x.frac - 5, 0)), p.open(squared))
    wide_u = lift(p, u, bits, sure=True)
    square = p.rescale(product(p, wide_u, wide_u), x.frac).reduce(x.bits + 12)
    inner = bit[1] ^ bit[2]
    outer = inner ^ bit[0] ^ bit[3]
    (b_inner, b_outer, b_above), (u2,) = await parallel(p.open_bits(inner, outer, bit[3]), p.open(square))
    wide_square = lift(p, u2, bits, sure=True)
    cube = product(p, wide_square, wide_u)
    powers = [wide_u.shared(), wide_square.shared(), p.rescale(cube, x.frac)]
    middles = [polynomial(p, powers, c, x.frac).reduce(x.bits + 4) for c in (INNER, OUTER)]
    half = grown.shared().reduce(x.bits + 4)
    first, second = await p.open(*(middle + p.rescale(half.halve(), x.frac) for middle in middles))
    total = product(p, lift_bit(p, b_inner, bits), lift(p, first, bits, sure=True))
    total = total + product(p, lift_bit(p, b_outer, bits), lift(p, second, bits, sure=True))
    return total + product(p, lift_bit(p, b_above, bits), grown)


def polynomial(p: Party, powers: Sequence[Shared], coefficients: Sequence[float], frac: int) -> Shared:
    """c_0 + sum c_i powers_i with 24-bit coefficients (the cube of 18 multiplies the last), rescaled once."""
    scale = 24
    bits = min(power.bits for power in powers)
    first, *others = (
        power.reduce(bits).scale(round(value * 2**scale), scale)
        for power, value in zip(powers, coefficients[1:], strict=True)
    )
    total = first + coefficients[0]
    for term in others:
        total = total + term
    return p.rescale(total, frac)
