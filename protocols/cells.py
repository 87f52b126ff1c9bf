"""1/x and 1/sqrt(x) over a wide range in the round that opens x: point functions pick a polynomial's cell.

x is opened as x^ = x + r. Let a cell of size u hold x: with lx = x^ mod u, lr = r mod u and z the difference of the
cells of x^ and r, x = z u + lx - lr, exactly (:mod:`mpcnet.randomness.fss`). So f(x) is on that cell a public cubic in
t = (lx - lr) / u, which lies in (-1, 1), and hence a cubic in rho = lr / u - 1/2 with coefficients that are public at
lx / u - 1/2. The dealer puts 1, rho, rho^2, rho^3 at r's place; each server weighs its shares of every cell with the
coefficients of that cell, and their sum is a share of f(x) in the 64-bit ring. Nothing is selected or grown.

The public factors are computed in integers, so that two hosts never differ in them (see mpcnet.protocols.series).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt, sqrt

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import fss as native
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.protocols.division import ROW_FRAC, Z_FRAC, RowRange
from mpcnet.protocols.intervals import between, digit
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, Shared
from mpcnet.randomness import fss

ARGUMENT_FRAC = 16  # fraction bits of the least x, from 1 to 2: the opening's rounding moves it by 1.5e-5 at most
FACTOR_FRAC = 20  # of the public factors of the least f(x), from 1 to 2
POWER_FRAC = 18  # of the dealt powers of rho, which factors of f(x) / 8 and less multiply
TAU_FRAC = 20
BEYOND_BITS = 7  # of a table that tells what is beyond the range; its first unit is a 64th of what the cells reach
BEYOND_STEP = 5  # bits from one table to the next: 3 units of it and more are surely beyond, 96 of the one below
SPARE = 2.0**-10  # rounding of x never takes it below the first cell, nor above the last
WIDEST = 22  # log2 of f(low) / f(high): with the fraction bits above it leaves a sign and a bit of 64
INVERSE, ROOT = Fraction(-1), Fraction(-1, 2)  # powers of x
SUM_FRAC = 256  # of a Taylor series' terms
ONE = 1 << SUM_FRAC
TERMS = 40  # of a Taylor series in t / z, z at least 8: what is left out is below 2^-120


@dataclass(frozen=True, slots=True)
class Cells:
    """How a range is covered: the finest cells are an eighth of 2^first, and there are `count` sizes of them."""

    first: int
    count: int

    @staticmethod
    def of(rows: RowRange) -> Cells:
        first, count = ring.floor_log2(rows.low * (1 - SPARE)), 1
        while rows.high * (1 + SPARE) > 2.0 ** (first + fss.RATIO_BITS * count) * (1 - 1 / fss.CHILDREN):
            count += 1
        return Cells(first, count)

    @property
    def frac(self) -> int:
        """Fraction bits of the opened value."""
        return ARGUMENT_FRAC - self.first

    @property
    def cover(self) -> fss.Cover:
        return fss.Cover(ARGUMENT_FRAC - fss.NEAR_BITS, self.count)

    def ring_bits(self, most: float) -> int:
        """Of a ring that holds an opened value below `most`."""
        return ring.ceil_log2(most) + self.frac if most else 0


@dataclass(frozen=True, slots=True)
class Function:
    """scale x^power, with `frac` fraction bits of the public factors."""

    power: Fraction
    scale: Fraction
    frac: int


async def rsqrt(p: Party, x: Shared, rows: RowRange, factor: float = 1.0) -> Shared:
    """factor / sqrt(x) for x in the range `rows`, at ROW_FRAC fraction bits.

    Rounds   1
    Sends    3 bytes a row each way up to high / low = 2^6, 4 up to 2^14, then 5; of most / low, if `most` is known
    Offline  16 (2 n + 3) + 32 n bytes a row to each server, 4^n about high / low: 496 for 2^12; under an
             audit 8 to 50 more if `most` is above `high`
    Error    relative <= 3e-5 over the range, of which the cubics are 1e-5, and 2^-ROW_FRAC
    Source   docs/protocol.md, "Cells"
    """
    return await _evaluate(p, x, rows, ROOT, factor, factor / sqrt(rows.low), factor / sqrt(rows.high), ROW_FRAC)


async def reciprocal(p: Party, x: Shared, rows: RowRange) -> tuple[Shared, int]:
    """2^e / x and e, for x in the range `rows`: the deflated form of mpcnet.protocols.division.reciprocal.

    Rounds   1
    Sends    as rsqrt
    Offline  as rsqrt
    Error    relative <= 5e-5 over the range, of which the cubics are 3.1e-5
    Source   docs/protocol.md, "Cells"
    """
    e = ring.ceil_log2(rows.high)
    return await _evaluate(p, x, rows, INVERSE, 2.0**e, 2.0**e / rows.low, 2.0**e / rows.high, Z_FRAC), e


async def _evaluate(
    p: Party, x: Shared, rows: RowRange, power: Fraction, scale: float, most: float, least: float, frac: int
) -> Shared:
    """scale x^power, a value from `least` to `most`.

    :raises ValueError: they are too far apart.
    """
    if most > least * 2.0**WIDEST:
        raise ValueError(
            f"{p.label}: want f(low) / f(high) up to 2^{WIDEST}, got a range {rows.low:g} to {rows.high:g}"
        )
    function = Function(power, Fraction(scale), FACTOR_FRAC - ring.floor_log2(least))
    cells = Cells.of(rows)
    bits = cells.cover.bits
    fine = x.finer(cells.frac - x.frac) if cells.frac > x.frac else p.rescale(x, cells.frac)
    shown = await p.open_one(fine.reduce(max(bits, cells.ring_bits(rows.most))))
    opened = shown.reduce(bits)
    points = p.points(opened.mask, lambda r: _powers(r, cells.cover), cells.cover)
    total, covered = _weighted_sum(points, opened, cells, function)
    p.audit.flag(lambda: [_uncovered(covered, opened)])
    if rows.most > rows.high:
        p.audit.flag(lambda: _beyond(p, shown, bits, rows.high * (1 + SPARE) * 2.0**cells.frac))
    return p.rescale(Shared(total, 64, POWER_FRAC + function.frac, x.party), frac)


def _uncovered(covered: Tensor, x: Masked) -> Bits:
    """Where no cell holds x, from shares of 2^POWER_FRAC where one does and of 0 elsewhere: a bit of their sum.

    Below that bit the shares cancel, so they carry into it unless they are 0 there, which both servers see.
    """
    bit = covered >> POWER_FRAC & 1
    if x.party == 0:
        bit = bit ^ (ring.unsigned(covered, POWER_FRAC) != 0).to(torch.int64)
    return Bits(ring.pack_bits(bit), x.shape, x.party).flip()


def _beyond(p: Party, x: Masked, bits: int, high: float) -> Iterator[Bits]:
    """Bits of which one is 1 from a seventh above `high` on, and none up to it.

    From 2^bits on x would wrap into another cell; before that, what it divides may not fit its ring. In the last unit
    of 2^bits a bit may be missing, but no cell holds that x then.

    Rounds   0
    Offline  8 bytes an element, or up to 16 for each table; a table for every five bits of the ring above 2^bits
    """
    start, most = bits - BEYOND_BITS + 1, int(high) >> bits - BEYOND_BITS + 1
    while True:
        size = min(BEYOND_BITS, x.bits - start)
        (inside,) = between(digit(p, x, start, size), [(0, most + 1)])
        yield inside.flip()
        if start + size == x.bits:
            return
        start, most = start + BEYOND_STEP, 1


def _powers(place: Tensor, cover: fss.Cover) -> Tensor:
    """The dealer's: 1, rho, rho^2, rho^3 at POWER_FRAC bits for each size of cells, [..., size, 4]."""
    rho = torch.stack([_centred(place, size, POWER_FRAC) for size in cover.sizes], -1)
    square = _scaled(rho * rho, POWER_FRAC)
    return torch.stack([torch.full_like(rho, 1 << POWER_FRAC), rho, square, _scaled(square * rho, POWER_FRAC)], -1)


