"""`mpcnet evaluate` and `mpcnet ranges`: private accuracy on labelled data, and how data use the calibrated ranges."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation.examples import SPLIT, Choice, Given, choose, drawn
from mpcnet.launch.options import (
    DEMO,
    AnswerName,
    Batch,
    Calibration,
    Json,
    Model,
    NoAudit,
    PartyTimeout,
    SoftmaxName,
    SuiteName,
    TaskName,
    Threads,
    Where,
)
from mpcnet.launch.reporting import report as facts
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.launch.reporting.text_files import check_folder, emit
from mpcnet.launch.simulate.localhost import Options
from mpcnet.models.texts.inputs import given_at
from mpcnet.models.texts.tasks import TASKS

Data = Annotated[
    str, typer.Option(help="The folder of GLUE's folders (SST-2/dev.tsv, ...), or glue for the `datasets` library.")
]
Seed = Annotated[int, typer.Option(help="Of the drawing of examples.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results: JSON lines, a report of all of them, plots.")]


def evaluate_command(
    task: TaskName,
    data: Data,
    model: Model,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    answer: AnswerName = "logits",
    embedding: Where = "private",
    limit: Annotated[int, typer.Option(min=0, help="Examples for the float model and the oracle; 0: all.")] = 0,
    mpc_limit: Annotated[int, typer.Option(min=1, help="Examples of them to run privately, at most.")] = 256,
    seed: Seed = 0,
    batch: Batch = 16,
    threads: Threads = 1,
    timeout: PartyTimeout = 120.0,
    calibration: Calibration = None,
    no_audit: NoAudit = False,
    out: Out = None,
    json_file: Json = "",
) -> None:
    """Accuracy of a classifier on labelled examples: private, beside the float model and the fixed-point oracle.

    The examples are those of GLUE's dev set. All of them (or --limit) go through the float model and the oracle, and
    --mpc-limit of them through the real processes, over TLS. Examples of like length share a request.
    """
    from mpcnet.launch.evaluation import (  # transformers and plots: only who evaluates waits for them
        accuracy,
        report,
        results,
    )

    _check(out, json_file)
    options = Options(
        model, suite, softmax, embedding, batch=batch, threads=threads, timeout_s=timeout, calibration=calibration,
        answer=answer, audit=not no_audit,
    )  # fmt: skip
    found = accuracy.evaluate(Choice(task, data, limit, mpc_limit, seed), options, console)
    if out is not None:
        results.append(out, found)
        console.print(f"report: {report.write(out)}", soft_wrap=True)
    if json_file != "-":
        facts.show(screen(), found.name, report.facts(found))
    emit(asdict(found), json_file)


def ranges_command(
    model: Model = DEMO,
    task: Annotated[str, typer.Option("--task", help=f"One of {', '.join(TASKS)}, with --data.")] = "",
    data: Annotated[str, typer.Option(help="As that of mpcnet evaluate.")] = "",
    file: Annotated[Path | None, typer.Option(help="Texts of your own, one a line; or a folder of images.")] = None,
    softmax: SoftmaxName = None,
    limit: Annotated[int, typer.Option(min=0, help="Texts; 0: all.")] = 0,
    seed: Seed = 0,
    calibration: Calibration = None,
    out: Out = None,
    json_file: Json = "",
) -> None:
    """How texts use a model's calibrated ranges: which leave them, by how much, and which pass a limit.

    The plaintext model runs here on each text, one after the other. A private run whose values pass a limit may give a
    wrong answer, which the audit flags: look at texts like yours beforehand.
    """
    from mpcnet.launch.evaluation import ranges, ranges_report

    _check(out, json_file)
    given = _given(task, data, file, limit, seed)
    found = ranges.find(given, model, softmax, calibration, console)
    alike = ranges_report.alike(found, model)
    if out is not None:
        ranges.append(out, found)
        console.print(f"report: {ranges_report.write(out)}", soft_wrap=True)
    if json_file != "-":
        shown = screen()
        shown.print(ranges_report.shown(found))
        shown.print(ranges_report.verdict(found).replace("**", ""))
        shown.print(f"Are these texts like those of the calibration? {alike}.", soft_wrap=True)
    emit(asdict(found) | {"alike": alike}, json_file)


def _check(out: Path | None, json_file: str) -> None:
    """Find out before the work, not after it, whether the results can be written."""
    check_folder(json_file)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalConfigError(f"{out}: want a folder, cannot make it: {error.strerror}") from error


def _given(task: str, data: str, file: Path | None, limit: int, seed: int) -> Given:
    """Texts of a file, or of a task's data."""
    if (file is None) == (not task or not data):
        raise LocalConfigError("ranges: want --file, or --task and --data, got both or neither")
    if file is None:
        chosen = choose(Choice(task, data, limit, 1, seed))
        return Given(f"{task} {SPLIT}", chosen.texts)
    lines = given_at(file)
    return Given(file.name, [lines[row] for row in drawn(len(lines), limit, seed)])
