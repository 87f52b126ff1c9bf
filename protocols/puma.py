"""PUMA's functions: e^x by five squarings, a GeLU of two polynomials, and roots and reciprocals of normalised values.

| function | as published | served here |
|---|---|---|
| `numerators` | e^(s - max) = (1 + (s - max) / 2^5)^(2^5), and 0 below -14 | rows that span less than 256 |
| `reciprocal` | x = c 2^e with c in [1/2, 1), 2 steps of Goldschmidt from 2.9142 - 2 c | the range asked for |
| `rsqrt` | x = u 2^e with u in [1/4, 1/2), a quartic in u | the range asked for |
| `gelu` | 0, a cubic from -4, a sextic from -1.95, x above 3 | every x of the ring |

PUMA leaves 1/x and 1/sqrt(x) to its library, SPU, whose constants these are. There the exponent of x is found by a
prefix-or of all bits; here by comparisons of one opening with powers of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import WIDE, lift, lift_bit, product, square
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.division import ROW_FRAC, Z_FRAC, RowRange
from mpcnet.protocols.gelu import polynomial
from mpcnet.protocols.maximum import below_largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Lifted, MaskedBits, Shared
from mpcnet.protocols.squaring import BITS, FRAC, combined, squared
from mpcnet.rounds import parallel

EXP_STEPS, LEAST = 5, -14.0
SEGMENTS = (-4.0, -1.95, 3.0)
CUBIC = (-0.5054031199708174, -0.42226581151983866, -0.11807612951181953, -0.011034134030615728)
SEXTIC = (0.008526321541038084, 0.5, 0.3603292692789629, -0.037688200365904236, 0.0018067462606141187)  # 0 1 2 4 6
ROOT = (4.14285016, -15.47994394, 38.4714796, -49.86605845, 26.02942339)
INVERSE_START = 2.9142
COEFFICIENT_FRAC = 14  # of the quartic's: its sum keeps 54 fraction bits
ROOT_FRAC = 24  # of its value, which is from 1.4 to 2, and of the factor that it is multiplied by
MIDDLE_BITS = 16  # of GeLU's polynomials on their segments, from -0.2 to 3.1 at 12 fraction bits
SLACK_BITS = 6  # below a power of two that a comparison may be early by: 2^-6 of it


async def numerators(p: Party, scores: Shared, keep: Tensor, bits: int, frac: int, *, sure: bool = False) -> Shared:
    """(1 + d / 32)^32 for d = s - max s from -14 on, and 0 below; zero where `keep` is 0: [..., query, key]. Needs
    d > -2^(k-2) as an integer; `sure`: that is proved. `frac` fraction bits in a ring of `bits`.

    Rounds   3 ceil(log2 n) + 6: the maximum, the difference, four of five squarings, the product with the bit
    Sends    19.125 bytes a score each way for scores of 22 bits, and what the maximum takes
    Offline  103.1 bytes a score for 128 keys, and what the maximum takes, 28.2
    Error    <= 8.7e-3 absolute, of which the limit form's are 8.5e-3, at d = -2
    Source   [PUMA], Pi_softmax: t = 5, T_exp = -14
    """
    below = await below_largest(p, scores, keep)
    base = lift(p, below, BITS + 2 * (below.frac + EXP_STEPS) - FRAC, sure=sure).affine(1, 1.0, EXP_STEPS)
    (near,), power = await parallel(at_least(p, below, [LEAST]), squared(p, base, EXP_STEPS, sure=True))
    (bit,), (value,) = await parallel(p.open_bits(near), p.open(power))
    width = bits + max(FRAC - frac, 0)
    chosen = product(p, lift_bit(p, bit, width), lift(p, value, width, sure=True))
    return p.rescale(chosen, frac).scale(keep)


async def gelu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """0 below -4, a cubic, a sextic from -1.95 to 3, and x above; x.frac fraction bits in a ring of `bits`.

    Rounds   4: x; its square, and the comparisons' join; its cube, and the bits; the polynomials
    Sends    16.375 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  214 bytes an element for a ring of 64
    Error    <= 2.1e-2 absolute, of which the polynomials' are 2.0e-2, at 3
    Source   [PUMA], Pi_GeLU
    """
    opened = await p.open_one(x)
    wide = lift(p, opened, bits, sure=sure)
    squares = p.rescale(square(p, wide), x.frac).reduce(x.bits)
    thresholds = [*SEGMENTS[:2], SEGMENTS[2] + 2.0**-x.frac]  # the sextic's segment has both its ends
    (low, middle, high), (two,) = await parallel(at_least(p, opened, thresholds), p.open(squares))
    wide_two = lift(p, two, bits, sure=True)  # beyond the segments it is multiplied by 0
    cube = p.rescale(product(p, wide, wide_two), x.frac).reduce(x.bits)
    chosen = p.open_bits(low ^ middle, middle ^ high, high)
    (first, second, above), (three,) = await parallel(chosen, p.open(cube))
    wide_three = lift(p, three, bits, sure=True)
    one, two_, three_ = wide.shared(), wide_two.shared(), wide_three.shared()
    four, six = (p.rescale(square(p, value), x.frac) for value in (wide_two, wide_three))
    cubic = polynomial(p, [one, two_, three_], CUBIC, x.frac)
    sextic = polynomial(p, [one, two_, four, six], SEXTIC, x.frac)
    parts = await p.open(*(value.reduce(x.frac + MIDDLE_BITS - 12) for value in (cubic, sextic)))
    total = product(p, lift_bit(p, above, bits), wide)
    for bit, part in zip((first, second), parts, strict=True):
        total = total + product(p, lift_bit(p, bit, bits), lift(p, part, bits, sure=True))
    return total


async def reciprocal(p: Party, x: Shared, rows: RowRange) -> tuple[Shared, int]:
    """2^e / x and e, for x in the range `rows`: c in [1/2, 1) is x less its exponent; from r = 2.9142 - 2 c and
    e = 1 - c r twice r <- r (1 + e), e <- e^2.

    Rounds   7, or 8 where high / low is 2^18 or more: x, comparisons, their bits, c, e, r and e, r
    Sends    33.625 bytes a row each way for 16 fraction bits from 0.0174 to 128
    Offline  603.25 bytes a row
    Error    relative <= 7e-5, of which the iteration's are 5.5e-5
    Source   [PUMA] by SPU, div_goldschmidt
    """
    low, high = ring.floor_log2(rows.low), ring.ceil_log2(rows.high)
    wide, bits = await _powers_below(p, x, low, high)
    scale = _scale(p, bits, [2.0 ** (high - e) for e in range(low, high + 1)], high + 1)  # 2^-(e + 1)
    c = p.rescale(product(p, wide, scale), FRAC).reduce(BITS)
    narrow = lift(p, await p.open_one(c), BITS + FRAC)
    start = narrow.affine(-2, INVERSE_START)
    error = p.rescale(-product(p, narrow, start), FRAC) + 1.0
    wide_error = lift(p, await p.open_one(error), BITS + FRAC)
    first = start.shared().reduce(BITS) + p.rescale(product(p, start, wide_error), FRAC)
    r, e = (lift(p, v, BITS + FRAC) for v in await p.open(first, p.rescale(square(p, wide_error), FRAC)))
    second = r.shared().reduce(BITS) + p.rescale(product(p, r, e), FRAC)
    result = product(p, lift(p, await p.open_one(second)), scale).halve(-high)
    z = p.rescale(result, Z_FRAC).reduce(Z_FRAC + high - low + 3)
    p.audit.inverse(p, x, z, rows.low, rows.high, 2.0**high)
    return z, high


async def rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x) for x in the range `rows`, at ROW_FRAC fraction bits: a quartic in u in [1/4, 1/2), which is x
    less its exponent, times a public power for each exponent.

    Rounds   6, or 7 where high / low is 2^18 or more: x, comparisons, their bits, u, u^2, the quartic
    Sends    18.75 bytes a row each way for 28 fraction bits from 0.8 to 17
    Offline  347.875 bytes a row
    Error    relative <= 1e-4, of which the quartic's are 8.2e-5
    Source   [PUMA] by SPU, f_rsqrt
    """
    low, high = ring.floor_log2(rows.low), ring.ceil_log2(rows.high)
    exponents = range(low, high + 1)
    wide, bits = await _powers_below(p, x, low, high)
    scale = _scale(p, bits, [2.0 ** (high - e) for e in exponents], high + 2)  # 2^-(e + 2)
    back = _scale(p, bits, [factor * sqrt(2.0 ** -(e + 2)) * 2.0**ROOT_FRAC for e in exponents], ROOT_FRAC)
    u = p.rescale(product(p, wide, scale), FRAC).reduce(BITS)
    one = lift(p, await p.open_one(u))
    two = lift(p, await p.open_one(p.rescale(square(p, one), FRAC).reduce(BITS)))
    frac = 2 * FRAC + COEFFICIENT_FRAC
    powers = [one.shared(), two.shared(), product(p, one, two), square(p, two)]
    first, *others = (
        power.scale(round(coefficient * 2.0 ** (frac - power.frac)), frac - power.frac)
        for power, coefficient in zip(powers, ROOT[1:], strict=True)
    )
    total = first + ROOT[0]
    for term in others:
        total = total + term
    root = p.rescale(total, ROOT_FRAC).reduce(ROOT_FRAC + 4)
    y = p.rescale(product(p, lift(p, await p.open_one(root)), back), ROW_FRAC)
    p.audit.root(p, x, y, rows.low, rows.high, factor * factor)
    return y


async def _powers_below(p: Party, x: Shared, low: int, high: int) -> tuple[Lifted, list[MaskedBits]]:
    """x opened and grown, and the bits [x >= 2^j] for low < j <= high, for x below 2^(high + 1).

    Rounds   3, or 4 from high - low = 18 on
    """
    opened = await p.open_one(x.reduce(min(x.bits, x.frac + high + 3)))
    thresholds = [2.0**j for j in range(low + 1, high + 1)]
    found = await at_least(p, opened, thresholds, max(x.frac + low - SLACK_BITS, 0)) if thresholds else []
    return lift(p, opened), await p.open_bits(*found) if found else []


def _scale(p: Party, bits: Sequence[MaskedBits], values: Sequence[float], frac: int) -> Lifted:
    """The value of x's exponent, over 2^frac: the first, and a step for each power of two that x reaches."""
    words = [round(value) for value in values]
    steps = [after - before for before, after in pairwise(words)]
    return combined(p, bits, steps, words[0], frac, WIDE)
