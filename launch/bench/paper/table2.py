"""Table 2: how much of its teacher each kind of student keeps, on GLUE's dev sets, beside the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from mpcnet.launch.bench.paper.glue_runs import (
    LABELS_ONLY,
    MPCFORMER,
    ROWS,
    SECFORMER,
    TEACHER,
    GlueRun,
)
from mpcnet.launch.reporting import jsonlines, markdown
from mpcnet.models.texts.tasks import TASKS

MARKDOWN, LINES = "table2.md", "table2.jsonl"
# Luo et al., "SecFormer", ACL Findings 2024, Table 2: BERT-base
PAPER: Mapping[str, Mapping[str, float]] = {
    TEACHER: {"qnli": 91.7, "cola": 57.8, "sts-b": 89.1, "mrpc": 90.3, "rte": 69.7},
    MPCFORMER: {"qnli": 90.6, "cola": 52.6, "sts-b": 80.3, "mrpc": 88.7, "rte": 64.9},
    LABELS_ONLY: {"qnli": 89.3, "cola": 57.0, "sts-b": 86.2, "mrpc": 83.8, "rte": 63.2},  # there "w/o distillation"
    SECFORMER: {"qnli": 91.2, "cola": 57.1, "sts-b": 87.4, "mrpc": 89.2, "rte": 69.0},
}
Table: TypeAlias = tuple[list[str], list[list[str]]]  # columns, and rows of cells
Cells: TypeAlias = dict[tuple[str, str], list[GlueRun]]  # by row and task, a run for each seed


def cells(runs: Sequence[GlueRun]) -> dict[str, Cells]:
    """The runs of each model by row and task."""
    found: dict[str, Cells] = {}
    for run in runs:
        found.setdefault(run.model, {}).setdefault((run.row, run.task.name), []).append(run)
    return found


def kept(mine: Sequence[GlueRun], teachers: Sequence[GlueRun]) -> float | None:
    """The mean over seeds of a student's score over that of the same seed's teacher; None without a pair."""
    by_seed = {run.seed: run.score for run in teachers}
    shares = [run.score / by_seed[run.seed] for run in mine if by_seed.get(run.seed, 0.0) > 0]
    return statistics.fmean(shares) if shares else None


def lines(runs: Sequence[GlueRun]) -> list[dict[str, Any]]:
    """A JSON object for each cell."""
    rows = []
    for model, table in cells(runs).items():
        for (row, task), found in table.items():
            scores = [run.score for run in found]
            rows.append(
                {
                    "table": 2, "model": model, "row": row, "task": task, "metric": TASKS[task].headline,
                    "seeds": [run.seed for run in found], "dev": scores, "mean": statistics.fmean(scores),
                    "deviation": statistics.stdev(scores) if len(scores) > 1 else None,
                    "kept": kept(found, table.get((TEACHER, task), [])),
                    "paper": PAPER.get(row, {}).get(task), "stages": sorted({run.stages for run in found}),
                    "settled": [run.settled for run in found],
                    "evaluations": [_evaluated(run) for run in found if run.evaluations],
                }
            )  # fmt: skip
    return rows


def _evaluated(run: GlueRun) -> dict[str, Any]:
    """What a run's model did through the protocol, without single outputs."""
    keep = ("suite", "softmax", "answer", "n", "private_n", "scores", "private_scores", "out_of_range", "commit")
    rows = [{key: value for key, value in asdict(row).items() if key in keep} for row in run.evaluations]
    return {"seed": run.seed, "rows": rows}


def tables(runs: Sequence[GlueRun]) -> dict[str, Table]:
    """The scores of each model and the paper's by their titles: columns, and rows of cells."""
    return {model: _scores(table) for model, table in cells(runs).items()} | {"BERT-base, as published": _published()}


def compose(runs: Sequence[GlueRun]) -> str:
    """All tables in Markdown."""
    text = ["# Table 2: GLUE, this project's models beside the paper's", "", METHOD, ""]
    for title, shown in tables(runs).items():
        text += [f"## {title}", "", *markdown.table(*shown, left=1), ""]
    text += [f"* {model}: {claim}" for model, table in cells(runs).items() if (claim := _claim(table))]
    text += ["", "## Training", "", *markdown.table(*_training(runs), left=4), ""]
    if any(run.evaluations for run in runs):
        text += ["## Through the protocol", "", *markdown.table(*_private(runs), left=5), ""]
    return "\n".join(text)


