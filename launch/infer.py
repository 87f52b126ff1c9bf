"""`mpcnet infer`: a client's texts in, its answers out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.api.session import Session
from mpcnet.launch.deployment import settings
from mpcnet.launch.options import (
    MODELS,
    Accept,
    AggregationName,
    AnswerLength,
    AnswerName,
    Batch,
    BlankName,
    Config,
    Dim,
    FormatName,
    Images,
    Impossible,
    Json,
    NoAudit,
    Paired,
    PairFile,
    Query,
    Question,
    TextFile,
    Top,
)
from mpcnet.launch.party import client
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.client_model import Table, public_table, reader
from mpcnet.launch.party.node import Node, open_node, peak_bytes, run
from mpcnet.launch.reporting.text_files import check_folder, read_text, write_text
from mpcnet.launch.requests import answers, asked
from mpcnet.launch.requests.asked import Asked
from mpcnet.launch.requests.view import VIEW, Choices, View
from mpcnet.launch.undumpable import protect_memory
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.private.program import extent_of, wanted_answer
from mpcnet.models.texts.inputs import entries
from mpcnet.models.texts.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to ask: what for, audited or not, how often, and whether to show answers that are out of range."""

    answer: AnswerKind
    audit: bool
    accept: bool
    attempts: int
    view: View = VIEW
    extent: int = 0
    ranking: bool = False
    wait_s: float = client.WAIT_S


def infer_command(
    config: Config,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts.")] = None,
    file: TextFile = None,
    pairs: PairFile = None,
    form: FormatName = None,
    blank: BlankName = "error",
    model: Annotated[
        str | None,
        typer.Option(help=f"Take the tokenizer, and a public embedding table, from here: {MODELS}."),
    ] = None,
    tokens: Annotated[Path | None, typer.Option(help="JSON batches of ids, types and mask, instead of texts.")] = None,
    batch: Batch = 8,
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
    attempts: Annotated[int, typer.Option(min=1, help="Ask so often, if a party is restarted in the midst.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each request may take, waiting included.")] = (
        client.WAIT_S
    ),
    json_file: Json = "-",
) -> None:
    """Ask the two servers about texts or images, and put their shares of the answers together.

    The tokenizer is the one beside --config, in tokenizer/, or --model's if that is the same. Prints JSON: one entry of
    `answers` for each text, an error in the place of one that cannot be answered (exit code 65), and what it cost.
    """
    protect_memory()
    check_folder(json_file)
    node = open_node(settings.read(config))
    choices = Choices(question, query, aggregation, max_answer_len, impossible, dim, top)
    view = choices.view(node.config.shape)
    extent, ranking = extent_of(node.config, dim), query is not None
    kind = wanted_answer(node.config, answer)
    wanted = Wanted(kind, not no_audit, accept, attempts, view, extent, ranking, timeout)
    if tokens is not None:
        if texts or file or pairs or images:
            raise LocalInputError("texts: want texts or --tokens, got both")
        batches = _token_batches(tokens)
        table = public_table(node, model)
        raise typer.Exit(run(_ask_tokens(node, batches, table, wanted, json_file), node, graceful=False))
    given = asked.asking(entries(texts or [], file, pairs, form, paired=paired, images=images or ()), choices.first)
    found = asked.ask(given, reader(node, model), blank)
    for line in filter(None, (found.refused(), found.cuts())):
        node.say(line, "warning")
    table = public_table(node, model)
    raise typer.Exit(run(_ask_texts(node, found, table, wanted, batch, json_file), node, graceful=False))


def _token_batches(path: Path) -> list[Tokens]:
    try:
        rows = checked_json.parse(read_text(path))
        batches = [Tokens(*(torch.tensor(row[name]) for name in ("ids", "types", "mask"))) for row in rows]
    except (RuntimeError, *MALFORMED) as error:
        kind = type(error).__name__
        raise LocalConfigError(f"{path}: want JSON batches of ids, types and mask, got a file with a {kind}") from error
    if any(x.dtype != torch.int64 for tokens in batches for x in (tokens.ids, tokens.types, tokens.mask)):
        raise LocalConfigError(f"{path}: want whole numbers for ids, types and mask, got others")
    return batches


async def _ask_texts(node: Node, found: Asked, table: Table, wanted: Wanted, size: int, target: str) -> int:
    """One entry for each text, in its place."""
    where, known = [found.entries[place].where for place in found.good], found.known
    given: list[dict[str, Any]] = []
    costs = []
    async with Session(node, table, attempts=wanted.attempts) as session:
        for tokens in found.batches(size):
            for answer in await session.ask_all(tokens, wanted.answer, wanted.audit, wanted.wait_s, wanted.extent):
                _say(node, answer)
                out_of_range = answer.out_of_range or [False] * len(answer.values)
                chosen = slice(len(given), len(given) + len(out_of_range))
                names = where[chosen]
                _warn(node, [name for name, left in zip(names, out_of_range, strict=True) if left], wanted)
                given += [
                    answers.guarded(
                        answers.entry(node.config, wanted.answer, values, about, wanted.view), left, name, wanted.accept
                    )
                    for values, left, name, about in zip(answer.values, out_of_range, names, known[chosen], strict=True)
                ]
                costs.append(_cost(answer))
    rows = found.in_place(given)
    document = {"answers": answers.ranked(rows) if wanted.ranking else rows, "requests": costs}
    await _write(target, document)
    return LocalInputError.exit_code if any("error" in entry for entry in document["answers"]) else 0


async def _ask_tokens(node: Node, batches: Sequence[Tokens], table: Table, wanted: Wanted, target: str) -> int:
    """One document for each batch; null in the place of an answer out of range."""
    documents, code = [], 0
    async with Session(node, table, attempts=wanted.attempts) as session:
        for number, tokens in enumerate(batches, 1):
            answer = await session.ask(tokens, wanted.answer, wanted.audit, wanted.wait_s, wanted.extent)
            _say(node, answer)
            out_of_range = answer.out_of_range or [False] * len(tokens.ids)
            names = [f"batch {number}, row {row}" for row, left in enumerate(out_of_range, 1) if left]
            _warn(node, names, wanted)
            hidden = [left and not wanted.accept for left in out_of_range]
            values = [None if hide else row for hide, row in zip(hidden, answer.values.tolist(), strict=True)]
            labels = [None if row is None else torch.tensor(row).argmax(-1).tolist() for row in values]
            more = {"labels": labels} if wanted.answer == "label" else {}
            documents.append({"values": values, "out_of_range": answer.out_of_range, **more, **_cost(answer)})
            code = LocalInputError.exit_code if any(hidden) else code
    await _write(target, documents)
    return code


def _warn(node: Node, names: Sequence[str], wanted: Wanted) -> None:
    if text := answers.warning(names, wanted.accept):
        node.say(text, "warning")


def _cost(answer: Answer) -> dict[str, Any]:
    phases = ("upload", "queued", "offline", "online")
    return {
        "reports": answer.reports,
        **{f"seconds_{phase}": getattr(answer, f"seconds_{phase}") for phase in phases},
        "peak_bytes": peak_bytes(),
    }


async def _write(target: str, document: Any) -> None:
    text = json.dumps(document)
    if target == "-":
        print(text)
    else:
        await asyncio.to_thread(write_text, target, text)


def _say(node: Node, answer: Answer) -> None:
    node.say(f"answered in {answer.seconds_online:.2f} s, after {answer.seconds_offline:.2f} s offline")
