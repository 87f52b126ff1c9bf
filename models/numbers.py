"""Scales and ring widths of a private model, derived from its calibrated ranges, and the proof that nothing overflows.

A chain of matrix products never gets its bits back: it starts in a 64-bit ring and every rescale takes ring bits with
the fraction bits (protocols.party.rescale). The widths below are one such budget; :func:`plan` checks each site's
calibrated range, times a margin, against the ring it has to fit, and refuses the model otherwise, naming every site.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.calibrate import Calibration, Range
from models.shape import BertShape, Softmax
from mpcnet import ring
from mpcnet.errors import LocalConfigError
from protocols.argmax import DIFFERENCE_BITS
from protocols.division import (
    LARGEST_ROOT,
    RECIPROCAL_LEAST,
    RECIPROCAL_LIMIT,
    RSQRT_LEAST,
    RSQRT_LIMIT,
    RowRange,
)
from protocols.exponential import reach
from protocols.rowmax import SLACK, Window
from protocols.softmax import RELU_EPS, SHIFT, WeighBits

MARGIN = 1.5  # texts the demo model was not calibrated on reach 1.21 of its ranges on SST-2, 1.39 on STS-B
SCORE_MARGIN = 1.25  # of scores in exact softmax's widest window, and of what a row of them spans

LEAST_ROW_SUM = 0.0174  # of exact softmax: e^-SLACK = 0.0183 less 5% for rounding; a literal, the same on every host
VALUE_FRAC, LEAST_VALUE_FRAC = 12, 6  # of V; long rows take bits from it, down to the least

WEIGHT_FRAC = 14  # weights' rounding dominates the model's error
QKV_FRAC = 15  # of the weights of queries, keys and values: what the ring of queries leaves of LayerNorm's
NORMAL_FRAC = 12  # of LayerNorm's result: up to 20, needs range more than fraction
CENTRED_FRAC = 14  # of LayerNorm's input
RSQRT_FRAC = 14  # of 1/sigma
NORMAL_BITS = 64 - (CENTRED_FRAC + RSQRT_FRAC - NORMAL_FRAC)  # what is left of 64 bits after LayerNorm's rescale
CENTRED_BITS = 28  # ring LayerNorm's input is opened in: |C| < 2^12
QUERY_FRAC, QUERY_BITS = 11, 32  # queries and keys: their product keeps 8 integer bits at 22 fraction bits
SCORE_FRAC, SCORE_BITS = 12, 22
WINDOW_BITS = (6, 7)  # windows of exact softmax: the material of a score costs twice as much with each bit
VALUE_BITS = 24  # ring values are opened in to grow them
UP_FRAC, UP_BITS = 12, 24  # the activation's input: |U| < 2^10
UP_PRODUCT_BITS = -(-(UP_BITS + NORMAL_FRAC + WEIGHT_FRAC - UP_FRAC) // 8) * 8  # before its rescale, in whole bytes
GELU_FRAC, GELU_BITS = 12, 40  # the activation's result, and the ring of the product that follows
CONTEXT_FRAC, CONTEXT_BITS = 12, 40
CONTEXT_ERROR = 2.0**-9  # what each factor's rounding before the division may do to a context, at a range's end
MEAN_SHIFT = 6  # the mean of a residual is computed from weights of a d-th: 6 more fraction bits keep it exact enough
POOLER_BITS = 48
LOGIT_FRAC = 16


@dataclass(frozen=True, slots=True)
class Numbers:
    """Everything about number formats that depends on a model. Public; part of the program digest."""

    softmax: Softmax
    longest: int  # tokens of a text: all positions under exact softmax; others' row sums grow: as calibrated
    table_bits: int
    table_frac: int
    value_max: float
    rows: Mapping[str, tuple[float, float]]
    windows: tuple[Window, ...]  # of exact softmax, one a layer

    def norm_rows(self, site: str) -> RowRange:
        """The calibrated range of a LayerNorm's sum of squares."""
        return RowRange(*self.rows[f"{site}.square_sum"])

    def softmax_rows(self, layer: str, keys: int) -> RowRange:
        """The range of a row sum: proved for exact softmax (some key has s > m - 4), calibrated for others."""
        if self.softmax == "exact":
            return RowRange(LEAST_ROW_SUM, float(max(keys, 2)))
        return RowRange(*self.rows[f"{layer}.row_sum"])

    def window(self, layer: str) -> Window:
        """Where the scores of a layer lie under exact softmax."""
        return self.windows[int(layer.removeprefix("layer"))]

    def numerator_frac(self) -> int:
        return 16 if self.softmax == "exact" else 12

    def weigh_bits(self, layer: str, keys: int) -> WeighBits:
        """Widths of the product with V for rows of `keys` keys."""
        rows = self.softmax_rows(layer, keys)
        width = 40 if self.softmax == "exact" else 48
        both = 64 - CONTEXT_BITS + CONTEXT_FRAC  # fraction bits of the factors, so that the quotient keeps its ring
        even = (both - ring.floor_log2(rows.low * rows.high)) // 2  # rounding them costs as much at the range's ends
        return WeighBits(width, min(max(2, even), 22), CONTEXT_BITS, CONTEXT_FRAC)

    def value_frac(self, keys: int) -> int:
        """Fraction bits of V: what |sum_j e_j v_j| <= keys * max |v| leaves of the ring of 40 bits."""
        if self.softmax != "exact":
            return VALUE_FRAC
        return min(VALUE_FRAC, 40 - 2 - self.numerator_frac() - ring.ceil_log2(max(keys, 2) * self.value_max))

    def value_limit(self, layer: str, keys: int) -> int:
        """What an audit holds |V| to, as an integer: so that the weighted sum over the keys stays in its ring.

        Other row sums are known to a factor of 4; where that proves less than V's planned range, the range counts.
        """
        if self.softmax == "exact":
            return (1 << (40 - 2 - self.numerator_frac())) // max(keys, 2)
        proved = 2.0 ** (48 - 2 - self.numerator_frac()) / (4 * self.softmax_rows(layer, keys).high)
        planned = self.value_max * 2.0 ** self.value_frac(keys)
        return min(math.ceil(max(proved, planned)), 1 << (VALUE_BITS - 2))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rows": {site: list(pair) for site, pair in self.rows.items()}}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Numbers:
        rows = {site: (float(low), float(high)) for site, (low, high) in values["rows"].items()}
        longest, bits, frac = (int(values[name]) for name in ("longest", "table_bits", "table_frac"))
        windows = tuple(Window(int(window["bits"]), float(window["centre"])) for window in values["windows"])
        return Numbers(values["softmax"], longest, bits, frac, float(values["value_max"]), rows, windows)


