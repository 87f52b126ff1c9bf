"""`mpcnet plan`: what an inference costs, before it runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mpcnet.launch.api.planning import PLANNED, plan_of
from mpcnet.launch.options import (
    DEMO,
    AnswerName,
    Batch,
    CalibrateOn,
    Calibration,
    Dim,
    Model,
    NoAudit,
    PrintJson,
    SoftmaxName,
    SuiteName,
    Where,
    calibrate_first,
)
from mpcnet.launch.reporting import formats, report
from mpcnet.launch.reporting.screen import console, screen, warn
from mpcnet.models.private.prepare import asked_length, prepare
from mpcnet.models.private.program import Size, extent_of, wanted_answer


def plan_command(
    model: Model = DEMO,
    length: Annotated[int, typer.Option(min=0, help="Tokens of a sentence; 0: 128, or of an image all its rows.")] = 0,
    batch: Batch = 1,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    embedding: Where = "private",
    calibration: Calibration = None,
    calibrate_on: CalibrateOn = None,
    answer: AnswerName = "logits",
    dim: Dim = None,
    masks: Annotated[int | None, typer.Option(min=1, help="Of a model that fills masks: how many in a text.")] = None,
    no_audit: NoAudit = False,
    as_json: PrintJson = False,
) -> None:
    """The static cost of an inference: rounds, bytes and memory, from shapes alone. A run measures the same."""
    calibrate_first(model, calibrate_on, calibration)
    with console.status("preparing") as status:
        prepared = prepare(model, suite, softmax, length, calibration, embedding, status.update, usual=PLANNED)
        length, extent = asked_length(prepared.config.shape, length, PLANNED), extent_of(prepared.config, dim, masks)
        size = Size(batch, length, wanted_answer(prepared.config, answer), not no_audit, extent)
        document = plan_of(prepared, model, size).to_dict()
    warn(prepared)
    if as_json:
        print(json.dumps(document))
        return
    out = screen()
    loading, rows = document["load"], "tokens" if prepared.config.shape.image is None else "rows of an image"
    title = f"planned cost: {model}, {batch} x {length} {rows}, {suite} suite, {document['softmax']} softmax"
    out.print(report.table(document["operations"], title))
    report.show(out, "totals", {
        "rounds": document["rounds"],
        "online, one server": f"{document['sent_bytes'] / 1e6:.2f} MB each way",
        "offline, dealer to each": " and ".join(f"{value / 1e6:.1f} MB" for value in document["dealt_bytes"]),
        "corrections buffered": report.buffer_line(document["buffer"]),
        "a server's arrays at their peak": f"{document['peak_bytes'] / 1e6:.0f} MB, with its corrections",
        "loading the weights, once": f"{loading['rounds']} rounds, {loading['sent_bytes'] / 1e6:.1f} MB each way",
        **({"note": "random weights: for cost and time only"} if prepared.random else {}),
    })  # fmt: skip
    out.print(formats.table(formats.known(prepared)))
