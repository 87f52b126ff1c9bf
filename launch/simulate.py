"""The localhost simulation: five processes over TLS, and the plaintext model beside their answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from launch import report
from launch.answers import by_label
from launch.infer import ANSWERED
from launch.network import Loopback, Network
from launch.options import warn, warn_of
from launch.processes import Deployment, deployment
from models import reference
from models.bert import AnswerKind, Embedding
from models.prepare import Prepared, prepare, random_tokens
from models.program import Plans, Size, wanted_answer
from models.shape import Softmax
from models.text import Text, Tokens, encode
from mpcnet import accelerator
from mpcnet.errors import LocalInputError, MpcError
from mpcnet.latency import parse_link
from mpcnet.ledger import overlapped
from mpcnet.native import library

DEFAULT_TEXTS = (
    "The new phone takes wonderful pictures in the dark.",
    "Photos made at night with this handset look great.",
    "The council will vote on the budget next Tuesday.",
)
REVIEWS = (
    "A warm, funny and beautifully acted film.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, yet the cast makes it a pleasure to watch.",
)


EACH = ("rounds", "sent_bytes", "compute_s", "wait_s", "cpu_offline_s", "cpu_online_s")  # of a server's report


class PlanMissed(MpcError):
    """The measured cost is not the planned one: a bug, never to be hidden."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to simulate, and how."""

    model: str = "demo"
    suite: str = "fast"
    softmax: Softmax | None = None  # the checkpoint's own
    embedding: Embedding = "private"
    net: str = "none"
    batch: int = 8
    length: int = 0
    threads: int = 1
    streams: int = 1
    timeout_s: float = 120.0
    calibration: Path | None = None
    keep: Path | None = None
    answer: AnswerKind = "logits"
    audit: bool = False
    device: str = "cpu"


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """Private and plaintext results, [sentences, columns], of labels one-hot, and the cost of all requests together."""

    prepared: Prepared
    private: Tensor
    plain: Tensor
    document: dict[str, Any]
    operations: list[dict[str, Any]]


def simulate(texts: Sequence[Text], options: Options, console: Console, network: Network | None = None) -> Outcome:
    """Run the whole thing, on `network` if one is given: `options.net` then only names the link.

    :raises LocalInputError: a text is empty or too long, or the model has no such answer.
    :raises LocalConfigError: the device is not there.
    :raises PartyFailed: a process ended early.
    :raises PlanMissed: the measured rounds or bytes differ from the plan.
    """
    parse_link(options.net)
    accelerator.describe(options.device)  # it is there
    with console.status("preparing the model") as status:
        prepared = prepare(
            options.model, options.suite, options.softmax, options.length or 1, options.calibration,
            options.embedding, status.update,
        )  # fmt: skip
        wanted_answer(prepared.config, options.answer)
        batches = _batches(prepared, texts, options)
    warn(prepared, console)
    if library.best() < 0:
        warn_of(library.MISSING, console)
    return run(prepared, batches, options, console, network)


def run(
    prepared: Prepared,
    batches: Sequence[Tokens],
    options: Options,
    console: Console,
    network: Network | None = None,
) -> Outcome:
    """Batches of tokens, a request each, through the real processes of a prepared model.

    :raises PartyFailed: a process ended early.
    :raises PlanMissed: the measured rounds or bytes differ from the plan.
    """
    network = network or Loopback(options.net)
    with deployment(
        prepared.config,
        network,
        options.threads,
        options.timeout_s,
        options.keep,
        streams=options.streams,
        device=options.device,
    ) as made:
        start = time.perf_counter()
        answers = _run(made, prepared, batches, options, console)
        seconds = time.perf_counter() - start
    private = torch.cat([torch.tensor(answer["values"], dtype=torch.float64) for answer in answers])
    with console.status("running the plaintext model"):
        plain = torch.cat([plain_answer(prepared, tokens) for tokens in batches])
        if options.answer == "label":
            plain = torch.nn.functional.one_hot(plain.argmax(1), plain.shape[1]).double()
    operations, totals = _combine(answers)
    with console.status("checking the measured cost against the plan"):
        _check_plan(prepared, answers)
    document = {
        **totals,
        **(_accuracy(private, plain) if options.answer == "logits" else _agreement(prepared, private, plain)),
        **_facts(prepared, options),
        "network": network.name,
        "seconds_run": seconds,
        "outside": [left for answer in answers for left in answer["outside"]] if options.audit else None,
    }
    if options.answer == "logits" and (names := prepared.checkpoint.labels) and len(names) > 1:
        document["answers"] = by_label(names, private, plain)
    document["operations"] = operations
    return Outcome(prepared, private, plain, document, operations)


def _batches(prepared: Prepared, texts: Sequence[Text], options: Options) -> list[Tokens]:
    """Texts as token batches of one length each: neighbours share a batch, padded to its longest."""
    if not texts:
        raise LocalInputError("simulate: want at least one text, got none")
    limit = options.length or prepared.config.numbers.longest
    groups = [texts[start : start + options.batch] for start in range(0, len(texts), options.batch)]
    if prepared.random:  # without a tokenizer: as many random sentences
        length = min(options.length or 128, prepared.config.numbers.longest)
        return [random_tokens(prepared.checkpoint, len(group), length) for group in groups]
    batches = []
    for group in groups:
        tokens = encode(prepared.checkpoint.source, group, limit)
        spare = (options.length or tokens.ids.shape[1]) - tokens.ids.shape[1]
        batches.append(
            Tokens(*(torch.nn.functional.pad(x, (0, spare)) for x in (tokens.ids, tokens.types, tokens.mask)))
        )
    return batches


