"""`mpcnet simulate`: the options, and what is shown of the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from mpcnet.errors import LocalInputError
from mpcnet.launch.options import (
    DEMO,
    Accept,
    AggregationName,
    AnswerLength,
    AnswerName,
    Batch,
    BlankName,
    CalibrateOn,
    Calibration,
    Device,
    Dim,
    FormatName,
    Images,
    Impossible,
    Json,
    Model,
    Net,
    NoAudit,
    Paired,
    PairFile,
    PartyTimeout,
    Query,
    Question,
    SoftmaxName,
    Streams,
    SuiteName,
    TextFile,
    Threads,
    Top,
    Where,
    calibrate_first,
)
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.launch.reporting.text_files import check_folder, emit
from mpcnet.launch.requests import answers
from mpcnet.launch.requests.asked import listed
from mpcnet.launch.requests.view import Choices
from mpcnet.launch.simulate.localhost import DEFAULT_TEXTS, REVIEWS, Options, Outcome, simulate_each
from mpcnet.models.private.prepare import BUILTIN
from mpcnet.models.texts.inputs import entries

PHASES = ("upload", "offline", "online", "total")


def simulate_command(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; three are built in.")] = None,
    file: TextFile = None,
    pairs: PairFile = None,
    form: FormatName = None,
    blank: BlankName = "error",
    task: Annotated[
        Literal["sentiment"] | None, typer.Option(help="Classify with the model for it that comes with this package.")
    ] = None,
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    embedding: Where = "private",
    net: Net = "none",
    batch: Batch = 8,
    length: Annotated[int, typer.Option(min=0, help="Pad every sentence to so many tokens; 0: to the longest.")] = 0,
    threads: Threads = 1,
    streams: Streams = 1,
    timeout: PartyTimeout = 120.0,
    calibration: Calibration = None,
    calibrate_on: CalibrateOn = None,
    keep: Annotated[Path | None, typer.Option(help="Keep keys, settings and logs in this new folder.")] = None,
    answer: AnswerName = "logits",
    no_audit: NoAudit = False,
    accept: Accept = False,
    paired: Paired = False,
    question: Question = None,
    query: Query = None,
    aggregation: AggregationName = None,
    max_answer_len: AnswerLength = None,
    impossible: Impossible = None,
    dim: Dim = None,
    top: Top = None,
    images: Images = None,
    device: Device = "cpu",
    json_file: Json = "",
) -> None:
    """Run all parties as processes of this machine, over TLS, and compare with the published model.

    Exit code 1 if an answer is another one than transformers' (sentence-transformers', where that is installed), and 65
    if a text could not be answered.
    """
    check_folder(json_file)
    if task is not None:
        model = f"{BUILTIN}{task}"
    built_in = not (texts or file or pairs or images)
    if built_in:
        texts = list(DEFAULT_TEXTS if task is None else REVIEWS)
    chosen = Options(
        model, suite, softmax, embedding, net, batch, length, threads, streams, timeout, calibration, keep,
        answer, not no_audit, device, accept, blank,
        Choices(question, query, aggregation, max_answer_len, impossible, dim, top),
    )  # fmt: skip
    calibrate_first(model, calibrate_on, calibration)
    given = entries(texts or [], file, pairs, form, paired=paired, images=images or ())
    outcome = simulate_each(given, chosen, console, built_in=built_in)
    emit(outcome.document, json_file)
    if json_file != "-":
        _show(outcome)
    _verdict(outcome)


def _verdict(outcome: Outcome) -> None:
    """Say what is not right, and end with an exit code that says so too."""
    document = outcome.document
    if wrong := document["wrong"]:
        console.print(
            f"[bold red]mpcnet[/bold red]  {listed(wrong)}: want the answers of {escape(document['compared_with'])}, "
            f"got other ones{_off_by(document)}, in {len(wrong)} of {document['sentences']} texts", soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(1)
    errors = [row["error"] for row in document["answers"] if "error" in row]
    if errors:
        console.print(f"[bold red]mpcnet[/bold red]  {escape(listed(errors, '; '))}", soft_wrap=True)
        raise typer.Exit(LocalInputError.exit_code)


def _off_by(document: Mapping[str, Any]) -> str:
    error = document.get("max_abs_error")
    return "" if error is None else f" (largest error {error:.3g})"


def _show(outcome: Outcome) -> None:
    """Answers beside the plaintext model's, the cost by operation, and the totals."""
    out, document = screen(), outcome.document
    if outcome.prepared.random:
        out.print("[yellow]random weights: the cost and the time are real, the answer means nothing[/yellow]")
    names = [entry.text or "" for entry in outcome.asked.entries] if outcome.asked else ["random tokens"]
    out.print(answers.table(names, document, outcome.private, outcome.plain))
    out.print(report.table(outcome.operations, "cost by operation, server0, measured (equal to the plan)"))
    report.show(out, "totals", {
        "model": "{model}, {suite} suite, {softmax} softmax, net {net}".format(**document),
        "weights": outcome.prepared.checkpoint.origin,
        "sentences": f"{document['sentences']} in {len(document['requests'])} request(s)",
        "rounds": document["rounds"],
        "online, one server": f"{document['sent_bytes'] / 1e6:.1f} MB each way",
        "offline, dealer to each": " and ".join(f"{value / 1e6:.1f} MB" for value in document["dealt_bytes"]),
        "seconds": ", ".join(f"{phase} {document[f'seconds_{phase}']:.2f}" for phase in PHASES),
        "peak memory": ", ".join(f"{role} {value / 1e6:.0f} MB" for role, value in document["peaks"].items()),
        f"beside {document['compared_with']}": answers.nearness(document),
        **(
            {f"beside {other['by']}, as published": answers.nearness(other)}
            if (other := document.get("published"))
            else {}
        ),
        "audit": (
            f"{sum(document['out_of_range'])} text(s) with a value out of range"
            if document["audit"]
            else "none asked for"
        ),
        "machine": "{machine}, kernels {kernels}, at {commit}".format(**document),
    })  # fmt: skip
