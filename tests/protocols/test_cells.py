"""1/x and 1/sqrt(x) by point functions: relative error over wide ranges, one round, bytes, borders of cells."""

from contextlib import nullcontext
from fractions import Fraction

import pytest
import torch
from checks import Input, Result, check_corruption, check_cost, few, log_uniform, outcome, relative, uniform, watched
from hypothesis import given
from hypothesis import strategies as st
from kernels import without_kernels
from lockstep import Build, Session

from mpcnet.protocols import cells
from mpcnet.protocols.cells import Cells
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.lockstep_session import plan
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness import fss

# LayerNorm's sums of squares, softmax's row sums, a narrow range, one beyond 4 bytes, and exact powers of two.
RANGES = [
    (0.8, 17.0),
    (35.0, 80_000.0),
    (0.0174, 128.0),
    (0.0174, 512.0),
    (11.0, 65_000.0),
    (65.0, 500.0),
    (1.0, 2.0**20),
    (3.0, 3.0),
]
EACH = pytest.mark.parametrize("pair", RANGES, ids=str)
INVERSE_ERROR, ROOT_ERROR = 5e-5, 3e-5


def inverse(pair: tuple[float, float]) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        z, e = await cells.reciprocal(p, x, RowRange(*pair))
        return z.halve(e)

    return build


def root(pair: tuple[float, float], factor: float = 1.0) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await cells.rsqrt(p, x, RowRange(*pair), factor)

    return build


def rows_of(pair: tuple[float, float]) -> Input:
    """Evenly in the logarithm, near the lower end, and evenly."""
    wide, even = log_uniform(700, *pair, bits=64, frac=24), uniform((300,), *pair, 64, 24)
    return Input(torch.cat([wide.x, even.x]), 64, 24)


def check(done: Result, want: torch.Tensor, error: float) -> None:
    assert relative(done.value, want) <= error
    assert relative(done.oracle, want) <= error


@EACH
def test_reciprocal(pair: tuple[float, float]) -> None:
    given = rows_of(pair)
    done = outcome(inverse(pair), given)
    check(done, 1 / given.x, INVERSE_ERROR)
    assert done.run.results[0].bits == 46


@EACH
@pytest.mark.parametrize("factor", [1.0, 768**0.5])
def test_rsqrt(pair: tuple[float, float], factor: float) -> None:
    given = rows_of(pair)
    done = outcome(root(pair, factor), given)
    least = 2 * 2.0**-26 / float((factor / given.x.sqrt()).min())  # an ulp of the result
    check(done, factor / given.x.sqrt(), ROOT_ERROR + least)


@pytest.mark.parametrize(
    ("pair", "sent", "count"),
    [((0.0174, 2.0**6), 4, 7), ((1.0, 3.7), 3, 2), ((0.0174, 128.0), 4, 7), ((1.5, 100_000.0), 5, 9)],
)
def test_cost(pair: tuple[float, float], sent: int, count: int) -> None:
    """One round; a block for each level of the tree and two for each size of cells, to both servers."""
    x = log_uniform(20, *pair, bits=64, frac=24)
    for build in (inverse(pair), root(pair)):
        done = outcome(build, x)
        offline = 40 * (16 * (2 * count + 3) + 32 * count)
        check_cost(done, 1, 40 * sent, 2 * offline)
        assert done.cost.dealt_bytes == [offline, offline]


def test_how_ranges_are_covered() -> None:
    covers = [Cells.of(RowRange(*pair)).cover for pair in RANGES]
    assert [cover.count for cover in covers] == [3, 6, 7, 8, 7, 2, 11, 1]
    assert [cover.bits for cover in covers] == [22, 28, 30, 32, 30, 20, 38, 18]


def test_the_docstrings_example() -> None:
    assert Cells.of(RowRange(1.1, 1.1 * 2**12)).count == 7
    assert fss.Cover(13, 7).part((), "").nbytes == 496


@EACH
def test_both_sides_of_every_border(pair: tuple[float, float]) -> None:
    """Each border of a cell within the range, exactly, one ulp of the opened value before, and one behind."""
    used = Cells.of(RowRange(*pair))
    borders = [z * 2.0 ** (size - used.frac) for size in used.cover.sizes for z in range(8, 33)]
    near = {b + step * 2.0**-used.frac for b in borders for step in (-1, 0, 1) if pair[0] <= b <= pair[1]}
    x = torch.tensor(sorted(near | set(pair)), dtype=torch.float64).clamp(*pair)
    frac = min(max(24, used.frac), 40)
    x = torch.ceil(x * 2.0**frac) * 2.0**-frac
    for seed in range(3):
        check(outcome(inverse(pair), Input(x, 64, frac), seed=seed), 1 / x, INVERSE_ERROR)


