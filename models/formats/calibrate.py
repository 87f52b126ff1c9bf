"""Ranges of every intermediate value, measured on sample texts: what widths and domains the private model needs.

The ranges are public metadata of the model. They are stored as JSON with the weights' SHA-256 and are refused for any
other weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import Folded
from mpcnet.models.float_model.reference import answer
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import Tokens

FORMAT = "mpcnet calibration"
VERSION = 4


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest of `count` values at one site."""

    min: float
    max: float
    count: int

    @property
    def absmax(self) -> float:
        """Largest magnitude."""
        return self.from_centre(0.0)

    def from_centre(self, centre: float) -> float:
        """Largest distance from there."""
        return max(abs(self.min - centre), abs(self.max - centre))

    def join(self, other: Range) -> Range:
        """The range of both samples together."""
        return Range(min(self.min, other.min), max(self.max, other.max), self.count + other.count)


@dataclass(frozen=True, slots=True)
class Calibration:
    """ranges[softmax][site], the float model's sites, over `sentences` rows of `tokens` tokens in all."""

    weights_sha256: str
    sentences: int
    tokens: int
    ranges: Mapping[str, Mapping[str, Range]]

    def at(self, softmax: Softmax, site: str) -> Range:
        """The range at one site.

        :raises LocalConfigError: the site was not measured.
        """
        if site not in self.ranges[softmax]:
            raise LocalConfigError(f"calibration, {softmax} softmax: want site {site}, got none")
        return self.ranges[softmax][site]


def calibrate(shape: BertShape, folded: Folded, batches: Iterable[Tokens], weights_sha256: str) -> Calibration:
    """Run the plaintext model with every softmax variant over the batches and keep every site's range.

    :raises LocalConfigError: there is no batch, or a value is not finite.
    :raises LocalInputError: a batch does not fit the model.
    """
    ranges: dict[str, dict[str, Range]] = {softmax: {} for softmax in get_args(Softmax)}
    sentences = tokens = 0
    for batch in batches:
        sentences, tokens = sentences + len(batch.mask), tokens + int(batch.mask.sum())
        for softmax in get_args(Softmax):
            record(shape, folded, batch, softmax, ranges[softmax])
    if not sentences:
        raise LocalConfigError("calibration: want at least one batch, got none")
    return Calibration(weights_sha256, sentences, tokens, ranges)


def record(shape: BertShape, folded: Folded, batch: Tokens, softmax: Softmax, ranges: dict[str, Range]) -> None:
    """Widen the ranges by every value of one batch.

    :raises LocalConfigError: a value is not finite.
    """
    with torch.inference_mode():
        answer(shape, folded, batch.ids, batch.types, batch.mask, softmax, _Recorder(ranges))


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Widens the range of each site it is shown."""

    ranges: dict[str, Range]

    def __call__(self, site: str, value: Tensor) -> None:
        low, high = value.aminmax()
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise LocalConfigError(f"calibration: want finite values, got {low} ... {high} at {site}")
        seen = Range(low.item(), high.item(), value.numel())
        self.ranges[site] = self.ranges[site].join(seen) if site in self.ranges else seen


def save(calibration: Calibration, path: Path) -> None:
    """Write the calibration as JSON."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "weights_sha256": calibration.weights_sha256,
        "sentences": calibration.sentences,
        "tokens": calibration.tokens,
        "ranges": {
            softmax: {site: [seen.min, seen.max, seen.count] for site, seen in sites.items()}
            for softmax, sites in calibration.ranges.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


class Outdated(LocalConfigError):
    """A calibration file of an older version, which may lack what is asked of it now."""


def load(path: Path, weights_sha256: str) -> Calibration:
    """Read a calibration of these weights.

    :raises Outdated: the file is of an older version.
    :raises LocalConfigError: the file is missing, malformed, of another version, or belongs to other weights.
    """
    try:
        document = checked_json.mapping(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"calibration {path}: want a JSON file, got {error}") from error
    kind = document.get("format"), document.get("version")
    if kind != (FORMAT, VERSION):
        older = kind in [(FORMAT, version) for version in range(1, VERSION)]
        text = f"calibration {path}: want {(FORMAT, VERSION)}, got {kind}; calibrate this model again"
        raise (Outdated if older else LocalConfigError)(text)
    if document.get("weights_sha256") != weights_sha256:
        raise LocalConfigError(
            f"calibration {path}: belongs to other weights: want sha256 {weights_sha256}, "
            f"got {document.get('weights_sha256')}; calibrate this model again"
        )
    try:
        ranges = {
            softmax: {site: _range(site, *values) for site, values in document["ranges"][softmax].items()}
            for softmax in get_args(Softmax)
        }
        return Calibration(weights_sha256, int(document["sentences"]), int(document["tokens"]), ranges)
    except MALFORMED as error:
        raise LocalConfigError(f"calibration {path}: want ranges by softmax variant, got {error!r}") from error


def _range(site: str, low: Any, high: Any, count: Any) -> Range:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and count > 0):
        raise ValueError(f"{site}: [{low}, {high}], count {count}")
    return Range(float(low), float(high), int(count))
