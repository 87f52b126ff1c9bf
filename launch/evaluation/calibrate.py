"""`mpcnet calibrate`: the ranges of a model's values measured anew, on the user's texts beside the built-in ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from mpcnet.errors import LocalConfigError
from mpcnet.launch.options import DEMO, Json, Model
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen, warn_of
from mpcnet.launch.reporting.text_files import check_folder, emit
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.formats import calibrated
from mpcnet.models.formats.calibrated import Kept, Widened
from mpcnet.models.private.own_calibration import keep, length_of, with_texts
from mpcnet.models.private.prepare import checkpoint
from mpcnet.models.texts.inputs import given_at

SHOWN = 12  # rows of the table


def calibrate_command(
    model: Model = DEMO,
    file: Annotated[
        Path | None,
        typer.Option("--texts", "--calibrate-on", help="A file of texts like yours, or a folder of images."),
    ] = None,
    length: Annotated[
        int, typer.Option(min=0, help="Tokens of the longest text to calibrate for; 0: all that the model reads.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write this file, for --calibration; without, all commands find the result.")
    ] = None,
    json_file: Json = "",
) -> None:
    """Measure the ranges of a model's values on built-in texts and on yours, so that none of them leaves its range.

    Later commands use the result for these weights. It goes into your cache, or into --out, and holds no text.
    """
    check_folder(json_file)
    check_folder(str(out or ""))
    texts = [] if file is None else given_at(file)
    with console.status(f"loading {model}") as status, torch.inference_mode():
        found = checkpoint(model)
        before = _before(found, length_of(found, length), out)
        after = with_texts(found, texts, length, status.update)
    after = _write(found, after, out, asked=bool(texts or length))
    softmax = found.softmax or "exact"
    wider = calibrated.widened(before.calibration, after.calibration, softmax) if before else []
    emit(_document(model, before, after, wider), json_file)
    if json_file != "-":
        _show(model, before, after, wider)


def _before(found: Checkpoint, longest: int, out: Path | None) -> Kept | None:
    """The calibration that is there already: of the file that is to be written, else what commands use now."""
    try:
        if out is not None:
            return calibrated.read(out, found.sha256)
        if own := calibrated.own(found):
            return own
    except LocalConfigError:  # none, or of other weights or another version: nothing to compare with
        if out is not None:
            return None
    return calibrated.built_in(found, longest)


def _write(found: Checkpoint, kept: Kept, out: Path | None, *, asked: bool) -> Kept:
    """Put the result where it is to be. Without texts and length of the user's, the built-in calibration counts again.

    :raises LocalConfigError: it cannot be written.
    """
    if out is not None:
        return calibrated.write(kept, out)
    if asked:
        return keep(found, kept)
    (calibrated.folder(found) / calibrated.OWN).unlink(missing_ok=True)
    return kept


def _document(model: str, before: Kept | None, after: Kept, wider: Sequence[Widened]) -> dict[str, Any]:
    return {
        "model": model,
        "calibration": str(after.path),
        "weights_sha256": after.calibration.weights_sha256,
        "rows": after.calibration.sentences,
        "tokens": after.calibration.tokens,
        **asdict(after.coverage),
        "compared": before is not None,
        "widened": [asdict(each) for each in wider],
    }


def _show(model: str, before: Kept | None, after: Kept, wider: Sequence[Widened]) -> None:
    out = screen()
    if wider:
        table = Table(title=f"ranges wider than before: {len(wider)}, the widest first", title_justify="left")
        for column in ("site", "before", "now", "times"):
            table.add_column(column, justify="left" if column == "site" else "right")
        for each in wider[:SHOWN]:
            ranges = (f"{low:.4g} to {high:.4g}" for low, high in (each.before, each.after))
            table.add_row(each.site, *ranges, f"{each.factor:.3f}")
        out.print(table)
    report.show(out, f"calibration of {model}", {
        "rows": f"{after.calibration.sentences}, {after.coverage.own} of yours; up to {after.coverage.longest} tokens",
        "wider than before": len(wider) if before else "there was none of these weights",
        "stored in": after.path,
    })  # fmt: skip
    if wider:
        warn_of("programs that were made before (mpcnet init) keep their ranges: make them again", console)
