"""Choose the number formats of a model, and prove that they hold for every text, or on calibrated ranges.

A site is proved if the weights bound it (mpcnet.models.formats.bounds) below where its format ends
(mpcnet.models.formats.limits). What is not has to fit as calibrated, times a margin, and is audited in every request; a
model for which that fails is refused, naming every site.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mpcnet.arrays import ring
from mpcnet.errors import LocalConfigError
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.formats.bounds import Bounds
from mpcnet.models.formats.calibrate import Calibration
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.formats.guarantees import guarantees, period_of, row_guarantees, unproved
from mpcnet.models.formats.limits import MARGIN, OWN_SCORES, score_margin
from mpcnet.models.formats.remedies import remedies
from mpcnet.models.position_bias import NEAR
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.protocols.cells import WIDEST
from mpcnet.protocols.division import (
    LARGEST_ROOT,
    RECIPROCAL_LEAST,
    RECIPROCAL_LIMIT,
    RSQRT_LEAST,
    RSQRT_LIMIT,
    RowRange,
)
from mpcnet.protocols.rowmax import window_limit
from mpcnet.protocols.softmax import RELU_EPS, SHIFT, Window
from mpcnet.protocols.suites import Suite

WIDE_MARGIN = 16.0  # of row sums and sums of squares that cells cover: 64 bytes a row for each factor of 4
LEAST_MARGIN = 4.0  # of the least of them
LEAST_STREAM_FRAC = 4  # of a residual that grows, which then has 1/sigma's 24
UNWATCHED = ("qkv", "pooler.input", "embedding.stream")  # sites that no audit looks at: they have to be proved
ENOUGH_VALUE_FRAC = 7  # V's bound counts if it leaves so many: their rounding costs 1e-6 of a cosine
WINDOW_BITS = (6, 7, 8, 9, 10)  # of row maxima: a score's material grows by a byte with each bucket of 2
PERIOD_BITS = range(9, 13)  # scores are opened modulo: a score's material grows by a byte with each 64
OWN_QUERY_FRACS = range(N.QUERY_FRAC, N.QUERY_FRAC - 3, -1)  # where a suite compares scores in their own ring
RANDOM_WINDOW, RANDOM_PERIOD = 7, 10  # of random weights, whose scores are narrow: as wide as a trained model's
UNITS = 32.0  # of a LayerNorm's input are its standard deviation at least: its rounding is 1% of a result then
TABLE_UNITS = 128.0  # of the embedding's, whose rounding no later layer makes up for


def plan(
    shape: BertShape,
    bounds: Bounds,
    calibration: Calibration,
    softmax: Softmax,
    suite: Suite,
    calibrated_length: int = 0,
    *,
    random: bool = False,
) -> Formats:
    """Choose the formats of a model, calibrated on texts of up to `calibrated_length` tokens; 0: all positions.

    `random` weights are planned as a trained model's.

    :raises LocalConfigError: a value could leave its format, and every such site is named; or the suite's own softmax
        does not take this attention.
    """
    if suite.numerators is not None and (any(shape.windows) or shape.distances or shape.alibi):
        kind = "local windows" if any(shape.windows) else "tables of distances" if shape.distances else "ALiBi"
        raise LocalConfigError(
            f"suite {suite.name}: want attention to all tokens by queries and keys alone, got {kind}; take fast or "
            "secformer"
        )
    if shape.alibi and softmax != "exact":  # far tokens would count
        raise LocalConfigError(f"softmax: want exact beside ALiBi, got {softmax}; leave --softmax out")
    longest = min(calibrated_length or shape.positions, shape.positions) if softmax != "exact" else shape.positions
    planner = _Planner(shape, bounds, calibration, softmax, suite, longest, random)
    formats = planner.formats()
    found = list(guarantees(shape, formats, bounds, calibration))
    rows = list(row_guarantees(formats, bounds, calibration))
    audited = frozenset(row.name.removesuffix(" (span)") for row in found if not row.sure)
    formats = replace(formats, audited=audited)
    broken = [str(row) for row in [*found, *rows] if not row.holds] + list(_needs(shape, formats, suite))
    broken += [str(row) for row in found if row.holds and not row.sure and row.name.endswith(UNWATCHED)]
    broken += unproved(shape, formats, bounds)
    if shape.alibi:
        near = [(i, limit) for i, limit in enumerate(formats.norm_limits) if limit >= NEAR]
        broken += [f"layer{i}.norms: want < {NEAR:g}, got {limit:.4g} with its margin" for i, limit in near]
    if broken:
        helping = "; ".join(remedies(broken, softmax, suite))
        raise LocalConfigError(f"planner: values could overflow: {'; '.join(broken)}; what would help: {helping}")
    return formats


@dataclass(frozen=True, slots=True)
class _Planner:
    shape: BertShape
    bounds: Bounds
    calibration: Calibration
    softmax: Softmax
    suite: Suite
    longest: int
    random: bool

    def formats(self) -> Formats:
        layers = range(self.shape.layers)
        table_bits, table_frac = self._table_format()
        sites = list(self._square_sites())
        halves = sites[1 : 1 + 2 * self.shape.layers] if self.shape.norm == "before" else []
        stream = self._residual_frac() if halves else N.CENTRED_FRAC
        streams = tuple(min(self._stream_frac(site), stream) for site in halves)
        attention = [self._attention(i) for i in layers]
        fracs, norm_limits = tuple(row[0] for row in attention), tuple(row[1] for row in attention)
        centred = [table_frac, *streams]
        centred += [N.CENTRED_FRAC] * (len(sites) - len(centred))
        rows = {site: self._square_sums(site, frac) for site, frac in zip(sites, centred, strict=True)}
        windows: tuple[tuple[Window, ...], ...] = ()
        if self.softmax == "exact" and self.suite.numerators is None:
            windows = tuple(self._windows(i, norm_limits[i]) for i in layers)
            periods = [max(window.period_bits for window in layer) for layer in windows]
            fracs = tuple(min(N.QUERY_FRAC, N.QUERY_BITS - period) for period in periods)
        elif self.softmax != "exact":
            rows |= {f"layer{i}.row_sum": self._row_sum(i) for i in layers}
        sizes = tuple(float(math.ceil(self.bounds.sizes[f"layer{i}.value"])) for i in layers)
        formats = Formats(
            self.softmax, self.longest, table_bits, table_frac, sizes, rows, windows, fracs, norm_limits, frozenset(),
            streams, stream,
        )  # fmt: skip
        sizes = tuple(
            size if formats.value_frac(i, self.longest) >= ENOUGH_VALUE_FRAC else min(size, self._calibrated_value(i))
            for i, size in enumerate(sizes)
        )
        return replace(formats, value_sizes=sizes)

    def _calibrated_value(self, i: int) -> float:
        return float(math.ceil(MARGIN * self.calibration.at(self.softmax, f"layer{i}.value").absmax))

    def _table_format(self) -> tuple[int, int]:
        """The embedding's ring: 16 bits (and a three times faster product) if they are enough, else 24.

        Of images it is what is left of the product with the map of patches; 24 bits, whose rounding nobody sees.
        """
        whole = max(0, ring.ceil_log2(self.bounds.sizes["embedding.centred"]))
        least, _ = self.bounds.square_sums["embedding.square_sum"]
        frac = 16 - 2 - whole
        enough = frac >= 11 and least >= self.shape.embedded * (TABLE_UNITS / 2.0**frac) ** 2
        bits = 16 if enough and self.shape.image is None else 24
        return bits, bits - 2 - whole

    def _attention(self, i: int) -> tuple[int, float]:
        """Fraction bits of queries and keys, and what their squared norms are audited for; 0 if nothing is."""
        most = max(self.bounds.scores[i])
        if self.suite.numerators is not None:
            largest = {frac: OWN_SCORES * 2.0 ** (N.QUERY_BITS - 1 - frac) for frac in OWN_QUERY_FRACS}
            for frac, limit in largest.items():
                if most < limit:
                    return frac, 0.0
            return N.QUERY_FRAC, largest[N.QUERY_FRAC] - self.bounds.relative
        if self.softmax == "exact":
            proved = most < self._largest(PERIOD_BITS[-1])
            if self.shape.alibi:  # each head's products alone
                proved = proved and max(self.bounds.products(self.shape, i)) < NEAR
            return N.QUERY_FRAC, 0.0 if proved else self._norms(i)
        extra = SHIFT if self.softmax == "2quad" else 0.0
        for frac in range(N.QUERY_FRAC, N.QUERY_FRAC - 3, -1):
            if most + extra < 2.0 ** (N.QUERY_BITS - 2 - frac):
                return frac, 0.0
        fits = most < 2.0 ** (N.QUERY_BITS - 1 - N.QUERY_FRAC)
        room = 0.75 * 2.0 ** (N.QUERY_BITS - 1 - N.QUERY_FRAC)  # for the product, and what stands beside it
        beside = self.bounds.beside(i, 1.0) - self.bounds.relative
        root = (math.sqrt(beside**2 + 4 * room) - beside) / 2
        return N.QUERY_FRAC, 0.0 if fits else root**2

    @staticmethod
    def _largest(period_bits: int) -> float:
        """Scores up to here have a period, in a window about 0: see mpcnet.models.formats.guarantees.period_of."""
        return 2.0**period_bits - 2.0 ** (WINDOW_BITS[-1] + 1)

    def _norms(self, i: int) -> float:
        return MARGIN * self.calibration.at("exact", f"layer{i}.norms").max

    def _windows(self, i: int, norms: float) -> tuple[Window, ...]:
        """Each head in the narrowest window that its calibrated scores fit, or no text leaves; alike ones together."""
        found: dict[tuple[int, int, bool], list[tuple[int, float]]] = defaultdict(list)
        for head in range(self.shape.heads):
            most = norms + self.bounds.beside(i, norms) if norms else self.bounds.scores[i][head]
            bits, period, clamped, centre = self._window(i, head, most)
            found[bits, period, clamped].append((head, centre))
        return tuple(
            Window(*kind, *(tuple(row) for row in zip(*heads, strict=True))) for kind, heads in sorted(found.items())
        )

    def _window(self, i: int, head: int, most: float) -> tuple[int, int, bool, float]:
        """The window of a head whose scores no text takes above `most`: bits, period, clamped, and the centre."""
        seen = self.calibration.at("exact", f"layer{i}.head{head}.scores")
        span = self.calibration.at("exact", f"layer{i}.head{head}.row_span").max
        centre = float(round((seen.min + seen.max) / 2))

        def spans(bits: int) -> float:
            return min(score_margin(bits) * span, 2 * most)

        def clamped(bits: int) -> bool:
            return spans(bits) >= Window(bits, 0, False, (), ()).span and not self.random

        def fits(bits: int) -> bool:
            size = min(score_margin(bits) * seen.from_centre(centre), most + abs(centre))
            return size < window_limit(bits) and spans(bits) < Window(bits, 0, clamped(bits), (), ()).span

        least = RANDOM_WINDOW if self.random else WINDOW_BITS[0]
        bits = next((bits for bits in WINDOW_BITS if bits >= least and fits(bits)), WINDOW_BITS[-1])
        wanted = period_of(Window(bits, 0, clamped(bits), (), ()), most, centre)
        period = next((bits for bits in PERIOD_BITS if 2.0**bits >= wanted), PERIOD_BITS[-1])
        return bits, max(period, RANDOM_PERIOD) if self.random else period, clamped(bits), centre

    def _square_sites(self) -> Iterator[str]:
        yield "embedding.square_sum"
        for i in range(self.shape.layers):
            yield from (f"layer{i}.out.square_sum", f"layer{i}.down.square_sum")
        if self.shape.transforms:
            yield "transform.square_sum"
        elif self.shape.head_norm:
            yield "head.square_sum"

    def _residual_frac(self) -> int:
        """Of a residual that grows: what leaves its ring room for the largest value of any layer."""
        sites = [f"layer{i}.{half}.centred" for i in range(self.shape.layers) for half in ("out", "down")]
        sites += ["embedding.stream"] if self.shape.image is not None else []
        seen = (MARGIN * self.calibration.at(self.softmax, site).absmax for site in sites)
        most = max(min(size, self.bounds.sizes[site]) for size, site in zip(seen, sites, strict=True))
        room = N.CENTRED_BITS - 2 - ring.ceil_log2(most)
        return min(max(room, N.LEAST_CENTRED_FRAC), N.CENTRED_FRAC)

    def _stream_frac(self, site: str) -> int:
        """Of a residual where it is normalised: as many bits below its standard deviation as 1/sigma has below it."""
        seen = self.calibration.at(self.softmax, site)
        deviation = math.sqrt(math.sqrt(seen.min * seen.max) / self.shape.hidden)
        return min(max(N.CENTRED_FRAC - round(math.log2(deviation)), LEAST_STREAM_FRAC), N.CENTRED_FRAC)

    def _square_sums(self, site: str, frac: int) -> RowRange:
        """What is proved, as far as it can be had: the least from calibration, or where rounding would tell."""
        least, most = self.bounds.square_sums[site]
        seen = self.calibration.at(self.softmax, site)
        if not self.suite.wide:
            return RowRange(seen.min / MARGIN, seen.max * MARGIN)
        units = max(UNITS / 2.0**frac, 1.01 / LARGEST_ROOT)  # the least standard deviation that is served
        low = max(_down(max(least, seen.min / WIDE_MARGIN**2)), self.shape.columns_at(site) * units**2)
        return RowRange(low, min(_up(most), low * 4.0 ** (WIDEST - 1)), _up(most))

    def _row_sum(self, i: int) -> RowRange:
        """With its margin; a row sum of 2ReLU is eps where no score is positive, as in some row of some text."""
        seen = self.calibration.at(self.softmax, f"layer{i}.row_sum")
        relu = self.softmax == "2relu"
        if not self.suite.wide:
            return RowRange(RELU_EPS if relu else seen.min / MARGIN, seen.max * MARGIN)
        size = max(self.bounds.scores[i])
        most = self.longest * (size + RELU_EPS if relu else (size + SHIFT) ** 2)
        both = 2 * ring.floor_log2(1 / N.CONTEXT_ERROR)  # what rounding of the quotient's factors takes of their bits
        widest = 2.0 ** (64 - N.CONTEXT_BITS + N.CONTEXT_FRAC - both - 1)  # the largest over the least that is served
        least = min(max(seen.min / LEAST_MARGIN, MARGIN * seen.max / widest), seen.min / MARGIN)
        low = RELU_EPS if relu else least
        return RowRange(low, max(min(_up(most), seen.max * WIDE_MARGIN, low * widest), MARGIN * seen.max), _up(most))


def _up(x: float) -> float:
    """The next power of two: formats are public, and should tell little of the weights."""
    return 2.0 ** ring.ceil_log2(x)


def _down(x: float) -> float:
    return 2.0 ** ring.floor_log2(x)


def _needs(shape: BertShape, formats: Formats, suite: Suite) -> Iterator[str]:
    """What the formats need of the ranges of rows, and V of what is left to it."""

    def want(name: str, limit: float, got: float) -> Iterator[str]:
        if got >= limit:
            yield f"{name}: want < {limit:g}, got {got:.4g}"

    for i in range(shape.layers):
        if (frac := formats.value_frac(i, formats.longest)) < N.LEAST_VALUE_FRAC:
            size = formats.value_sizes[i]
            fraction = f"{N.LEAST_VALUE_FRAC} fraction bits or more, got {frac}"
            yield f"layer{i}.value: want {fraction} for values up to {size:.4g}"
    for site, rows in formats.rows.items():
        root = site.endswith("square_sum")
        limit, least = (RSQRT_LIMIT, RSQRT_LEAST) if root else (RECIPROCAL_LIMIT, RECIPROCAL_LEAST)
        if suite.wide:
            yield from want(f"{site} (largest / smallest)", 2.0 ** (WIDEST * (2 if root else 1)), rows.high / rows.low)
        else:
            yield from want(f"{site} (largest / smallest)", 1 / least, 2.0 ** rows.deflation(limit) / rows.low)
        if root:
            yield from want(f"{site} (1 / sigma)", LARGEST_ROOT, math.sqrt(shape.columns_at(site) / rows.low))
        else:
            bits = formats.weigh_bits(int(site.partition(".")[0].removeprefix("layer")), formats.longest)
            yield from want(f"{site} (rounding of the context)", N.CONTEXT_ERROR, 2.0**-bits.context_frac / rows.low)
            yield from want(
                f"{site} (rounding of the reciprocal)", N.CONTEXT_ERROR, 2.0 ** -bits.inverse_frac() * rows.high
            )
