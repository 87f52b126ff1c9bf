"""CrypTen's functions: limits by squaring, and Newton's iterations from public starts.

| function | as published | served here |
|---|---|---|
| `numerators` | e^(s - max) = (1 + (s - max) / 2^8)^(2^8) | rows that span less than 256 |
| `reciprocal` | 10 steps of y <- 2 y - x y^2 from 3 e^(1 - 2 x) + 0.003 | x from 1/8 to 253: beyond it diverges |
| `rsqrt` | 3 steps of y <- y (3 - x y^2) / 2 from 2.2 e^(-x/2 - 0.2) + 0.2 - x / 1024 | 0.09 to 158, to 1 part in 128 |
| `gelu` | x/2 (1 + tanh(0.798 (x + 0.0447 x^3))), tanh by its sigmoid | inputs of up to 23.4 |

Where a value leaves what is served, the result is wrong as CrypTen's is, and an audit is told.
"""

from __future__ import annotations

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import lift, lift_bit, own_ring, product, square
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.division import ROW_FRAC, RowRange
from mpcnet.protocols.maximum import below_largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Lifted, MaskedBits, Shared
from mpcnet.protocols.squaring import BITS, FRAC, ROW_BITS, squared
from mpcnet.protocols.squaring import ROW_FRAC as BASE_FRAC
from mpcnet.rounds import parallel

EXP_STEPS, SIGMOID_EXP_STEPS = 8, 9  # squarings
RECIPROCAL_STEPS, ROOT_STEPS = 10, 3  # Newton's
LAST_FRAC = 22  # of what is squared last, so that the square times a constant fits the wide ring
SUM_BITS = 40  # a row sum is opened in
INVERSE_FRAC, INVERSE_BITS = 28, 36
MEAN_BITS = 15  # of 2^e / columns: 3e-5 of a variance
VARIANCE_FRAC, VARIANCE_BITS = 20, 34
ROOT_BITS = 32  # |y| < 2^4: the start is below 2.1, and each step multiplies by 1.5 at most
CUBE = 0.044715
OUTER = 0.7978845608028654  # sqrt(2 / pi)
LARGEST_INPUT = 128  # of GeLU, whose cube fits; beyond 23 an audit is told anyway
ARGUMENT_BITS = 32  # of tanh's: |u| < 2^18
LARGEST_ARGUMENT = 512  # from there on 1 - 2 |u| / 512 is below -1, and its powers grow
SIGMOID_START = 0.75


