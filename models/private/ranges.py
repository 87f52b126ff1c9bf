"""How real texts use the calibrated ranges: which limits of the private model they come near, or pass.

An answer is not given out if a value passed a limit that is not proved, since it may be wrong. Such ranges are
calibrated, and planned for with a margin. Here the float model runs on other texts, one by one, and every value that
the planner limits is set beside its calibrated range: by how much would it have had to be wider for this text?
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mpcnet.models.checkpoints.folding import Folded
from mpcnet.models.families.config import Config
from mpcnet.models.formats.calibrate import Calibration, Range, record
from mpcnet.models.formats.limits import MARGIN, limits
from mpcnet.models.texts.tokens import Tokens

STRETCHES = (1.0, 1.1, 1.25, 1.5)


@dataclass(frozen=True, slots=True)
class Site:
    """A limited value: what was calibrated, what the planner's margin makes of it, and where answers may become wrong.

    `least` is 0 but for sums that are divided by: those are limited from below too.
    """

    name: str
    calibrated: tuple[float, float]
    margin: float
    least: float
    most: float
    size: Callable[[Range], float]
    source: str

    @property
    def kind(self) -> str:
        """The same for all layers and heads."""
        return re.sub(r"^layer\d+\.(head\d+\.)?", "", self.name)

    def stretch(self, seen: Range) -> float:
        """By what factor the calibrated range is too narrow; below 1: it is not."""
        low, high = self.calibrated
        above = self.size(seen) / high if high else float(self.size(seen) > 0)
        return max(above, low / seen.min) if self.least else above

    def passes(self, seen: Range) -> bool:
        """Is the limit itself passed?"""
        return self.size(seen) > self.most or (self.least > 0 and seen.min < self.least)

    @property
    def room(self) -> float:
        """The stretch at which the limit is passed."""
        low, high = self.calibrated
        above = self.most / high if high else float("inf")
        return min(above, low / self.least) if self.least else above


def sites(config: Config, calibration: Calibration) -> Iterator[Site]:
    """Every value that the planner limits, in the order of the program."""
    formats = config.formats
    for limit in limits(config.shape, formats):
        calibrated = limit.size(calibration.at(formats.softmax, limit.site))
        most = limit.limit - limit.extra
        yield Site(limit.name, (0.0, calibrated), limit.margin, 0.0, most, limit.size, limit.site)
    for name, rows in formats.rows.items():
        seen = calibration.at(formats.softmax, name)
        yield Site(name, (seen.min, seen.max), MARGIN, rows.low, rows.high, lambda seen: seen.max, name)


@dataclass(frozen=True, slots=True)
class Use:
    """What some texts did at a site: each text's stretch, and which of them passed the limit."""

    site: Site
    stretches: Sequence[float]
    passed: Sequence[bool]

    @property
    def largest(self) -> float:
        return max(self.stretches)

    @property
    def nearness(self) -> float:
        """The largest stretch as a share of that at which the limit is passed."""
        return self.largest / self.site.room

    def beyond(self, stretch: float) -> list[bool]:
        """The texts for which the calibrated range, so much wider, is still too narrow."""
        return [value > stretch for value in self.stretches]


def share(sites: Iterable[Sequence[bool]]) -> float:
    """Of the texts for which something holds at any of some sites."""
    texts = [any(found) for found in zip(*sites, strict=True)]
    return sum(texts) / len(texts)


def measure(
    config: Config,
    calibration: Calibration,
    folded: Folded,
    tokens: Tokens,
    each: Callable[[], None] = lambda: None,
) -> list[Use]:
    """Run the plaintext model on each row of `tokens`; `each` is called after every one."""
    rows = []
    for row in range(len(tokens.ids)):
        seen: dict[str, Range] = {}
        record(config.shape, folded, tokens.rows([row]), config.formats.softmax, seen)
        rows.append(seen)
        each()
    return [use(site, [seen[site.source] for seen in rows]) for site in sites(config, calibration)]


def use(site: Site, seen: Sequence[Range]) -> Use:
    """Of one site, by each text's range of it."""
    return Use(site, [site.stretch(each) for each in seen], [site.passes(each) for each in seen])


def by_kind(uses: Iterable[Use]) -> dict[str, list[Use]]:
    """The layers' sites of one kind together."""
    found: dict[str, list[Use]] = {}
    for use in uses:
        found.setdefault(use.site.kind, []).append(use)
    return found


def stretches(uses: Sequence[Use]) -> list[float]:
    """Each text's largest stretch at any of these sites."""
    return [max(values) for values in zip(*(use.stretches for use in uses), strict=True)]