@dataclass(frozen=True, slots=True)
class Limit:
    """What the values of a site may reach: where a ring or a domain ends, behind which answers may be wrong.

    Distances from `centre` are meant, or of a `span` the largest less the smallest value. Calibrated values must fit
    `margin` times, and `extra`.
    """

    site: str
    limit: float
    margin: float = MARGIN
    extra: float = 0.0
    span: bool = False
    centre: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.site} (span)" if self.span else self.site

    def size(self, seen: Range) -> float:
        """What is limited of a range."""
        return seen.max - seen.min if self.span else seen.from_centre(self.centre)


@dataclass(frozen=True, slots=True)
class Need:
    """A site whose values must stay below a limit."""

    site: str
    limit: float
    got: float

    def __str__(self) -> str:
        return f"{self.site}: want < {self.limit:g}, got {self.got:.4g} with its margin"


def plan(
    shape: BertShape, calibration: Calibration, softmax: Softmax, calibrated_length: int = 0, widest: bool = False
) -> Numbers:
    """Choose the formats of a model and prove them on its calibrated ranges, of texts of up to `calibrated_length`.

    0 stands for all positions. `widest` takes the widest windows of exact softmax, whatever was calibrated.

    :raises LocalConfigError: a value could overflow its ring; every such site is named.
    """
    rows = {site: _row_range(calibration, softmax, site) for site in _row_sites(shape, softmax)}
    table = MARGIN * calibration.at(softmax, "embedding.centred").absmax
    table_bits, table_frac = _table_format(table)
    values = [calibration.at(softmax, f"layer{i}.value").absmax for i in range(shape.layers)]
    longest = min(calibrated_length or shape.positions, shape.positions) if softmax != "exact" else shape.positions
    windows = tuple(_windows(shape, calibration, widest)) if softmax == "exact" else ()
    numbers = Numbers(softmax, longest, table_bits, table_frac, MARGIN * max(values), rows, windows)
    broken = [need for need in _needs(shape, calibration, numbers) if need.got >= need.limit]
    if broken:
        raise LocalConfigError("planner: values could overflow: " + "; ".join(map(str, broken)))
    return numbers


def _windows(shape: BertShape, calibration: Calibration, widest: bool) -> Iterator[Window]:
    """Each layer's: the narrowest that its scores fit, the widest if they fit none."""

    def fits(limit: Limit) -> bool:
        return limit.margin * limit.size(calibration.at("exact", limit.site)) < limit.limit

    for i in range(shape.layers):
        seen = calibration.at("exact", f"layer{i}.scores")
        windows = [Window(bits, float(round((seen.min + seen.max) / 2))) for bits in WINDOW_BITS]
        fitting = (window for window in windows if all(map(fits, _window_limits(i, window))))
        yield windows[-1] if widest else next(fitting, windows[-1])


def _window_limits(i: int, window: Window) -> Iterator[Limit]:
    """What the scores of a layer may reach under exact softmax."""
    margin = SCORE_MARGIN if window.bits == WINDOW_BITS[-1] else MARGIN
    yield Limit(f"layer{i}.scores", window.limit, margin, centre=window.centre)
    yield Limit(f"layer{i}.row_span", reach(window.bits) - SLACK, SCORE_MARGIN)


