"""A grid of latency experiments: which points there are, which of them are still to do, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from mpcnet.errors import LocalConfigError
from mpcnet.launch.netem import networks
from mpcnet.launch.netem.experiment import attempt, attempt_base
from mpcnet.launch.netem.results import Base, Failure, Point, Result, Row, Work, append, load

PREFERENCE = ("netem", "tun", "inproc")  # a kernel's own TCP and shaping first; inproc can be made anywhere
DAY_S = 86_400.0  # points take minutes: the remaining time is estimated from all of them, not from the last seconds


@dataclass(frozen=True, slots=True)
class Axes:
    """The values of each dimension; a grid is their product."""

    rtts_s: Sequence[float]
    bandwidths_bps: Sequence[float]
    suites: Sequence[str]
    softmaxes: Sequence[str]
    lengths: Sequence[int]
    batches: Sequence[int]
    streams: Sequence[int]

    def points(self, how: str, model: str) -> Iterator[Point]:
        """Every point once. More streams than sentences are no micro-batches, so such points are left out."""
        seen = set()
        for suite, softmax, length, batch, streams, bandwidth_bps, rtt_s in product(
            self.suites, self.softmaxes, self.lengths, self.batches, self.streams, self.bandwidths_bps, self.rtts_s
        ):
            point = Point(how, model, suite, softmax, length, batch, streams, bandwidth_bps, rtt_s)
            if streams <= batch and point not in seen:
                seen.add(point)
                yield point


def choose(how: str) -> str:
    """The kind of network: `how` itself, or for `auto` the first that this machine can make.

    :raises LocalConfigError: this machine cannot make it; the line says why.
    """
    if how == "auto":
        return next(kind for kind in PREFERENCE if networks.why_not(kind) is None)
    if reason := networks.why_not(how):
        raise LocalConfigError(f"{reason}; --how auto takes what this machine can make")
    return how


def run(points: Sequence[Point], runs: int, folder: Path, console: Console) -> int:
    """Measure the points that `folder` does not hold yet; returns how many have failed.

    :raises LocalConfigError: the folder holds something else, or cannot be written.
    """
    known = load(folder)
    left = [point for point in points if not _is_done(known.get(point), runs)]
    if len(left) < len(points):
        console.print(f"{len(points) - len(left)} of {len(points)} points are in {folder} already")
    failed = 0
    with _progress(console) as progress:
        task = progress.add_task("", total=len(left))
        for point in left:
            name = f"{point.how}: {point.work_name}, {point.link_name}"
            progress.update(task, description=escape(name))
            row = attempt(point, runs, _base(point, runs, folder, known, progress.console))
            append(folder, row)
            failed += isinstance(row, Failure)
            progress.console.print(escape(f"{name}: {told(row)}"), soft_wrap=True)
            progress.advance(task)
    return failed


def _base(
    point: Point, runs: int, folder: Path, known: dict[Point | Work, Row], console: Console
) -> Base | Failure | None:
    """The point's work over no link, measured if it is not known. None for several streams, which need none."""
    if point.streams > 1:
        return None
    row = known.get(point.work)
    if isinstance(row, Failure) or (isinstance(row, Base) and row.n >= runs):
        return row
    made = attempt_base(point, runs)
    known[point.work] = made  # one that has failed is tried again by the next command, not by the next point
    if isinstance(made, Base):
        append(folder, made)
        console.print(escape(f"{point.how}: {point.work.name}, no link: {told(made)}"), soft_wrap=True)
    return made


def _is_done(row: Row | None, runs: int) -> bool:
    """A failed point is tried again, and so is one of fewer runs."""
    return isinstance(row, Result) and row.n >= runs


def _progress(console: Console) -> Progress:
    point = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    columns = (point, MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    return Progress(*columns, console=console, speed_estimate_period=DAY_S)


def told(row: Row) -> str:
    """A row in a few words."""
    if isinstance(row, Failure):
        return f"failed: {row.error}"
    if isinstance(row, Base):
        each_ms = 1e3 * row.overhead_s / row.rounds
        return f"online {row.seconds_online.median:.3g} s, overhead {row.overhead_s:.3g} s ({each_ms:.2f} ms a round)"
    return f"online {row.seconds_online.median:.3g} s, predicted {row.predicted_s:.3g} s ({row.residual:+.1%})"
