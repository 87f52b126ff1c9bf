"""The report of evaluations in Markdown, from their results alone: what they say, two tables, the plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation import plots, results
from mpcnet.launch.evaluation.results import Evaluation, margins
from mpcnet.launch.reporting import markdown

FILE = "evaluation.md"
GOAL = 0.005  # of a metric: how far the private one may be from the float model's
METHOD = (
    "*Three ways:* the float model (float64, the same softmax as the private one); the fixed-point oracle, which is "
    "the private program with all masks zero, on whole values and rounded to nearest; and the private run, five "
    "processes over TLS on one machine. Private scores and errors are of the private examples only, in all three ways. "
    "An error is the difference of an output (logit) from the float model's; of label answers only labels are known."
)


def write(folder: Path) -> Path:
    """Make report and plots from the results in `folder`; returns the report's path.

    :raises LocalConfigError: there are none, or the folder cannot be written.
    """
    rows = results.load(folder)
    if not rows:
        raise LocalConfigError(f"{folder}: want results of mpcnet evaluate, got none")
    return markdown.write(folder / FILE, compose(rows, plots.evaluations(rows, folder)))


def compose(rows: Sequence[Evaluation], figures: Mapping[str, str]) -> str:
    """The report; `figures` are the plots' file names without their endings, and what each shows."""
    machines, commits = (sorted({getattr(row, name) for row in rows}) for name in ("machine", "commit"))
    lines = ["# Private accuracy", ""]
    lines += [f"- **What ran:** {len(rows)} evaluations; {'; '.join(machines)}; commit {', '.join(commits)}."]
    lines += [f"- {verdict(row)}" for row in rows]
    lines += ["", METHOD, "", "## Accuracy", "", *markdown.table(*_accuracy(rows), left=3), ""]
    lines += ["## Errors", "", *markdown.table(*_errors(rows), left=3), ""]
    lines += ["## Cost of an example", "", *markdown.table(*_cost(rows), left=3), "", *_load(rows)]
    return "\n".join([*lines, *markdown.figures(figures)])


def verdict(row: Evaluation) -> str:
    """What an evaluation says in one sentence or two, the goal included."""
    private, floats = (row.private_scores[way][row.headline] for way in ("private", "float"))
    met = "met" if abs(row.change()) <= GOAL + 1e-9 else "missed"  # 75.5 less 75 is more than 0.5 in floating point
    words = (
        f"**{row.name}: {row.headline} {metric(private)} private, {metric(floats)} float** on the same "
        f"{row.private_n} of {row.available} dev examples{_drawn(row)}: {points(row.change())} "
        f"(goal: within {100 * GOAL:g}: {met})."
    )
    difference = row.differences["private-float"]
    if difference.same is not None:
        words += f" The same label for {percent(difference.same)}{_changed(row)}."
    return words if difference.largest is None else f"{words} Largest error {difference.largest:.2g}."


def facts(row: Evaluation) -> dict[str, str]:
    """The same and the cost, for a terminal."""
    said, least, most = verdict(row).replace("**", ""), *row.rounds
    seconds = ", ".join(f"{phase} {value:.3f}" for phase, value in row.seconds.items())
    return {
        "result": said,
        "rounds of a request": str(least) if least == most else f"{least} to {most}",
        "an example": f"{row.sent_bytes / 1e6:.2f} MB each way, {row.dealt_bytes / 1e6:.2f} MB dealt to each server",
        "its seconds": f"{seconds}{'' if row.quiet else f' (other work on the machine: load {row.load:g})'}",
        "machine": f"{row.machine}, commit {row.commit}",
    }


def _drawn(row: Evaluation) -> str:
    return f" (drawn with seed {row.seed})" if row.private_n < row.available else ""


def _changed(row: Evaluation) -> str:
    """How undecided the float model was about the examples whose label changed."""
    undecided = [
        margin for margin, kept in zip(margins(row.outputs["float"]), row.same_labels(), strict=True) if not kept
    ]
    return f"; the float model's margin at the others was at most {max(undecided):.2g}" if undecided else ""


def percent(value: float) -> str:
    return f"{100 * value:.2f}%"


def metric(value: float) -> str:
    """In hundredths, as GLUE's tables have it."""
    return f"{100 * value:.2f}"


def points(value: float) -> str:
    """A difference of two metrics."""
    return f"{100 * value:+.2f} points"


Table = tuple[list[str], list[list[str]]]
_LEAD = ["task, metric", "model", "suite, softmax"]


def _lead(row: Evaluation) -> list[str]:
    return [f"{row.task}, {row.headline}", markdown.cell(row.model), row.how]


def _rows(rows: Sequence[Evaluation], cells: Callable[[Evaluation], list[str]]) -> list[list[str]]:
    return [_lead(row) + cells(row) for row in rows]


def _accuracy(rows: Sequence[Evaluation]) -> Table:
    def cells(row: Evaluation) -> list[str]:
        whole = [metric(row.scores[way][row.headline]) for way in ("float", "oracle")]
        private = [metric(row.private_scores[way][row.headline]) for way in results.WAYS]
        return [str(row.n), *whole, str(row.private_n), *private, points(row.change()), _same(row)]

    titles = ["n", "float", "oracle", "n private", "float", "oracle", "private", "private - float", "same label"]
    return [*_LEAD, *titles], _rows(rows, cells)


def _same(row: Evaluation) -> str:
    same = row.differences["private-float"].same
    return "" if same is None else percent(same)


def _errors(rows: Sequence[Evaluation]) -> Table:
    pairs = ("private-float", "oracle-float", "private-oracle", "transformers-float")

    def cells(row: Evaluation) -> list[str]:
        found = [row.differences.get(pair) for pair in pairs]
        return [f"{each.largest:.2g} ({each.mean:.2g})" if each and each.mean is not None else "" for each in found]

    return [*_LEAD, *(f"{pair}: largest (mean)" for pair in pairs)], _rows(rows, cells)


def _cost(rows: Sequence[Evaluation]) -> Table:
    def cells(row: Evaluation) -> list[str]:
        least, most = row.rounds
        seconds = [f"{row.seconds[phase]:.3f}" for phase in ("offline", "online")] if row.quiet else ["not quiet"] * 2
        return [
            f"{row.requests} of up to {row.batch}",
            str(row.longest),
            str(least) if least == most else f"{least} to {most}",
            f"{row.sent_bytes / 1e6:.2f}",
            f"{row.dealt_bytes / 1e6:.2f}",
            *seconds,
        ]

    titles = ["requests", "longest, tokens", "rounds of a request", "online, MB each way", "dealt, MB"]
    return [*_LEAD, *titles, "offline, s", "online, s"], _rows(rows, cells)


def _load(rows: Sequence[Evaluation]) -> list[str]:
    """Why seconds are left out."""
    if busy := [row.load for row in rows if not row.quiet]:
        return [f"Not quiet: the machine had other work before the run (load {min(busy):g} to {max(busy):g}).", ""]
    return []
