"""`mpcnet infer`: a client's texts in, its answers out."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from launch import client, settings
from launch.node import Node, open_node, peak_bytes, run
from launch.options import AnswerName, Audit, Config, Json, Model, check_folder, read_text, write_text
from launch.report import range_warning
from models.bert import AnswerKind
from models.prepare import checkpoint
from models.program import wanted_answer
from models.text import Tokens
from models.weights import fold
from mpcnet.errors import ChannelError, LocalConfigError, RemoteAbort

ANSWERED = "answered in"  # begins the line that tells of an answer


def infer_command(
    config: Config,
    texts: Annotated[list[str] | None, typer.Argument(help="Sentences.")] = None,
    model: Model = "demo",
    tokens: Annotated[Path | None, typer.Option(help="JSON batches of ids, types and mask, instead of texts.")] = None,
    answer: AnswerName = "logits",
    audit: Audit = False,
    attempts: Annotated[int, typer.Option(min=1, help="Ask so often, if a party is restarted in the midst.")] = 1,
    json_file: Json = "-",
) -> None:
    """Ask the two servers about a text, and put their shares of the answer together.

    --model names the tokenizer, and the public embedding table where the program leaves the lookup to the client.
    """
    check_folder(json_file)
    node = open_node(settings.read(config))
    wanted_answer(node.config, answer)
    batches = _token_batches(tokens) if tokens else [client.tokenise(node, model, texts or [])]
    table = fold(checkpoint(model)) if node.config.embedding == "client" else None
    raise typer.Exit(run(_ask_all(node, batches, table, (answer, audit), attempts, json_file), node, graceful=False))


def _token_batches(path: Path) -> list[Tokens]:
    try:
        rows = json.loads(read_text(path))
        batches = [Tokens(*(torch.tensor(row[name]) for name in ("ids", "types", "mask"))) for row in rows]
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        kind = type(error).__name__
        raise LocalConfigError(f"{path}: want JSON batches of ids, types and mask, got a file with a {kind}") from error
    if any(x.dtype != torch.int64 for tokens in batches for x in (tokens.ids, tokens.types, tokens.mask)):
        raise LocalConfigError(f"{path}: want whole numbers for ids, types and mask, got others")
    return batches


async def _ask_all(
    node: Node, batches: list[Tokens], table: client.Table, kind: tuple[AnswerKind, bool], attempts: int, target: str
) -> int:
    answers = []
    for tokens in batches:
        answer = await _ask(node, tokens, table, kind, attempts)
        if warning := range_warning(answer.outside or []):
            node.say(warning, "warning")
        labels = {"labels": answer.values.argmax(1).tolist()} if kind[0] == "label" else {}
        answers.append({**asdict(answer), "values": answer.values.tolist(), **labels, "peak_bytes": peak_bytes()})
        node.say(f"{ANSWERED} {answer.seconds_online:.2f} s, after {answer.seconds_offline:.2f} s offline")
    text = json.dumps(answers)
    if target == "-":
        print(text)
    else:
        await asyncio.to_thread(write_text, target, text)
    return 0


async def _ask(
    node: Node, tokens: Tokens, table: client.Table, kind: tuple[AnswerKind, bool], attempts: int
) -> client.Answer:
    """Each attempt is a request of its own, with fresh shares."""
    for left in range(attempts - 1, -1, -1):
        try:
            return await client.ask(node, tokens, table, *kind)
        except (ChannelError, RemoteAbort) as error:
            if not left:
                raise
            node.say(f"{error}; asking again ({left} attempt(s) left)", "warning")
    raise AssertionError("the last attempt returns or raises")
