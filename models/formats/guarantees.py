"""What is known of every limited site: proved for every text from the weights, or calibrated and audited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mpcnet.models.formats.bounds import Bounds
from mpcnet.models.formats.calibrate import Calibration
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.formats.limits import Limit, limits
from mpcnet.models.shape import BertShape
from mpcnet.protocols.exponential import BUCKET_BITS, ENTRY_BITS
from mpcnet.protocols.rowmax import window_limit
from mpcnet.protocols.softmax import Window

UNCLAMPED_BITS = BUCKET_BITS + ENTRY_BITS
ROUNDING = 1 + 1e-6  # of bounds that another host computed


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is known of a site: its limit; what no text exceeds, if anything; the calibrated range and its margin."""

    name: str
    limit: float
    proved: float | None
    calibrated: float
    margin: float

    @property
    def sure(self) -> bool:
        return self.proved is not None and self.proved <= self.limit

    @property
    def holds(self) -> bool:
        return self.sure or self.margin * self.calibrated <= self.limit

    def __str__(self) -> str:
        bound = "" if self.proved is None else f", where no text exceeds {self.proved:.4g}"
        return f"{self.name}: want < {self.limit:g}, got {self.margin * self.calibrated:.4g} with its margin{bound}"


def guarantees(shape: BertShape, formats: Formats, bounds: Bounds, calibration: Calibration) -> Iterator[Guarantee]:
    """Of every limited site, in the order of the program."""
    for limit in limits(shape, formats):
        calibrated = limit.size(calibration.at(formats.softmax, limit.site))
        yield Guarantee(limit.name, limit.limit - limit.extra, proved(bounds, limit), calibrated, limit.margin)


def row_guarantees(formats: Formats, bounds: Bounds, calibration: Calibration) -> Iterator[Guarantee]:
    """Of sums of squares and row sums, from above and below: what leaves them is audited."""
    for site, rows in formats.rows.items():
        seen = calibration.at(formats.softmax, site)
        least, most = bounds.square_sums.get(site, (None, rows.most or None))
        yield Guarantee(f"{site} (most)", rows.high, most, seen.max, 1.0)
        yield Guarantee(f"{site} (1 / least)", 1 / rows.low, None if not least else 1 / least, 1 / seen.min, 1.0)


def unproved(shape: BertShape, formats: Formats, bounds: Bounds) -> Iterator[str]:
    """Where weights of these bounds exceed formats that were proved of others: no audit would tell."""
    for limit in limits(shape, formats):
        size, most = proved(bounds, limit), limit.limit - limit.extra
        windowed = ".head" in limit.site and formats.windows  # these are looked at below
        if not windowed and formats.sure(limit.site) and size is not None and size > most * ROUNDING:
            yield f"{limit.name}: proved below {most:.4g}, got weights that reach {size:.4g}"
    for site, rows in formats.rows.items():
        _, most = bounds.square_sums.get(site, (0.0, 0.0))
        if rows.most and most > rows.most * ROUNDING:
            yield f"{site}: proved below {rows.most:.4g}, got weights that reach {most:.4g}"
    for i, windows in enumerate(formats.windows):
        for window in windows:
            for head, centre in zip(window.heads, window.centres, strict=True):
                audited = formats.norm_limits[i]
                size = audited + bounds.beside(i, audited) if audited else bounds.scores[i][head]
                if period_of(window, size, centre) > 2.0**window.period_bits:
                    yield f"layer{i}.head{head}.scores: want a period of 2^{window.period_bits}, got up to {size:.4g}"


def period_of(window: Window, most: float, centre: float) -> float:
    """What a period must hold for scores of up to `most`, so that an audit notices all that leave the window.

    No difference of a score and a maximum, aliased or not, may come out between 0 and the least that is taken.
    """
    taken = 2.0 ** (window.bits if window.clamped else UNCLAMPED_BITS)
    above = most - (centre - window_limit(window.bits))  # of a score, if the maximum used is the window's least
    below = most + centre + window_limit(window.bits) + 2  # if it is the window's largest, which is one bucket above it
    return max(above + taken, below) + 2.0**BUCKET_BITS


def proved(bounds: Bounds, limit: Limit) -> float | None:
    """What no text exceeds at a limited site."""
    if found := re.fullmatch(r"layer(\d+)\.(?:head(\d+)\.)?(scores|row_span)", limit.site):
        layer, head, name = found.groups()
        most = max(bounds.scores[int(layer)]) if head is None else bounds.scores[int(layer)][int(head)]
        return 2 * most if name == "row_span" else most + abs(limit.centre)
    return bounds.sizes.get(limit.site)