METHOD = (
    "Scores are GLUE's headline metrics times 100 (CoLA Matthews, MRPC F1, STS-B Pearson, others accuracy) of the "
    "float model on all of dev: the mean over seeds, the sample standard deviation, and in brackets how many seeds. "
    "Kept is a student's score over its own teacher's. It and the average are over the tasks that all rows have."
)


def write(runs: Sequence[GlueRun], out: Path) -> Path:
    """Markdown and JSON lines into a folder; returns the path of the former.

    :raises LocalConfigError: it cannot be written.
    """
    (out / LINES).unlink(missing_ok=True)
    for row in lines(runs):
        jsonlines.append(out / LINES, row)
    return markdown.write(out / MARKDOWN, compose(runs))


def _tasks(table: Mapping[tuple[str, str], Any]) -> list[str]:
    return [task for task in TASKS if any(task == name for _, name in table)]


def _scores(table: Cells) -> Table:
    tasks, rows = _tasks(table), [row for row in ROWS if any(row == name for name, _ in table)]
    common = [task for task in tasks if all((row, task) in table for row in rows)]
    shown = []
    for row in rows:
        shares = [kept(table[row, task], table.get((TEACHER, task), [])) for task in common]
        found = [table[row, task] for task in common]
        shown.append([row, *(_mean(table.get((row, task), [])) for task in tasks), _average(found), _kept(shares)])
    return ["model", *tasks, "average", "kept"], shown


def _mean(runs: Sequence[GlueRun]) -> str:
    scores = [100 * run.score for run in runs]
    if not scores:
        return ""
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.1f}{spread} ({len(scores)})"


def _average(found: Sequence[Sequence[GlueRun]]) -> str:
    if not found:
        return ""
    return f"{100 * statistics.fmean(_average_of(runs) for runs in found):.1f}"


def _kept(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{100 * statistics.fmean(known):.1f}%" if known and len(known) == len(shares) else ""


def _claim(table: Cells) -> str:
    """The paper's claim: SecFormer's student less MPCFormer's, on the tasks that both have here."""
    tasks = [task for task in _tasks(table) if (SECFORMER, task) in table and (MPCFORMER, task) in table]
    if not tasks:
        return ""
    gains = [_average_of(table[SECFORMER, task]) - _average_of(table[MPCFORMER, task]) for task in tasks]
    each = ", ".join(f"{task} {100 * gain:+.1f}" for task, gain in zip(tasks, gains, strict=True))
    return f"SecFormer's student less MPCFormer's: {100 * statistics.fmean(gains):+.1f} points ({each})."


def _average_of(runs: Sequence[GlueRun]) -> float:
    return statistics.fmean(run.score for run in runs)


def _published() -> Table:
    tasks = ["qnli", "cola", "sts-b", "mrpc", "rte"]
    rows = [
        [row, *(f"{PAPER[row][task]:.1f}" for task in tasks), f"{statistics.fmean(PAPER[row].values()):.1f}",
         _kept([PAPER[row][task] / PAPER[TEACHER][task] for task in tasks])]
        for row in ROWS if row in PAPER
    ]  # fmt: skip
    return ["model", *tasks, "average", "kept"], rows


def _training(runs: Sequence[GlueRun]) -> Table:
    def row(run: GlueRun) -> list[str]:
        change = "" if run.settled is None else f"{100 * run.settled:+.0f}%"
        return [run.task.name, run.row, run.model, run.stages, str(run.seed), str(run.examples), change]

    titles = ["task", "model", "network", "stages: epochs at rate", "seed", "examples", "loss in its last epoch"]
    return titles, [row(run) for run in runs]


def _private(runs: Sequence[GlueRun]) -> Table:
    rows = []
    for run in runs:
        for found in run.evaluations:
            head = found.headline
            same = found.differences["private-float"].same
            rows.append(
                [run.task.name, run.row, run.model, str(run.seed), found.how, str(found.n)]
                + [f"{100 * found.scores[way][head]:.2f}" for way in ("float", "oracle")]
                + [str(found.private_n)]
                + [f"{100 * found.private_scores[way][head]:.2f}" for way in ("float", "oracle", "private")]
                + ["" if same is None else f"{round(same * found.private_n)} of {found.private_n}"]
            )
    titles = ["task", "model", "network", "seed", "program", "n", "float", "oracle"]
    return [*titles, "private n", "float", "oracle", "private", "same label"], rows