def _row_sites(shape: BertShape, softmax: Softmax) -> Iterator[str]:
    yield "embedding.square_sum"
    for i in range(shape.layers):
        yield from (f"layer{i}.out.square_sum", f"layer{i}.down.square_sum")
        if softmax != "exact":
            yield f"layer{i}.row_sum"


def _row_range(calibration: Calibration, softmax: Softmax, site: str) -> tuple[float, float]:
    """With its margin; a row sum of 2ReLU is eps where no score is positive, whether a sample has such a row or not."""
    seen = calibration.at(softmax, site)
    proved = softmax == "2relu" and site.endswith("row_sum")
    return RELU_EPS if proved else seen.min / MARGIN, seen.max * MARGIN


def _table_format(largest: float) -> tuple[int, int]:
    """The embedding's ring: 16 bits (and a three times faster product) if 11 fraction bits fit, else 24."""
    whole = max(0, ring.ceil_log2(largest))
    bits = 16 if 16 - 2 - whole >= 11 else 24
    return bits, bits - 2 - whole


def limits(shape: BertShape, numbers: Numbers) -> Iterator[Limit]:
    """Every bound on values that openings, growth and conversions rely on: |x| 2^frac < 2^(bits - 2).

    `Numbers.rows` are limits too, their margin included. What exact softmax sums up over a row follows from its values.
    """

    def fits(site: str, frac: int, bits: int, extra: float = 0.0, margin: float = MARGIN) -> Limit:
        return Limit(site, 2.0 ** (bits - 2 - frac), margin, extra)

    yield fits("embedding.centred", numbers.table_frac, numbers.table_bits)
    for i in range(shape.layers):
        layer = f"layer{i}"
        yield fits(f"{layer}.qkv", QUERY_FRAC, QUERY_BITS)
        yield fits(f"{layer}.value", VALUE_FRAC, VALUE_BITS)
        yield from _softmax_limits(i, numbers)
        yield fits(f"{layer}.out.centred", CENTRED_FRAC, CENTRED_BITS)
        if shape.activation == "quad":  # it opens x + 1, and its result leaves its range by the square of what x does
            yield fits(f"{layer}.up", UP_FRAC, UP_BITS, extra=1.0)
            yield fits(f"{layer}.activation", GELU_FRAC, GELU_BITS, margin=MARGIN**2)
        else:
            yield fits(f"{layer}.up", UP_FRAC, UP_BITS)
        yield fits(f"{layer}.down.centred", CENTRED_FRAC, GELU_BITS - (GELU_FRAC + WEIGHT_FRAC - CENTRED_FRAC))
    if shape.head == "classification":
        yield fits("pooler.input", UP_FRAC, UP_BITS)
    if shape.labels >= 2:
        yield Limit("logits", 2.0 ** (DIFFERENCE_BITS - 1 - LOGIT_FRAC), span=True)


def _softmax_limits(i: int, numbers: Numbers) -> Iterator[Limit]:
    layer = f"layer{i}"
    if numbers.softmax == "exact":
        yield from _window_limits(i, numbers.windows[i])
        return
    shift = SHIFT if numbers.softmax == "2quad" else 0.0
    yield Limit(f"{layer}.scores", 2.0 ** (SCORE_BITS - 2 - SCORE_FRAC), extra=shift)
    yield Limit(f"{layer}.context_raw", 2.0 ** (48 - 2 - 24))


def _needs(shape: BertShape, calibration: Calibration, numbers: Numbers) -> Iterator[Need]:
    """What the calibrated ranges need of the limits, and what the formats need of the ranges of rows."""
    for bound in limits(shape, numbers):
        seen = calibration.at(numbers.softmax, bound.site)
        yield Need(bound.name, bound.limit, bound.margin * bound.size(seen) + bound.extra)
    if numbers.softmax == "exact":
        most = 2.0 ** (40 - 2 - numbers.numerator_frac() - LEAST_VALUE_FRAC)
        yield Need("values (largest, over the longest row)", most, shape.positions * numbers.value_max)
    for site, (low, high) in numbers.rows.items():
        root = site.endswith("square_sum")
        limit, least = (RSQRT_LIMIT, RSQRT_LEAST) if root else (RECIPROCAL_LIMIT, RECIPROCAL_LEAST)
        yield Need(f"{site} (largest / smallest)", 1 / least, 2.0 ** RowRange(low, high).deflation(limit) / low)
        if root:
            yield Need(f"{site} (1 / sigma)", LARGEST_ROOT, math.sqrt(shape.hidden / low))
        else:
            bits = numbers.weigh_bits(site.partition(".")[0], numbers.longest)
            yield Need(f"{site} (rounding of the context)", CONTEXT_ERROR, 2.0**-bits.context_frac / low)
            yield Need(f"{site} (rounding of the reciprocal)", CONTEXT_ERROR, 2.0 ** -bits.inverse_frac() * high)