async def numerators(p: Party, scores: Shared, keep: Tensor, bits: int, frac: int, *, sure: bool = False) -> Shared:
    """(1 + d / 256)^256 for d = s - max s, zero where `keep` is 0: [..., query, key]. Needs d > -2^(k-2) as an integer;
    `sure`: that is proved. `frac` fraction bits in a ring of `bits`.

    Rounds   3 ceil(log2 n) + 8: the maximum, the difference, and seven of eight squarings
    Sends    24 bytes a score each way for scores of 22 bits, and what the maximum takes
    Offline  138.4 bytes a score for 128 keys, and what the maximum takes, 28.2
    Error    <= 1.2e-3 absolute, of which the limit form's are 1.06e-3, at d = -2
    Source   [CrypTen], softmax and exp
    """
    below = await below_largest(p, scores, keep)
    wide = lift(p, below, 64, sure=sure).affine(1, 1.0, EXP_STEPS)
    power = await squared(p, wide, EXP_STEPS - 1, sure=True)
    last = await p.open_one(p.rescale(power, min(FRAC, (64 - bits + frac) // 2)))  # what its square's rescale leaves
    return p.rescale(square(p, lift(p, last, 64, sure=True)), frac).reduce(bits).scale(keep)


async def reciprocal(p: Party, x: Shared, rows: RowRange) -> tuple[Shared, int]:
    """1/x and 0, for x from 1/8 to 253.

    Rounds   28: x, seven powers of the start, two a step
    Sends    133 bytes a row each way for sums of 40 bits
    Offline  592 bytes a row
    Error    relative <= 2e-4 for x up to 253, and 2^-28
    Source   [CrypTen], reciprocal: 10 steps from 3 e^(1 - 2 x) + 0.003
    """
    wide = lift(p, await p.open_one(x.reduce(min(x.bits, SUM_BITS))))
    start = await _exponential(p, wide.affine(-1, 257 / 256, 7))  # 1 + (1 - 2 x) / 256
    y = p.rescale(start.scale(3) + 0.003, INVERSE_FRAC).reduce(INVERSE_BITS)
    for _ in range(RECIPROCAL_STEPS):
        wide_y = lift(p, await p.open_one(y))
        wide_square = lift(p, await p.open_one(p.rescale(square(p, wide_y), INVERSE_FRAC).reduce(INVERSE_BITS)))
        less = p.rescale(product(p, wide, wide_square), INVERSE_FRAC)
        y = (wide_y.shared().scale(2) - less).reduce(INVERSE_BITS)
    p.audit.inverse(p, x, y, rows.low, rows.high, 1.0)
    return y, 0


async def rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x), at ROW_FRAC fraction bits: of the variance x / factor^2 from 0.09 to 158.

    Rounds   14: the variance, seven powers of the start, two a step
    Sends    75 bytes a row each way
    Offline  369 bytes a row
    Error    relative <= 8e-3 for variances from 0.09 to 158, 4e-3 from 0.105 to 153.8; 1.1e-3 at 1
    Source   [CrypTen], inv_sqrt: 3 steps
    """
    return await newton_rsqrt(p, x, rows, factor, ROOT_STEPS)


async def newton_rsqrt(p: Party, x: Shared, rows: RowRange, factor: float, steps: int) -> Shared:
    """:func:`rsqrt` by so many steps.

    u y and y^2 are opened together, since y (3 - u y^2) / 2 = 3/2 y - (u y) y^2 / 2: two rounds a step of three
    products.

    Rounds   8 + 2 steps
    Sends    33 + 14 steps bytes a row each way
    """
    wide = lift(p, await p.open_one(_variance(p, x, rows, factor * factor)))
    start = await _exponential(p, wide.affine(-1, 1 - 0.2 / 256, 9))  # 1 - (u/2 + 0.2) / 256
    constant = wide.shared().halve(10)
    y = p.rescale(start.scale(round(2.2 * 2**14), 14) + 0.2, ROW_FRAC) - p.rescale(constant, ROW_FRAC)
    for _ in range(steps):
        wide_y = lift(p, await p.open_one(y.reduce(ROOT_BITS)))
        first = p.rescale(product(p, wide, wide_y), ROW_FRAC).reduce(ROOT_BITS + 6)
        second = p.rescale(square(p, wide_y), ROW_FRAC).reduce(ROOT_BITS + 6)
        a, b = (lift(p, value) for value in await p.open(first, second))
        half = p.rescale(product(p, a, b).halve(), ROW_FRAC)
        y = p.rescale(wide_y.shared().scale(3).halve(), ROW_FRAC) - half
    p.audit.root(p, x, y, rows.low, rows.high, factor * factor)
    return y


def _variance(p: Party, x: Shared, rows: RowRange, columns: float) -> Shared:
    """x / columns: by a power of two, which is free, and by a public number from 1/2 to 1, which costs as many bits of
    the ring as it has."""
    e = ring.floor_log2(columns)
    room = x.bits - x.frac - e - 2 - ring.ceil_log2(max(rows.high / columns, 1.0))
    bits = min(MEAN_BITS, room)
    mean = x.halve(e).scale(round(2.0 ** (e + bits) / columns), bits)
    u = p.rescale(mean, VARIANCE_FRAC)
    return u.reduce(min(u.bits, VARIANCE_BITS))


async def _exponential(p: Party, base: Lifted) -> Shared:
    """base^256, of 2 LAST_FRAC fraction bits in the wide ring.

    Rounds   7
    Sends    28 bytes a row each way
    """
    power = await squared(p, base, EXP_STEPS - 1, BASE_FRAC, ROW_BITS)
    last = await p.open_one(p.rescale(power, LAST_FRAC))
    return square(p, lift(p, last))


async def gelu(p: Party, x: Shared, bits: int, sure: bool = False) -> Shared:
    """x/2 (1 + t(0.798 (x + 0.0447 x^3))) with CrypTen's tanh: t(u) = sign(u) (2 s - 1), s by 3 steps of Newton from
    0.75 for 1 / (1 + e^(-2 |u|)), and e by 9 squarings. x.frac fraction bits in a ring of `bits`.

    An audit is told of |x| from 23.9 on, and of none below 21.9.

    Rounds   17: x, its square, u; nine powers, five of the reciprocal's; the last product
    Sends    57.125 bytes an element each way for a 24-bit input with 12 fraction bits
    Offline  380.75 bytes an element for a ring of 40
    Error    <= 1.1e-3 absolute for |x| up to 23.4; the tanh form's own is 4.7e-4
    Source   [CrypTen], tanh and sigmoid; its GeLU by erf's Taylor series is wrong beyond 2
    """
    opened = await p.open_one(x)
    p.audit.within(p, opened, LARGEST_INPUT << x.frac)
    wide = lift(p, opened, sure=True)
    squares = p.rescale(square(p, wide), x.frac).reduce(ARGUMENT_BITS)
    (positive,), (wide_square,) = await parallel(at_least(p, opened, [0.0]), p.open(squares))
    cube = product(p, wide, lift(p, wide_square, sure=True)).scale(round(OUTER * CUBE * 2**18), 18)
    linear = wide.shared().scale(round(OUTER * 2 ** (18 + x.frac)), 18 + x.frac)
    u = p.rescale(cube + linear, x.frac).reduce(ARGUMENT_BITS)
    (argument,), (bit,) = await parallel(p.open(u), p.open_bits(positive))
    p.audit.within(p, argument, LARGEST_ARGUMENT << x.frac)
    below = product(p, _sign(p, bit, ARGUMENT_BITS), own_ring(argument)).halve(SIGMOID_EXP_STEPS - 1)  # 2 |u| / 512
    start = await p.open_one(p.rescale(-below + 1.0, FRAC).reduce(BITS))
    first = lift(p, start, BITS + FRAC, sure=True)  # from -1 to 1, and so are its powers, or u was flagged
    last = await p.open_one(await squared(p, first, SIGMOID_EXP_STEPS - 1, sure=True))
    power = p.rescale(square(p, lift(p, last, sure=True)), FRAC)
    sigmoid = await _inverse_from(p, (power + 1.0).reduce(BITS))
    size = product(p, _sign(p, bit, x.bits), own_ring(opened))
    s, absolute = (lift(p, value, sure=True) for value in await p.open(sigmoid, size))
    half = product(p, absolute, s.affine(2, -1.0)).halve()
    return p.rescale(half + p.rescale(wide.shared().halve(), half.frac), x.frac).reduce(bits)


def _sign(p: Party, bit: MaskedBits, bits: int) -> Lifted:
    """1 for a bit of 1, and -1 for one of 0."""
    return lift_bit(p, bit, bits).affine(2, -1.0)


async def _inverse_from(p: Party, w: Shared) -> Shared:
    """1/w for w from 1 to 2 by three steps of Newton from 0.75; the first is public but for w.

    Rounds   4
    """
    wide = lift(p, await p.open_one(w), sure=True)
    step = wide.affine(-9, 2 * SIGMOID_START, 4)  # 2 y - w y^2 for y = 3/4
    shared = p.rescale(step.shared(), FRAC)
    squares = p.rescale(square(p, step), FRAC)
    for last in (False, True):
        wide_square = lift(p, await p.open_one(squares.reduce(BITS)), sure=True)
        shared = (shared.scale(2) - p.rescale(product(p, wide, wide_square), FRAC)).reduce(BITS)
        if not last:
            wide_y = lift(p, await p.open_one(shared), sure=True)
            shared, squares = wide_y.shared(), p.rescale(square(p, wide_y), FRAC)
    return shared