def _weighted_sum(points: fss.Points, x: Masked, cells: Cells, function: Function) -> tuple[Tensor, Tensor]:
    """Shares of the sum over all cells of the cell's cubic, in the 64-bit ring, and of what is dealt for its 1."""
    if isinstance(x.opened, ShapeOnly):
        return ring.zeros(x.shape, 64, "meta"), ring.zeros(x.shape, 64, "meta")
    table = _table(cells, function)
    schedule = points.hashes.schedule if isinstance(points, fss.Key) and points.hashes else None
    if isinstance(points, fss.Key) and schedule is not None and native.usable(points.seeds, x.opened):
        return _native_sum(points, schedule, x, cells.cover, table)
    a0, a1, a2, a3 = table.unbind(-1)  # [size, z - 8]
    tau = torch.stack([_centred(x.opened, size, TAU_FRAC) for size in cells.cover.sizes], -1).unsqueeze(-1)
    third = _scaled(a3 * tau, TAU_FRAC)
    slope = a1 + _scaled((2 * a2 + 3 * third) * tau, TAU_FRAC)
    value = a0 + _scaled((a1 + _scaled((a2 + third) * tau, TAU_FRAC)) * tau, TAU_FRAC)
    weights = torch.stack([value, -slope, a2 + 3 * third, (-a3).expand_as(value)], -1)
    shares = fss.shares(points, x.opened, cells.cover)
    return (shares * weights).sum((-1, -2, -3)), shares[..., 0].sum((-1, -2))


