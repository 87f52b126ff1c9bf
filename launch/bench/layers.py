"""`mpcnet bench layers`: the error behind each layer of the private model, and the operations that it comes from."""

from __future__ import annotations

import json
from typing import Annotated

import torch
import typer
from rich.table import Table

from mpcnet.launch.options import DEMO, Json, Model, SoftmaxName, SuiteName, TextFile
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen, warn
from mpcnet.launch.reporting.text_files import check_folder, write_text
from mpcnet.launch.requests.compare import check_one_row
from mpcnet.launch.simulate.localhost import DEFAULT_TEXTS
from mpcnet.models.private.layer_errors import EMBEDDING, LAYER, Report, measure
from mpcnet.models.private.oracle_trace import load_plain
from mpcnet.models.private.prepare import Prepared, prepare, random_tokens
from mpcnet.models.texts.inputs import texts_of
from mpcnet.models.texts.tokens import Text, Tokens, encode

RANDOM_SIZE = (2, 32)  # sentences and tokens for a model without a tokenizer


def layers_command(
    texts: Annotated[list[str] | None, typer.Argument(help="Sentences; three are built in.")] = None,
    file: TextFile = None,
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    json_file: Json = "",
) -> None:
    """Errors of the fixed-point oracle against the float model by layer, and what each operation adds to them.

    One process, and no protocol: the oracle is the private program on whole values, rounded to nearest.
    """
    check_folder(json_file)
    given: list[Text] = texts_of(file) if file is not None else [*(texts or DEFAULT_TEXTS)]
    with console.status("preparing the model") as status, torch.inference_mode():
        prepared = prepare(model, suite, softmax, say=status.update)
        check_one_row(prepared.config.shape)
        tokens = _tokens(prepared, given)
        status.update("measuring")
        found = measure(load_plain(prepared.config, prepared.folded), prepared.folded, tokens)
    warn(prepared)
    softmax = prepared.config.formats.softmax
    facts = {"model": model, "suite": suite, "softmax": softmax}
    text = json.dumps({"bench": "layers", **facts, "commit": report.commit(), **found.to_dict()})
    if json_file == "-":
        print(text)
        return
    if json_file:
        write_text(json_file, text)
    _show(found, f"{model}, {suite} suite, {softmax} softmax, {found.tokens} tokens")


def _tokens(prepared: Prepared, texts: list[Text]) -> Tokens:
    if prepared.random:
        return random_tokens(prepared.checkpoint, *RANDOM_SIZE)
    found = prepared.checkpoint
    return encode(found.source, texts, prepared.config.formats.longest, found.preprocessing, found.shape)


def _show(found: Report, what: str) -> None:
    out = screen()
    table = Table(title=f"errors of the normalised results of {what}, in units of 1e-4", title_justify="left")
    for column in ("layer", "largest", "of a", "mean", "from", *LAYER):
        table.add_column(column, justify="left" if column in ("layer", "from") else "right")
    for block in found.blocks:
        total = (f"{block.total.largest * 1e4:.1f}", f"{block.value:.2f}", f"{block.total.mean * 1e4:.2f}")
        added = [f"{block.added[name].largest * 1e4:.1f}" if name in block.added else "" for name in LAYER]
        table.add_row(block.name, *total, block.source, *added)
    out.print(table)
    first = ", ".join(f"{name} {found.blocks[0].added[name].largest * 1e4:.1f}" for name in EMBEDDING)
    out.print(f"Columns: the largest error that an operation adds to its layer's result. Embedding: {first}.")
    answers = Table(title="errors of the answers", title_justify="left")
    for column in ("operation, all layers", "largest", "1 - least cosine"):
        answers.add_column(column, justify="left" if column.startswith("operation") else "right")
    for name, answer in {"all": found.total, **found.answers}.items():
        answers.add_row(name, f"{answer.largest:.2e}", f"{1 - answer.cosine:.1e}")
    out.print(answers)
