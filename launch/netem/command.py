"""`mpcnet netem`: the grid of latency experiments and its report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import typer
from rich.console import Console

from mpcnet.errors import LocalConfigError, describe
from mpcnet.launch.netem import grid
from mpcnet.launch.netem.results import FILE
from mpcnet.launch.options import DEMO, Model
from mpcnet.models.shape import Softmax
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.latency import parse_link

T = TypeVar("T")
SOFTMAXES = get_args(Softmax)
HELP = (
    "Time an inference over many links, beside what rounds, bytes and compute predict.\n\n"
    "Each option from --rtt to --streams takes several values, with commas between; each combination of them is a "
    "point. A point starts all parties on a network of its own, probes it, and times requests. OUT gets "
    "results.jsonl (one line a point, written when the point is done), report.md and plots.\n\n"
    "Stop it at any time: the same command goes on where it stopped. A point that fails is noted, the others go on, "
    "and the exit code is 1 at the end."
)
app = typer.Typer()
console = Console(stderr=True, highlight=False)


@app.callback(invoke_without_command=True, help=HELP)
def netem_command(
    context: typer.Context,
    rtt: Annotated[str, typer.Option(help="Round-trip times.")] = "1ms,20ms",
    bw: Annotated[str, typer.Option(help="Bandwidths of each direction.")] = "100mbps,1gbps",
    suite: Annotated[str, typer.Option(help=f"Of {', '.join(SUITES)}.")] = "fast",
    softmax: Annotated[str, typer.Option(help=f"Of {', '.join(SOFTMAXES)}.")] = "exact",
    length: Annotated[str, typer.Option(help="Tokens of a sentence.")] = "128",
    batch: Annotated[str, typer.Option(help="Sentences to a request.")] = "1",
    streams: Annotated[
        str, typer.Option(help="Micro-batches of a request: some compute while others wait. At most the batch.")
    ] = "1",
    how: Annotated[
        Literal["auto", "inproc", "netem", "tun"],
        typer.Option(
            help="How the network is made: netem or tun by the kernel between hosts of their own, inproc by the "
            "processes themselves; auto takes the first that this machine can make."
        ),
    ] = "auto",
    runs: Annotated[int, typer.Option(min=1, help="Timed requests a point, after one that warms up.")] = 3,
    model: Model = DEMO,
    out: Annotated[
        Path, typer.Option(help="Folder of the results. Points that it holds already are not measured again.")
    ] = Path("netem-results"),
) -> None:
    """Run the grid, as HELP says.

    :raises LocalConfigError: a value is wrong, this machine cannot make the network, or `out` cannot be written.
    """
    if context.invoked_subcommand is not None:
        return
    axes = grid.Axes(
        _list("--rtt", rtt, lambda text: parse_link(f"rtt={text}").rtt_s),
        _list("--bw", bw, lambda text: parse_link(f"bw={text}").bandwidth_bps),
        _list("--suite", suite, _one_of(tuple(SUITES))),
        _list("--softmax", softmax, _one_of(SOFTMAXES)),
        _list("--length", length, _count),
        _list("--batch", batch, _count),
        _list("--streams", streams, _count),
    )
    points = list(axes.points(grid.choose(how), model))
    if not points:
        raise LocalConfigError(f"--streams {streams} with --batch {batch}: want no more streams than sentences")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalConfigError(f"{out}: want a folder, cannot make it: {error.strerror}") from error
    failed = grid.run(points, runs, out, console)
    _report(out)
    if failed:
        raise typer.Exit(1)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help=f"A folder with {FILE}.")],
) -> None:
    """Make report.md and the plots again, from results.jsonl alone."""
    _report(folder)


def _report(folder: Path) -> None:
    from mpcnet.launch.netem import report  # draws: half a second to import, only for who needs it

    console.print(f"report: {report.write(folder)}", soft_wrap=True)


def _list(option: str, text: str, parse: Callable[[str], T]) -> list[T]:
    """:raises LocalConfigError: one of the values is none."""
    try:
        return [parse(item.strip()) for item in text.split(",")]
    except LocalConfigError as error:
        raise LocalConfigError(f"{option} {text}: {error}") from error


def _count(text: str) -> int:
    if re.fullmatch("[1-9][0-9]{0,5}", text) is None:
        raise LocalConfigError(describe("count", "a whole number from 1", repr(text)))
    return int(text)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise LocalConfigError(describe("name", f"one of {', '.join(names)}", repr(text)))
        return text

    return parse