def test_powers_of_two() -> None:
    pair = (2.0**-6, 2.0**9)
    x = Input(2.0 ** torch.arange(-6, 10, dtype=torch.float64).repeat(30), 64, 24)
    check(outcome(inverse(pair), x), 1 / x.x, INVERSE_ERROR)
    check(outcome(root(pair), x), x.x**-0.5, ROOT_ERROR)


@few
@given(st.floats(-20, 20), st.floats(0, 19), st.integers(0, 2**31))
def test_any_range(start: float, octaves: float, seed: int) -> None:
    pair = (2.0**start, 2.0 ** (start + octaves))
    used = Cells.of(RowRange(*pair))
    low, high = (value * 2.0**used.frac for value in pair)
    assert 8 << used.cover.low <= low - 1, "one ulp of rounding"
    assert high + 1 < (1 << used.cover.bits) * 31 / 32
    x = log_uniform(20, *pair, bits=64, frac=used.frac + 3)
    done = outcome(inverse(pair), Input(x.x.clamp(max=pair[1]), 64, used.frac + 3), seed=seed)
    check(done, 1 / x.x.clamp(max=pair[1]), INVERSE_ERROR)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 1), (), (2, 3, 1)])
def test_shapes(shape: tuple[int, ...]) -> None:
    done = outcome(inverse((0.8, 17.0)), Input(torch.full(shape, 2.0, dtype=torch.float64), 64, 24))
    assert done.value.shape == shape
    assert not shape or relative(done.value, torch.full(shape, 0.5)) <= INVERSE_ERROR or not done.value.numel()


def test_a_range_that_is_too_wide() -> None:
    x = Session().share(torch.ones(3), 64, 24)
    with pytest.raises(ValueError, match=r"want f\(low\) / f\(high\) up to 2\^22, got a range 1 to 8e\+06"):
        plan(inverse((1.0, 8e6)), x)
    assert plan(root((1.0, 8e6)), x).ledger.total().rounds == 1


def test_a_ring_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="a share cannot grow from 18 to 22 bits"):
        plan(inverse((0.8, 17.0)), Session().share(torch.ones(3), 18, 17))


def test_corruption_is_noticed() -> None:
    check_corruption(inverse((0.8, 17.0)), rows_of((0.8, 17.0)))
    check_corruption(root((0.8, 17.0)), rows_of((0.8, 17.0)))


def test_a_value_with_more_fraction_bits_than_its_ring_holds() -> None:
    """Row sums of exact softmax: 16 fraction bits in 40 grow to 22, in a ring for 512 keys of up to e^8."""
    x = uniform((200,), 0.0174, 512.0, 40, 16)

    async def build(p: Party, x: Shared) -> Shared:
        z, e = await cells.reciprocal(p, x, RowRange(0.0174, 512.0, 512 * 2981.0))
        return z.halve(e)

    done = outcome(build, x)
    check(done, 1 / x.x, INVERSE_ERROR)
    assert done.cost.sent_bytes == 200 * 6


# What an audit is told. Each value is a sentence.

