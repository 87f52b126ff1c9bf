"""Where formats end: what the values of each site may reach before an answer could become wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpcnet.models.formats import fixed_point as N
from mpcnet.models.formats.calibrate import Range
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.shape import BertShape
from mpcnet.protocols.argmax import DIFFERENCE_BITS
from mpcnet.protocols.rowmax import window_limit
from mpcnet.protocols.softmax import SHIFT

MARGIN = 1.5  # of what is audited: texts that the demo model was not calibrated on reach 1.21 of its ranges on SST-2
OWN_SCORES = 0.75  # of half the ring: a row that spans 3/2 of it comes out beyond a quarter, where an audit looks
SCORE_MARGIN = 1.2  # of scores where windows are wide, which doubles what they cost


@dataclass(frozen=True, slots=True)
class Limit:
    """What the values of a site may reach: where a ring or a domain ends.

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


def limits(shape: BertShape, formats: Formats) -> Iterator[Limit]:
    """Every bound on values that openings, growth and conversions rely on: |x| 2^frac < 2^(bits - 2).

    `Numbers.rows` are limits too.
    """

    def fits(site: str, frac: int, bits: int, extra: float = 0.0, margin: float = MARGIN) -> Limit:
        return Limit(site, 2.0 ** (bits - 2 - frac), margin, extra)

    yield fits("embedding.centred", formats.table_frac, formats.table_bits)
    if shape.image is not None:
        yield fits("embedding.stream", formats.stream_frac, N.CENTRED_BITS)
    for i in range(shape.layers):
        layer = f"layer{i}"
        yield fits(f"{layer}.qkv", formats.query_fracs[i], N.QUERY_BITS + formats.query_fracs[i])
        frac = formats.value_frac(i, formats.longest)
        yield Limit(f"{layer}.value", formats.value_limit(i, formats.longest) / 2.0**frac)
        yield from _score_limits(shape, formats, i)
        yield fits(f"{layer}.out.centred", formats.stream_frac, N.CENTRED_BITS)
        if shape.activation == "quad":  # it opens x + 1, and its result leaves its range by the square of what x does
            yield fits(f"{layer}.up", N.UP_FRAC, N.UP_BITS, extra=1.0)
            yield fits(f"{layer}.activation", N.GELU_FRAC, N.GELU_BITS, margin=MARGIN**2)
        else:
            yield fits(f"{layer}.up", N.UP_FRAC, N.UP_BITS)
        if shape.gated:
            yield fits(f"{layer}.gate", N.UP_FRAC, N.UP_BITS)
        down = N.GELU_BITS - (N.GELU_FRAC + N.WEIGHT_FRAC - N.CENTRED_FRAC)
        yield fits(f"{layer}.down.centred", formats.stream_frac, down)
    if shape.pooler:
        yield fits("pooler.input", N.UP_FRAC, N.UP_BITS)
    if shape.transforms:
        yield fits("transform.up", N.UP_FRAC, N.UP_BITS)
        yield fits("transform.centred", N.CENTRED_FRAC, N.CENTRED_BITS)
    if shape.head_norm and not shape.transforms:
        yield fits("head.centred", N.CENTRED_FRAC, N.CENTRED_BITS)
    if shape.chooses:
        yield Limit("logits", 2.0 ** (DIFFERENCE_BITS - 1 - N.LOGIT_FRAC), span=True)


def _score_limits(shape: BertShape, formats: Formats, i: int) -> Iterator[Limit]:
    layer = f"layer{i}"
    if formats.norm_limits[i]:
        yield Limit(f"{layer}.norms", formats.norm_limits[i])
    if formats.softmax != "exact":
        shift = SHIFT if formats.softmax == "2quad" else 0.0
        yield Limit(f"{layer}.scores", 2.0 ** (formats.score_bits(i) - 2 - N.SCORE_FRAC), extra=shift)
        return
    if not formats.windows:  # a suite's own: differences of scores are compared in their ring, and grow from it
        whole = formats.score_bits(i) - N.SCORE_FRAC
        yield Limit(f"{layer}.scores", OWN_SCORES * 2.0 ** (whole - 1))
        yield from (Limit(f"{layer}.head{head}.row_span", 2.0 ** (whole - 2)) for head in range(shape.heads))
        return
    for window in formats.windows[i]:
        margin = score_margin(window.bits)
        for head, centre in zip(window.heads, window.centres, strict=True):
            yield Limit(f"{layer}.head{head}.scores", window_limit(window.bits), margin, centre=centre)
            yield Limit(f"{layer}.head{head}.row_span", window.span, margin)


def score_margin(bits: int) -> float:
    """Of calibrated scores in a window of 2^bits, and of what a row of them spans."""
    return MARGIN if bits == 6 else SCORE_MARGIN
