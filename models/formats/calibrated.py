"""Stored calibrations: where they are, what each was made on, and which of them serves.

They are kept in the user's cache, by the digest of the weights: weights that were trained on are other weights. One
that the user made (`mpcnet calibrate`) comes before the built-in one. What does not fit is made again by who needs it,
and refused only if the user named the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import get_args

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import bundled
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.files import user_cache
from mpcnet.models.checkpoints.folding import Folded
from mpcnet.models.formats import calibrate
from mpcnet.models.formats.calibrate import Calibration, record
from mpcnet.models.formats.calibration_batches import recipe
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import Tokens

OWN = "mpcnet-calibration-own.json"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a calibration was made on: built-in rows of up to `longest` tokens, made by `recipe`, and `own` texts."""

    longest: int
    recipe: str
    own: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Kept:
    """A calibration, what it was made on, and its file."""

    calibration: Calibration
    coverage: Coverage
    path: Path | None = field(default=None, compare=False)


def name(longest: int) -> str:
    """The file of a built-in calibration."""
    return f"mpcnet-calibration-{longest}.json"


def folder(found: Checkpoint) -> Path:
    """Where the calibrations of these weights are kept."""
    return user_cache() / found.sha256[:16]


def write(kept: Kept, path: Path) -> Kept:
    """The whole file, or none; what is returned knows where it is.

    :raises LocalConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            made = Path(file.name)
        try:
            calibrate.save(kept.calibration, made)
            document = json.loads(made.read_text("utf-8")) | {"coverage": asdict(kept.coverage)}
            made.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
            os.chmod(made, 0o644)
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        raise LocalConfigError(f"calibration {path}: cannot write: {error.strerror}") from error
    return replace(kept, path=path)


def read(path: Path, sha256: str) -> Kept:
    """A calibration of these weights.

    :raises LocalConfigError: see :func:`mpcnet.models.formats.calibrate.load`; or nothing tells what it was made on.
    """
    calibration = calibrate.load(path, sha256)
    try:
        coverage = checked_json.mapping(path.read_bytes())["coverage"]
        known = Coverage(int(coverage["longest"]), str(coverage["recipe"]), int(coverage["own"]))
        return Kept(calibration, known, path)
    except (OSError, *MALFORMED) as error:
        raise LocalConfigError(f"calibration {path}: want what it was made on, got {error!r}") from error


def named(path: Path, found: Checkpoint, model: str, length: int) -> Kept:
    """The file that the user named, for texts of `length` tokens.

    :raises LocalConfigError: it does not serve; the error holds the command that makes one.
    """
    remedy = f"run: mpcnet calibrate --model {model} --out {path}"
    if not path.is_file():
        raise LocalConfigError(f"calibration {path}: want a file, got none; {remedy}")
    try:
        kept = read(path, found.sha256)
    except LocalConfigError as error:
        raise type(error)(f"{error}; {remedy}") from error
    if kept.coverage.longest < length:
        raise LocalConfigError(
            f"calibration {path}: want one for texts of {length} tokens, got one for up to {kept.coverage.longest}; "
            f"{remedy} --length {length}"
        )
    return kept


def own(found: Checkpoint) -> Kept | None:
    """What the user made for these weights; none if there is none.

    :raises LocalConfigError: it cannot be read.
    """
    path = folder(found) / OWN
    return read(path, found.sha256) if path.is_file() else None


def built_in(found: Checkpoint, longest: int) -> Kept | None:
    """What comes with a packaged model or was stored here, if it is of this version, these texts, and this way to
    prepare them."""
    packaged = bool(found.source) and Path(found.source) == bundled.FOLDER
    for place in ([Path(found.source)] if packaged else []) + [folder(found)]:
        try:
            kept = read(place / name(longest), found.sha256)
        except LocalConfigError:  # missing, older or damaged: it is made again
            continue
        if kept.coverage == Coverage(longest, recipe(found.preprocessing, found.shape.image)):
            return kept
    return None


def told(batches: Sequence[Tokens], say: Callable[[str], None], on: str) -> Iterator[Tokens]:
    """The batches, and how far they are, by tokens."""
    done, total = 0, sum(batch.ids.numel() for batch in batches)
    for batch in batches:
        say(f"calibrating the ranges, {on}: {100 * done // total}%")
        yield batch
        done += batch.ids.numel()


def widen(kept: Kept, shape: BertShape, folded: Folded, batches: Iterable[Tokens]) -> Kept:
    """The calibration with the user's texts beside those it was made on.

    :raises LocalConfigError: a value is not finite.
    """
    known = kept.calibration
    ranges = {softmax: dict(sites) for softmax, sites in known.ranges.items()}
    count = tokens = 0
    for batch in batches:
        count, tokens = count + len(batch.ids), tokens + int(batch.mask.sum())
        for softmax in get_args(Softmax):
            record(shape, folded, batch, softmax, ranges[softmax])
    wider = replace(known, sentences=known.sentences + count, tokens=known.tokens + tokens, ranges=ranges)
    return Kept(wider, replace(kept.coverage, own=kept.coverage.own + count))


@dataclass(frozen=True, slots=True)
class Widened:
    """A site whose range grew: before, after, and by what factor; of sums that are divided by, downwards too."""

    site: str
    before: tuple[float, float]
    after: tuple[float, float]
    factor: float


def widened(before: Calibration, after: Calibration, softmax: Softmax) -> list[Widened]:
    """The sites whose range is wider than before, by the largest factor first."""
    found = []
    for site, wide in after.ranges[softmax].items():
        narrow = before.ranges[softmax].get(site)
        if narrow is None:
            continue
        factor = wide.absmax / narrow.absmax if narrow.absmax else 1.0
        if site.endswith(("square_sum", "row_sum")) and wide.min > 0:
            factor = max(factor, narrow.min / wide.min)
        elif narrow.max > narrow.min:
            factor = max(factor, (wide.max - wide.min) / (narrow.max - narrow.min))
        if factor > 1:
            found.append(Widened(site, (narrow.min, narrow.max), (wide.min, wide.max), factor))
    return sorted(found, key=lambda each: -each.factor)
