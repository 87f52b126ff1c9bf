"""1/x and 1/sqrt(x) by segments: relative error over wide ranges, rounds, edges between segments."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, log_uniform, outcome, relative
from lockstep import Build

from protocols.division import RowRange
from protocols.party import Party
from protocols.segments import Segments, segmented_reciprocal, segmented_rsqrt
from protocols.share import Shared

# LayerNorm's sums of squares, softmax's row sums, a range of one segment, of seven, and of eight (two joins).
RANGES = [
    (0.8, 17.0),
    (35.0, 80_000.0),
    (0.0174, 128.0),
    (0.0174, 512.0),
    (11.0, 65_000.0),
    (65.0, 500.0),
    (1.0, 2.0e6),
    (1.0, 2.5e6),
]
EACH = pytest.mark.parametrize("pair", RANGES, ids=str)
ROUNDS = {(65.0, 500.0): 2, (1.0, 2.5e6): 4}


def inverse(pair: tuple[float, float]) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        z, e = await segmented_reciprocal(p, x, RowRange(*pair))
        return z.halve(e)

    return build


def root(pair: tuple[float, float], factor: float) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await segmented_rsqrt(p, x, RowRange(*pair), factor)

    return build


def rows_of(pair: tuple[float, float]) -> Input:
    return log_uniform(1000, *pair, bits=64, frac=24)


@EACH
def test_reciprocal(pair: tuple[float, float]) -> None:
    given = rows_of(pair)
    result = outcome(inverse(pair), given)
    assert relative(result.value, 1 / given.x) <= 2e-4
    assert relative(result.oracle, 1 / given.x) <= 2e-4
    assert result.cost.rounds == ROUNDS.get(pair, 3)


@EACH
@pytest.mark.parametrize("factor", [1.0, 768**0.5])
def test_rsqrt(pair: tuple[float, float], factor: float) -> None:
    given = rows_of(pair)
    result = outcome(root(pair, factor), given)
    assert relative(result.value, factor / given.x.sqrt()) <= 2e-4
    assert relative(result.oracle, factor / given.x.sqrt()) <= 2e-4
    assert result.cost.rounds == ROUNDS.get(pair, 3)


@EACH
def test_both_sides_of_every_edge(pair: tuple[float, float]) -> None:
    cut = Segments.of(RowRange(*pair))
    edges = [cut.start(index) for index in range(1, cut.count)] or [2 * pair[0]]
    x = torch.tensor([edge + step * 2.0**-18 for edge in edges for step in (-1, 0, 1)], dtype=torch.float64)
    result = outcome(inverse(pair), Input(x, 64, 24))
    assert relative(result.value, 1 / x) <= 2e-4


def test_how_ranges_are_cut() -> None:
    cuts = [Segments.of(RowRange(*pair)) for pair in RANGES]
    assert [cut.count for cut in cuts] == [2, 4, 5, 5, 5, 1, 7, 8]
    assert (cuts[-2].bits, cuts[-1].bits) == (37, 40)


def test_cost_of_five_segments() -> None:
    """A row of 31 bits: the opening, a join of five blocks of 6 bits for each of four thresholds, five bits and values.

    Dealt: cosines and sines; tables and joins; and for each segment its bit, its value's growth to 64 and their product.
    """
    given = rows_of(RANGES[2])
    rows = given.x.numel()
    sent = 4 * rows + (4 * 8 + 5) * rows // 8 + 5 * 3 * rows
    tables, joins = 5 * 2**6 + 1, 4 * 37
    selection = 5 * (8 + 2 * 5 + (8 + 5))
    for program, harmonics in ((root(RANGES[2], 1.0), 7), (inverse(RANGES[2]), 8)):
        dealt = 5 * 2 * harmonics * 8 * rows + (tables + joins) * rows // 8 + selection * rows
        check_cost(outcome(program, given), rounds=3, sent=sent, dealt=dealt)
        assert dealt < 1000 * rows


def test_corruption_is_noticed() -> None:
    check_corruption(inverse((0.8, 17.0)), rows_of((0.8, 17.0)))