def _native_sum(key: fss.Key, schedule: Tensor, x: Masked, cover: fss.Cover, table: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.opened.numel()
    seeds, corrections = key.seeds.reshape(rows, fss.BLOCK), key.corrections.reshape(rows, cover.words)
    opened = ring.unsigned(x.opened, cover.bits).reshape(rows)
    sums = native.weighted_sum(schedule, key.party, seeds, corrections, opened, cover.low, table, TAU_FRAC)
    total, covered = (part.reshape(x.shape) for part in sums)
    return total, covered


def _centred(word: Tensor, size: int, frac: int) -> Tensor:
    """(word mod 2^size) / 2^size - 1/2, at `frac` bits."""
    odd = 2 * ring.unsigned(word, size) - (1 << size)
    drop = size + 1 - frac
    return _scaled(odd, drop) if drop > 0 else odd << -drop


def _scaled(x: Tensor, count: int) -> Tensor:
    """Drop fraction bits, to nearest."""
    return (x + (1 << (count - 1))) >> count


@cache
def _table(cells: Cells, function: Function) -> Tensor:
    """Coefficients of 1, t, t^2, t^3 on each cell, [size, z - 8, 4], as integers of `function.frac` bits."""
    rows = [
        [_cubic(z, size, function) for z in range(fss.NEAR, fss.CHILDREN)]
        for size in (log_size - cells.frac for log_size in cells.cover.sizes)
    ]
    return torch.tensor(rows)


def _cubic(z: int, log_size: int, function: Function) -> list[int]:
    """scale x^power for x = (z + t) 2^log_size, |t| < 1: its Taylor series mod T_4(t) = 8 t^4 - 8 t^2 + 1.

    That interpolates at the four roots of T_4; for 1/x the relative error is T_4(t) / T_4(z), the least of any cubic.
    Sums have 256 fraction bits: the same on every host, and a hundred times faster than fractions.
    """
    over, under = function.power.numerator, function.power.denominator
    total, remainder, term = [0] * 4, [ONE, 0, 0, 0], ONE
    for k in range(TERMS):
        total = [a + (term * b >> SUM_FRAC) for a, b in zip(total, remainder, strict=True)]
        c0, c1, c2, c3 = remainder
        remainder = [-c3 // 8, c0, c1 + c3, c2]  # times t
        term = term * (over - k * under) // (under * (k + 1) * z)
    first = function.scale * _power(z * Fraction(2) ** log_size, function.power) * 2**function.frac
    return [round(first * c / ONE) for c in total]


def _power(x: Fraction, power: Fraction) -> Fraction:
    return 1 / x if power == INVERSE else Fraction(isqrt(int((1 << 256) / x)), 1 << 128)
