"""The report on ranges in Markdown, from its results alone: what they say, a table for each, a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation import plots, ranges
from mpcnet.launch.evaluation.ranges import Ranges, SiteUse
from mpcnet.launch.evaluation.report import percent
from mpcnet.launch.reporting import markdown
from mpcnet.models.private.ranges import STRETCHES

FILE = "ranges.md"
METHOD = (
    "*Stretch:* by what factor a calibrated range would have to be wider to hold a text's values; at most 1: it holds "
    "them. Formats are planned for the calibrated range times a margin, and proved for that. The limit is where a ring "
    "or a domain ends: beyond it an answer may be wrong, and the audit flags it. Counted are the values that the "
    "planner limits, of all layers and tokens, as the float model has them. A kind's figures are of its largest layer."
)
TITLES = [
    "site", "largest at", "calibrated there", "planner's margin", "limit, as a stretch", "largest stretch",
    *(f"texts beyond {stretch:g}" for stretch in STRETCHES), "beyond the margin", "past the limit",
]  # fmt: skip
SHOWN = (0, 3, 4, 5, 6, 10, 11)  # of the titles


def write(folder: Path) -> Path:
    """Make report and plot from the results in `folder`; returns the report's path.

    :raises LocalConfigError: there are none, or the folder cannot be written.
    """
    rows = ranges.load(folder)
    if not rows:
        raise LocalConfigError(f"{folder}: want results of mpcnet ranges, got none")
    return markdown.write(folder / FILE, compose(rows, plots.ranges(rows, folder)))


def compose(rows: Sequence[Ranges], figures: Mapping[str, str]) -> str:
    """The report; `figures` are the plots' file names without their endings, and what each shows."""
    commits = sorted({row.commit for row in rows})
    lines = ["# Calibrated ranges on other texts", "", *(f"- {verdict(row)}" for row in rows)]
    lines += [f"- **Commit:** {', '.join(commits)}.", "", METHOD, ""]
    for row in rows:
        lines += [f"## {name(row)}", "", *table(row), ""]
    return "\n".join([*lines, *markdown.figures(figures)])


def name(row: Ranges) -> str:
    return f"{markdown.cell(row.model)} ({row.softmax}), {row.data}"


def verdict(row: Ranges) -> str:
    """How many texts leave what, in two sentences."""
    nearest = next(site for site in row.sites if site.name == row.nearest)
    shares = row.shares
    limit, margin, range_ = (count(part, row.n) for part in (shares.limit, shares.margin, shares.beyond["1"]))
    return (
        f"**{name(row)}: {limit} of {row.n} texts pass a limit, {margin} leave the planner's margin** somewhere, "
        f"{range_} a calibrated range (of {row.calibrated_on} rows of text). Nearest to its limit: {nearest.name}, at "
        f"{nearest.largest:.2f} times what was calibrated, where {nearest.room:.3g} times are the limit."
    )


def alike(row: Ranges, model: str) -> str:
    """Whether the texts are like those that the model was calibrated on, and what to do if they are not.

    A value beyond its limit is no answer; one beyond the margin is a right answer, but not far from none.
    """
    shares = row.shares
    limit, margin, range_ = (count(part, row.n) for part in (shares.limit, shares.margin, shares.beyond["1"]))
    remedy = f"run mpcnet calibrate --model {model} --texts FILE with them, then mpcnet init again"
    if limit:
        return f"no: {limit} of {row.n} texts would get no answer, since a value passes its limit; {remedy}"
    if margin:
        return f"nearly: all {row.n} texts would be answered, {margin} of them beyond the planner's margin; {remedy}"
    inside = row.n - range_
    return f"yes: all {row.n} texts stay within the planner's margin, {inside} of them within the calibrated ranges"


def count(part: float, n: int) -> int:
    """Texts, from their share."""
    return round(part * n)


def table(row: Ranges) -> list[str]:
    """A row for each kind of site; of each the layer whose range is stretched most, and the worst shares."""
    return markdown.table(TITLES, _rows(row), left=3)


def shown(row: Ranges) -> Table:
    """The columns that a terminal has room for."""
    grid = Table(title=f"{row.model} ({row.softmax}), {row.data}: {row.n} texts", title_justify="left")
    for index in SHOWN:
        grid.add_column(TITLES[index], justify="right" if index else "left")
    for cells in _rows(row):
        grid.add_row(*(cells[index] for index in SHOWN))
    return grid


def _rows(row: Ranges) -> list[list[str]]:
    return [_cells(sites) for sites in _kinds(row)]


def _kinds(row: Ranges) -> Iterator[list[SiteUse]]:
    for kind in row.kinds:
        yield [site for site in row.sites if site.kind == kind]


def _cells(sites: Sequence[SiteUse]) -> list[str]:
    worst = max(sites, key=lambda site: site.largest)
    shares = [max(site.shares.beyond[f"{stretch:g}"] for site in sites) for stretch in STRETCHES]
    shares += [max(site.shares.margin for site in sites), max(site.shares.limit for site in sites)]
    low, high = worst.calibrated
    return [
        worst.kind,
        worst.name.partition(".")[0],
        f"{low:.4g} to {high:.4g}" if low else f"{high:.4g}",
        f"{worst.margin:g}",
        f"{min(site.room for site in sites):.3g}",
        f"{worst.largest:.3f}",
        *map(percent, shares),
    ]
