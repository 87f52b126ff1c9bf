"""Where a suite's published functions leave their domain on a model's calibrated ranges.

Suites that others published are run as they are, so that they can be compared. What leaves a domain is told of before
the run, and by the audit in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from mpcnet.models.formats.calibrate import Calibration, Range
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.protocols.suites import Suite


def departures(shape: BertShape, suite: Suite, calibration: Calibration, softmax: Softmax, keys: int) -> Iterator[str]:
    """A line for each function that some calibrated value leaves the domain of; texts have up to `keys` tokens.

    `shape` is the checkpoint's own, without what a suite puts in.
    """
    domain, layers = suite.domain, range(shape.layers)
    if suite.activation and shape.activation != suite.activation:
        yield f"{suite.activation} stands in for the {shape.activation} that these weights were trained with"
    norms = ["embedding", *(f"layer{i}.{name}" for i in layers for name in ("out", "down"))]
    seen = [_scaled(calibration.at(softmax, f"{site}.square_sum"), shape.hidden) for site in norms]
    yield from _outside("LayerNorm's variances", seen, *domain.variances)
    if keys > domain.row_sums[1] or softmax != "exact":
        seen = [calibration.at(softmax, f"layer{i}.row_sum") for i in layers]
        yield from _outside("softmax's row sums", seen, *domain.row_sums)
    if not suite.activation:
        seen = [calibration.at(softmax, f"layer{i}.up") for i in layers]
        yield from _outside("GeLU's inputs", seen, -domain.inputs, domain.inputs)
    seen = [calibration.at(softmax, f"layer{i}.scores") for i in layers]
    yield from _outside("attention's scores", seen, *domain.scores)


def _scaled(seen: Range, columns: int) -> Range:
    return Range(seen.min / columns, seen.max / columns, seen.count)


def _outside(what: str, seen: list[Range], low: float, high: float) -> Iterator[str]:
    count = sum(each.min < low or each.max > high for each in seen)
    if count:
        least, most = min(each.min for each in seen), max(each.max for each in seen)
        yield f"{what} are {least:.3g} to {most:.4g}, and served from {low:.3g} to {high:.4g} ({count} of {len(seen)})"
