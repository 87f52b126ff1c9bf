"""How the texts of a data set use a model's calibrated ranges, as results that reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation.accuracy import progress, step
from mpcnet.launch.evaluation.examples import Given, single
from mpcnet.launch.evaluation.results import display_name
from mpcnet.launch.reporting import jsonlines, report
from mpcnet.launch.reporting.screen import warn
from mpcnet.models.formats.calibrate import Calibration
from mpcnet.models.images.reader import reader_of
from mpcnet.models.private.prepare import checkpoint, prepare
from mpcnet.models.private.ranges import STRETCHES, Use, by_kind, measure, share, stretches
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import read_all

FILE = "ranges.jsonl"


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the texts: those whose stretch is beyond each of some, beyond the planner's margin, or past the limit."""

    beyond: Mapping[str, float]
    margin: float
    limit: float

    @classmethod
    def of(cls, uses: Sequence[Use]) -> Shares:
        """At any of these sites."""
        return cls(
            {f"{stretch:g}": share([use.beyond(stretch) for use in uses]) for stretch in STRETCHES},
            share([use.beyond(use.site.margin) for use in uses]),
            share([use.passed for use in uses]),
        )


@dataclass(frozen=True, slots=True)
class SiteUse:
    """One site: its calibrated range, how far the planner goes, where the limit is (as stretches), and the texts'."""

    name: str
    kind: str
    calibrated: tuple[float, float]
    margin: float
    room: float
    largest: float
    shares: Shares


@dataclass(frozen=True, slots=True)
class Ranges:
    """A model's ranges on some texts. `shares` are of all sites together; `nearest` is the site nearest to its limit.

    `kinds` holds each text's largest stretch, in ascending order, by kind of site.
    """

    model: str
    softmax: str
    data: str
    n: int
    longest: int  # tokens of a text
    calibrated_on: int  # rows of text
    machine: str
    commit: str
    nearest: str
    shares: Shares
    sites: list[SiteUse] = field(repr=False)
    kinds: Mapping[str, list[float]] = field(repr=False)

    @property
    def key(self) -> tuple[str, ...]:
        """What was looked at; the last line of each counts."""
        return self.model, self.softmax, self.data


def find(given: Given, model: str, softmax: Softmax | None, file: Path | None, console: Console) -> Ranges:
    """Run the plaintext model on the texts, and set every value beside the calibration.

    :raises LocalConfigError: the model cannot be used.
    :raises LocalInputError: a text is empty or too long.
    """
    with console.status("preparing the model") as status:
        found = checkpoint(model)
        texts = given.texts if found.shape.head == "classification" else single(given.texts)
        if not found.source:
            raise LocalConfigError(f"{model}: want a checkpoint, got {found.origin}")
        reader = reader_of(found.source, found.shape.positions, found.preprocessing, found.shape)
        tokens = read_all(reader, texts)
        longest = tokens.mask.shape[1]
        prepared = prepare(model, "fast", softmax, longest, file, say=status.update)
    warn(prepared, console)
    with progress(console) as bar:
        uses = measure(
            prepared.config, prepared.calibration, prepared.folded, tokens, step(bar, "plaintext model", len(texts))
        )
    return summary(
        uses, prepared.calibration, model=display_name(model), softmax=prepared.config.formats.softmax, data=given.name,
        longest=longest,
    )  # fmt: skip


def summary(uses: Sequence[Use], calibration: Calibration, **facts: Any) -> Ranges:
    """What the texts did, by site, by kind and all in all."""
    return Ranges(
        n=len(uses[0].stretches),
        calibrated_on=calibration.sentences,
        machine=report.machine(),
        commit=report.commit(),
        nearest=max(uses, key=lambda use: use.nearness).site.name,
        shares=Shares.of(uses),
        sites=[_site_use(use) for use in uses],
        kinds={kind: sorted(round(x, 4) for x in stretches(found)) for kind, found in by_kind(uses).items()},
        **facts,
    )


def _site_use(use: Use) -> SiteUse:
    site = use.site
    return SiteUse(site.name, site.kind, site.calibrated, site.margin, site.room, use.largest, Shares.of([use]))


def load(folder: Path) -> list[Ranges]:
    """The last of each key, in the order in which they were first made.

    :raises LocalConfigError: the file cannot be read, or a line is none of this version.
    """
    return list({row.key: row for row in jsonlines.load(folder / FILE, parse)}.values())


def append(folder: Path, found: Ranges) -> None:
    """:raises LocalConfigError: it cannot be written."""
    jsonlines.append(folder / FILE, asdict(found))


def parse(row: dict[str, Any]) -> Ranges:
    """The inverse of `asdict`."""
    sites = [_site(**each) for each in row.pop("sites")]
    return Ranges(sites=sites, shares=Shares(**row.pop("shares")), **row)


def _site(shares: dict[str, Any], calibrated: list[float], **fields: Any) -> SiteUse:
    return SiteUse(calibrated=(calibrated[0], calibrated[1]), shares=Shares(**shares), **fields)
