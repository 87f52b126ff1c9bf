"""Scales and ring widths of a private model: one budget for every model, and what is chosen for one.

A chain of matrix products never gets its bits back: it starts in a 64-bit ring and every rescale takes ring bits with
the fraction bits (mpcnet.protocols.party.rescale). :mod:`mpcnet.models.formats.planner` chooses, and proves that
nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from mpcnet.arrays import ring
from mpcnet.models.shape import Softmax
from mpcnet.protocols.audit import BEYOND
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.exponential import LARGEST
from mpcnet.protocols.softmax import WeighBits, Window

LEAST_ROW_SUM = 0.0174  # of exact softmax: e^-SLACK = 0.0183 less 5% for rounding; a literal, the same on every host
VALUE_FRAC = 12  # of V, at most; long rows take bits from it
LEAST_VALUE_FRAC = 6
LONG_ROW = 128  # keys; rounding many small numerators adds up, so longer rows have them in six bytes instead of five

WEIGHT_FRAC = 14  # weights' rounding dominates the model's error
QKV_FRAC = 15  # of the weights of queries, keys and values: what the ring of queries leaves of LayerNorm's
NORMAL_FRAC = 12  # of LayerNorm's result: up to 20, needs range more than fraction
CENTRED_FRAC = 14  # of LayerNorm's input
RSQRT_FRAC = 14  # of 1/sigma
NORMAL_BITS = 64 - (CENTRED_FRAC + RSQRT_FRAC - NORMAL_FRAC)  # what is left of 64 bits after LayerNorm's rescale
CENTRED_BITS = 28  # ring LayerNorm's input is opened in: |C| < 2^12
LEAST_CENTRED_FRAC = 8  # of a residual that grows: |C| < 2^18, and weights of what is added to it to 2^-9
QUERY_FRAC = 11  # of queries and keys, at most: with each bit less, scores have one more before the point
QUERY_BITS = 21  # before their point, of the ring that they are left with
SCORE_FRAC = 12
VALUE_BITS = 24  # ring values are opened in to grow them
# V's weights stand 2^3 times as large as those of queries and keys beside them: that is what its own ring leaves.
VALUE_SPARE = NORMAL_BITS - VALUE_BITS - (NORMAL_FRAC + QKV_FRAC - LEAST_VALUE_FRAC)
UP_FRAC, UP_BITS = 12, 24  # the activation's input: |U| < 2^10
UP_WEIGHT_FRAC = 16  # of its weights, so that their product, before its rescale, has whole bytes
UP_PRODUCT_BITS = UP_BITS + NORMAL_FRAC + UP_WEIGHT_FRAC - UP_FRAC
GELU_FRAC, GELU_BITS = 12, 40  # the activation's result, and the ring of the product that follows
GATED_BITS = GELU_BITS + UP_FRAC  # of the product of a gate and an activation, before its rescale
CONTEXT_FRAC, CONTEXT_BITS = 12, 40
CONTEXT_ERROR = 2.0**-9  # what each factor's rounding before the division may do to a context, at a range's end
MEAN_SHIFT = 6  # the mean of a residual is computed from weights of a d-th: 6 more fraction bits keep it exact enough
POOLER_BITS = 48
HEAD_MEAN_FRAC = 22  # of 1/d, for the mean that a classifier's own LayerNorm subtracts: wrong by 1e-4 of it for 768
TOKEN_BITS = 40  # of the product that makes every token's logits: |x| < 2^13
LOGIT_FRAC = 16
PIXEL_FRAC, PIXEL_BITS = 12, 48  # of an image's pixels, and the ring of their product with the map of patches
PATCH_FRAC = 20  # of that map: patches are as small as 2^-8 in some models
IMAGE_FRAC = 22  # of a classifier of images, whose map holds one over the number of patches


@dataclass(frozen=True, slots=True)
class Formats:
    """Everything about number formats that depends on a model. Public; part of the program digest."""

    softmax: Softmax
    longest: int  # tokens of a text: all positions under exact softmax; others' row sums grow: as calibrated
    table_bits: int
    table_frac: int
    value_sizes: tuple[float, ...]  # what |V| stays below, by layer
    rows: Mapping[str, RowRange]
    windows: tuple[tuple[Window, ...], ...]  # of exact softmax: those of each layer's heads
    query_fracs: tuple[int, ...]  # of queries and keys, by layer
    norm_limits: tuple[float, ...]  # by layer, of their squared norms: audited; 0 where every score is proved to fit
    audited: frozenset[str]  # sites whose values are only calibrated
    stream_fracs: tuple[int, ...] = ()  # of a residual that grows: where it is normalised, two by layer
    stream_frac: int = CENTRED_FRAC  # of the residual itself: with each bit less, it may be twice as large

    def centred_frac(self, site: str) -> int:
        """Fraction bits of a LayerNorm's input behind a layer's half, "layer3.out" or "layer3.down"."""
        layer, _, place = site.partition(".")
        return self.stream_fracs[2 * int(layer[5:]) + (place == "down")] if self.stream_fracs else CENTRED_FRAC

    @property
    def added_frac(self) -> int:
        """Fraction bits of the weights of what is added to the residual: their product leaves it the same ring."""
        return WEIGHT_FRAC - (CENTRED_FRAC - self.stream_frac)

    @property
    def start_frac(self) -> int:
        """Of the weights of what it begins with, whose product has lost MEAN_SHIFT bits of its ring."""
        spare = NORMAL_BITS - MEAN_SHIFT - NORMAL_FRAC - CENTRED_BITS
        return min(WEIGHT_FRAC, self.stream_frac + spare)

    @property
    def patch_frac(self) -> int:
        """Of the map of an image's patches, whose product with pixels leaves the residual its ring."""
        return PATCH_FRAC - (CENTRED_FRAC - self.stream_frac)

    def sure(self, site: str) -> bool:
        """No text takes a value of this site out of its format."""
        return site not in self.audited

    def norm_rows(self, site: str) -> RowRange:
        """The range of a LayerNorm's sum of squares."""
        return self.rows[f"{site}.square_sum"]

    def softmax_rows(self, layer: int, keys: int) -> RowRange:
        """The range of a row sum: proved for exact softmax (some key has s > m - 4), calibrated for others."""
        if self.softmax == "exact":
            most = float(max(keys, 2))
            return RowRange(LEAST_ROW_SUM, most, most * LARGEST)
        return self.rows[f"layer{layer}.row_sum"]

    def numerator_frac(self, keys: int) -> int:
        """Fraction bits of the numerators of rows of `keys` keys."""
        if self.softmax != "exact":
            return 12
        return 22 if keys > LONG_ROW else 16

    def weigh_bits(self, layer: int, keys: int) -> WeighBits:
        """Widths of the product with V for rows of `keys` keys."""
        rows = self.softmax_rows(layer, keys)
        both = 64 - CONTEXT_BITS + CONTEXT_FRAC  # fraction bits of the factors, so that the quotient keeps its ring
        even = (both - ring.floor_log2(rows.low * rows.high)) // 2  # rounding them costs as much at the range's ends
        return WeighBits(self._product_bits(keys), min(max(2, even), 22), CONTEXT_BITS, CONTEXT_FRAC)

    def value_frac(self, layer: int, keys: int) -> int:
        """Fraction bits of V: what its own ring leaves, and |sum_j a_j v_j| <= sum_j a_j max |v| of the product's."""
        size = self.value_sizes[layer]
        own = VALUE_BITS - 2 - ring.ceil_log2(size)
        total = self._sum_bits(keys) - ring.ceil_log2(size * self._most(layer, keys))
        return min(VALUE_FRAC, own, total)

    def value_limit(self, layer: int, keys: int) -> int:
        """What an audit holds |V| to, as an integer: so that the weighted sum over the keys stays in its ring."""
        limit = 2 ** self._sum_bits(keys) / self._most(layer, keys)
        return min(int(limit), 1 << (VALUE_BITS - 2))

    def score_bits(self, layer: int) -> int:
        """Of the ring of scores: what the product of queries and keys leaves of theirs."""
        return QUERY_BITS + SCORE_FRAC - self.query_fracs[layer]

    def _most(self, layer: int, keys: int) -> float:
        """What no row sum exceeds that an audit lets pass."""
        return BEYOND * self.softmax_rows(layer, keys).high

    def _product_bits(self, keys: int) -> int:
        """What the ring of exact softmax's numerators has, in whole bytes."""
        return 40 if self.softmax == "exact" and keys <= LONG_ROW else 48

    def _sum_bits(self, keys: int) -> int:
        """For V's fraction and the sum over a row, in the product with V."""
        return self._product_bits(keys) - 2 - self.numerator_frac(keys)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "audited": sorted(self.audited)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Formats:
        """The inverse of :meth:`to_dict`.

        :raises ValueError, TypeError, KeyError: a field is missing, or none that a planner makes.
        """
        if values["softmax"] not in get_args(Softmax):
            raise ValueError(f"softmax {values['softmax']!r}")
        made = Formats(
            softmax=values["softmax"],
            longest=int(values["longest"]),
            table_bits=int(values["table_bits"]),
            table_frac=int(values["table_frac"]),
            value_sizes=tuple(float(size) for size in values["value_sizes"]),
            rows={
                site: RowRange(**{name: float(end) for name, end in ends.items()})
                for site, ends in values["rows"].items()
            },
            windows=tuple(tuple(_window(window) for window in layer) for layer in values["windows"]),
            query_fracs=tuple(int(frac) for frac in values["query_fracs"]),
            norm_limits=tuple(float(limit) for limit in values["norm_limits"]),
            audited=frozenset(str(site) for site in values["audited"]),
            stream_fracs=tuple(int(frac) for frac in values["stream_fracs"]),
            stream_frac=int(values["stream_frac"]),
        )
        bits = [made.table_bits, *(window.bits for layer in made.windows for window in layer)]
        fracs = [made.table_frac, *made.query_fracs, *made.stream_fracs]
        fracs += [window.period_bits for layer in made.windows for window in layer]
        if not all(1 <= count <= 64 for count in bits) or not all(0 <= count <= 64 for count in fracs):
            raise ValueError(f"widths of rings: want 1 to 64 bits, and fractions of them, got {bits} and {fracs}")
        if not LEAST_CENTRED_FRAC <= made.stream_frac <= CENTRED_FRAC:
            raise ValueError(f"stream_frac: want {LEAST_CENTRED_FRAC} to {CENTRED_FRAC}, got {made.stream_frac}")
        if not all(0 < size < math.inf for size in made.value_sizes):
            raise ValueError(f"value_sizes: want numbers above 0, got {made.value_sizes}")
        return made


def _window(values: Mapping[str, Any]) -> Window:
    return Window(
        int(values["bits"]),
        int(values["period_bits"]),
        bool(values["clamped"]),
        tuple(int(head) for head in values["heads"]),
        tuple(float(centre) for centre in values["centres"]),
    )