AUDITED = [
    (0.8, 17.0, 0.0), (0.0174, 12.5, 13 * 2981.0), (0.0174, 15.0, 15 * 2981.0), (35.0, 80_000.0, 2.0**30),
    (3.0, 3.0, 4.5), (65.0, 500.0, 1e7), (0.0174, 512.0, 512 * 2981.0), (1.0, 3.8, 4.0), (0.0174, 62.0, 62.0),
    (1.0, 4.0, 15.0),
]  # fmt: skip


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "portable"])
@pytest.mark.parametrize("root", [False, True], ids=["inverse", "root"])
@pytest.mark.parametrize("served", AUDITED, ids=str)
def test_right_or_told(served: tuple[float, float, float], root: bool, kernels: bool) -> None:
    """Never in range; always below the first cell, and from a seventh above the range on where any text leaves it."""
    rows = RowRange(*served)
    used, most = Cells.of(rows), max(rows.most, rows.high)
    unit, last = 2.0**-used.frac, 2.0 ** (used.cover.bits - used.frac)
    first = 8 * 2.0 ** (used.cover.low - used.frac)

    async def build(p: Party, x: Shared) -> Shared:
        if root:
            return await cells.rsqrt(p, x, rows)
        z, e = await cells.reciprocal(p, x, rows)
        return z.halve(e)

    at = [first, first * 7 / 8, rows.low, rows.high, last, last * 31 / 32, 1.14 * rows.high, most]
    at += [last * k for k in (1.5, 2, 2 + 1 / 64, 3, 3.99, 16, 31, 32.5, 64, 64.01, 100, 2048) if last * k <= most]
    near = [value + step * unit for value in at for step in (-1, 0, 1)]
    near += (2.0 ** torch.linspace(-6, 0, 60, dtype=torch.float64) * most).tolist()
    near += [unit, first / 2, first / 64]
    near += (2.0 ** torch.linspace(0, 1, 60, dtype=torch.float64) * rows.low).tolist()
    near += torch.linspace(rows.low, rows.high, 100, dtype=torch.float64).tolist()
    frac = min(used.frac, 40)
    x = torch.tensor([value for value in near if 0 <= value <= most], dtype=torch.float64)
    x = torch.round(x * 2.0**frac) / 2.0**frac
    with nullcontext() if kernels else without_kernels():
        done = watched(build, torch.ones(len(x), 1), Input(x.unsqueeze(-1), 64, frac), seed=3)
    want = (x.rsqrt() if root else 1 / x).unsqueeze(-1)
    inside = (x >= rows.low) & (x <= rows.high)
    for value, flagged in ((done.value, done.flagged), (done.oracle, done.oracle_flagged)):
        assert value is not None
        assert not flagged[inside].any(), x[inside & flagged]
        assert flagged[x < first * 7 / 8].all()
        assert flagged[x >= last].all()
        if rows.most > rows.high:
            assert flagged[x >= 1.14 * rows.high].all()
        error = ROOT_ERROR + 2 * 2.0**-26 / float(want.min()) if root else INVERSE_ERROR
        good = ~flagged
        beyond = x > rows.high  # of cells above the range, factors have fewer bits than it takes
        assert relative(value[good & ~beyond], want[good & ~beyond]) <= error
        assert not (good & beyond).any() or relative(value[good & beyond], want[good & beyond]) <= 8 * error


@pytest.mark.parametrize(
    ("most", "beyond"), [(0.0, 0), (60.0, 0), (2.0**6, 8), (2.0**8, 17), (2.0**13, 33), (2.0**19, 50)]
)
def test_cost_of_an_audit(most: float, beyond: int) -> None:
    """Whether a cell holds x costs nothing; what may be beyond the range costs tables of up to 7 bits, one for five bits."""
    x = Input(torch.full((8, 1), 2.0, dtype=torch.float64), 64, 24)

    async def build(p: Party, x: Shared) -> Shared:
        return (await cells.reciprocal(p, x, RowRange(0.0174, 60.0, most)))[0]

    bare, under = outcome(build, x).cost, watched(build, torch.ones(8, 1), x).cost
    assert under.rounds == bare.rounds + 1
    assert under.sent_bytes == bare.sent_bytes + 8 * 5
    assert sum(under.dealt_bytes) == sum(bare.dealt_bytes) + 8 * 5 + 8 * beyond


# The public integer tables.


@pytest.mark.parametrize("z", [8, 9, 31])
def test_cubics_are_the_best_ones(z: int) -> None:
    """Of 1/x exactly T_4(t) / T_4(z) away, relatively, at any t; of 1/sqrt(x) within 1e-5."""
    scale = Fraction(2) ** 60
    a0, a1, a2, a3 = cells._cubic(z, 0, cells.Function(cells.INVERSE, scale, 0))
    chebyshev = [8 * t**4 - 8 * t**2 + 1 for t in (-1.0, -0.7, 0.1, 0.5, 1.0, float(z))]
    for t, value in zip((-1.0, -0.7, 0.1, 0.5, 1.0), chebyshev, strict=False):
        error = 1 - (z + t) * (a0 + t * (a1 + t * (a2 + t * a3))) * 2.0**-60
        assert abs(error - value / chebyshev[-1]) <= 1e-12
    b0, b1, b2, b3 = cells._cubic(z, 0, cells.Function(cells.ROOT, scale, 0))
    for t in (-1.0, -0.7, 0.1, 0.5, 1.0):
        assert abs(1 - (z + t) ** 0.5 * (b0 + t * (b1 + t * (b2 + t * b3))) * 2.0**-60) <= 1e-5


def test_the_tables_are_integers_and_known() -> None:
    """The same on every host: no floating point on the way, and one fingerprint."""
    table = cells._table(Cells(0, 2), cells.Function(cells.ROOT, Fraction(768**0.5), 22))
    assert (table.dtype, table.shape) == (torch.int64, (2, 24, 4))
    assert table[1, 0].tolist() == [116234979, -7264637, 688918, -71828]