def _run(
    made: Deployment, prepared: Prepared, batches: Sequence[Tokens], options: Options, console: Console
) -> list[dict[str, Any]]:
    """Start the processes, and collect what the client got."""
    with console.status("server0, server1, dealer: starting") as status:
        made.start("dealer", "dealer")
        for role in ("server0", "server1"):
            made.start(role, "party")
        status.update("owner: sharing the weights")
        made.start("owner", "serve-model", "--once", "--model", options.model)
        made.wait(["owner"])
        asked, told = made.folder / "client" / "tokens.json", made.folder / "client" / "answers.json"
        asked.write_text(
            json.dumps([{name: getattr(b, name).tolist() for name in ("ids", "types", "mask")} for b in batches])
        )
        asking = f"client: {len(batches)} private request(s) of up to {options.batch} sentences"
        status.update(asking)
        request = (
            "--tokens",
            str(asked),
            "--json",
            str(told),
            "--answer",
            options.answer,
            *["--audit"] * options.audit,
        )
        made.start("client", "infer", "--model", options.model, *request)
        made.wait(["client"], lambda: status.update(f"{asking}, {made.count('client', ANSWERED)} answered"))
        status.update("waiting for the parties to end in order")
        made.finish(["server0", "server1", "dealer"])
    answers: list[dict[str, Any]] = json.loads(told.read_text())
    return answers


def plain_answer(prepared: Prepared, tokens: Tokens) -> Tensor:
    """The float model's, with the same softmax."""
    config = prepared.config
    call = reference.classify if config.shape.head == "classification" else reference.embed
    with torch.inference_mode():
        return call(
            config.shape, prepared.folded, tokens.ids, tokens.types, tokens.mask, config.numbers.softmax
        ).double()


def _check_plan(prepared: Prepared, answers: Sequence[dict[str, Any]]) -> None:
    """Both servers' measured ledgers must equal the static plan of their streams, operation by operation."""
    plans = Plans(prepared.config)
    for answer in answers:
        for party, measured in enumerate(answer["reports"]):
            sizes = [
                Size(batch, length, measured["answer"], measured["audit"]) for batch, length in measured["streams"]
            ]
            plan = report.planned(overlapped(plans.infer(size).ledger for size in sizes), 0)
            if missed := report.same(plan, measured):
                raise PlanMissed(f"server{party}, {sizes}: {'; '.join(missed[:3])}")


def _combine(answers: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Add up the requests: operations by name as server0 measured them, totals with the public keys."""
    merged: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for row in answer["reports"][0]["operations"]:
            known = merged.setdefault(row["name"], {"name": row["name"]})
            for key, value in row.items():
                if key == "dealt_bytes":
                    known[key] = [a + b for a, b in zip(known.get(key, [0, 0]), value, strict=True)]
                elif key not in ("name", "offline_bytes"):
                    known[key] = known.get(key, 0) + value
            known["offline_bytes"] = max(known["dealt_bytes"])
    operations = list(merged.values())
    keys = ("rounds", "sent_bytes", "received_bytes", "compute_s", "wait_s")
    totals: dict[str, Any] = {key: sum(row[key] for row in operations) for key in keys}
    dealt = [sum(row["dealt_bytes"][party] for row in operations) for party in (0, 1)]
    totals |= {"dealt_bytes": dealt, "offline_bytes": max(dealt)}
    phases = [f"seconds_{phase}" for phase in ("upload", "offline", "online")]
    totals |= {phase: sum(answer[phase] for answer in answers) for phase in phases}
    totals["seconds_total"] = sum(totals[phase] for phase in phases)
    peaks = {f"server{i}": max(answer["reports"][i]["peak_bytes"] for answer in answers) for i in (0, 1)}
    peaks["dealer"] = max(answer["reports"][0]["dealer"]["peak_bytes"] for answer in answers)
    peaks["client"] = max(answer["peak_bytes"] for answer in answers)
    each = [
        {phase: answer[phase] for phase in phases} | {key: answer["reports"][0][key] for key in EACH}
        for answer in answers
    ]
    return operations, {**totals, "peak_bytes": max(peaks.values()), "peaks": peaks, "requests": each}


def _accuracy(private: Tensor, plain: Tensor) -> dict[str, Any]:
    cosines = torch.cosine_similarity(private, plain, dim=1)
    return {
        "sentences": len(private),
        "min_cosine": cosines.min().item(),
        "mean_cosine": cosines.mean().item(),
        "max_abs_error": (private - plain).abs().max().item(),
    }


def _agreement(prepared: Prepared, private: Tensor, plain: Tensor) -> dict[str, Any]:
    """Labels by name (by number, if the checkpoint names none), and in how many sentences they are the same."""
    names = prepared.checkpoint.labels or tuple(str(label) for label in range(private.shape[1]))
    mine, theirs = ([names[place] for place in hot.argmax(1).tolist()] for hot in (private, plain))
    same = sum(a == b for a, b in zip(mine, theirs, strict=True))
    return {"sentences": len(private), "labels": mine, "plain_labels": theirs, "same_labels": same}


def _facts(prepared: Prepared, options: Options) -> dict[str, Any]:
    return {
        "model": options.model,
        "random_weights": prepared.random,
        "suite": options.suite,
        "softmax": prepared.config.numbers.softmax,
        "embedding": options.embedding,
        "answer": options.answer,
        "audit": options.audit,
        "net": options.net,
        "commit": report.commit(),
        "machine": report.machine(),
        "kernels": library.level(),
        "threads": options.threads,
        "device": accelerator.describe(options.device),
        "streams": options.streams,
        "cores": os.cpu_count(),
    }
