"""The localhost simulation: five processes over TLS, and the plaintext model beside their answer."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from mpcnet.arrays import accelerator
from mpcnet.arrays.native import library
from mpcnet.errors import LocalInputError
from mpcnet.launch.api.client import Client
from mpcnet.launch.api.sources import Here
from mpcnet.launch.options import DEMO
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import warn, warn_of
from mpcnet.launch.requests import asked, compare
from mpcnet.launch.requests.answers import as_labels, ranked
from mpcnet.launch.requests.asked import Asked, Blank
from mpcnet.launch.requests.compare import stacked
from mpcnet.launch.requests.view import NO_CHOICES, Choices
from mpcnet.launch.simulate import cost
from mpcnet.launch.simulation.network import Loopback, Network
from mpcnet.models.families.config import AnswerKind, Embedding
from mpcnet.models.images.reader import reader_of
from mpcnet.models.images.synthetic import synthetic_pictures
from mpcnet.models.private.prepare import BUILTIN, Prepared, prepare, random_tokens
from mpcnet.models.private.program import extent_of, least_length, wanted_answer
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.inputs import Entry
from mpcnet.models.texts.tokens import Given, Tokens
from mpcnet.transport.latency import parse_link

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


@dataclass(frozen=True, slots=True)
class Options:
    """What to simulate, and how."""

    model: str = DEMO
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
    audit: bool = True
    device: str = "cpu"
    accept: bool = False  # answers that the audit found out of range
    blank: Blank = "error"
    choices: Choices = NO_CHOICES  # of how to ask and to show answers


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """Private and plaintext results, [texts, columns], of labels one-hot, and the cost of all requests together.

    Of the texts that could be asked; the document's `answers` have one entry for each that was given.
    """

    prepared: Prepared
    private: Tensor
    plain: Tensor
    document: dict[str, Any]
    operations: list[dict[str, Any]]
    asked: Asked | None = None  # None if random tokens were, or tokens without their texts


def simulate(texts: Sequence[Given], options: Options, console: Console, network: Network | None = None) -> Outcome:
    """Run the whole thing, on `network` if one is given: `options.net` then only names the link.

    :raises LocalInputError: a text is empty or too long, or the model has no such answer.
    :raises LocalConfigError: the device is not there.
    :raises PartyFailed: a process ended early.
    :raises PlanMissed: the measured rounds or bytes differ from the plan.
    """
    return simulate_each(asked.words(texts), options, console, network, strict=True)


def simulate_each(
    entries: Sequence[Entry],
    options: Options,
    console: Console,
    network: Network | None = None,
    *,
    strict: bool = False,
    built_in: bool = False,
) -> Outcome:
    """Likewise, but what is wrong with a text is told in its place, and the others are answered, unless `strict`.

    Where the entries are `built_in`, a model of images is asked about images in their place.

    :raises LocalInputError: no text can be asked, or the model has no such answer.
    """
    parse_link(options.net)
    accelerator.describe(options.device)  # it is there
    if not entries:
        raise LocalInputError("simulate: want at least one text, got none")
    with console.status("preparing the model") as status:
        prepared = prepare(
            options.model, options.suite, options.softmax, options.length, options.calibration,
            options.embedding, status.update,
        )  # fmt: skip
        wanted_answer(prepared.config, options.answer)
        extent_of(prepared.config, options.choices.dim)
        options.choices.view(prepared.config.shape)
        if built_in and (image := prepared.config.shape.image) is not None:
            entries = asked.words(synthetic_pictures(image, len(entries)))
        found = None if prepared.random else _ask(prepared, entries, options)
    if found is not None and strict and found.refused():
        raise LocalInputError(found.refused())
    warn(prepared, console)
    if found is not None and (cuts := found.cuts()):
        warn_of(cuts, console)
    if library.best() < 0:
        warn_of(library.MISSING, console)
    if found is not None:
        return run(prepared, found.batches(options.batch, options.length), options, console, network, found)
    return run(prepared, _random_batches(prepared, len(entries), options), options, console, network)


def _ask(prepared: Prepared, entries: Sequence[Entry], options: Options) -> Asked:
    found, limit = prepared.checkpoint, options.length or prepared.config.formats.longest
    reader = reader_of(found.source, limit, found.preprocessing, found.shape)
    return asked.ask(asked.asking(entries, options.choices.first), reader, options.blank)


def _random_batches(prepared: Prepared, count: int, options: Options) -> list[Tokens]:
    """As many random sentences, of a model without a tokenizer."""
    length = least_length(prepared.config, options.length or 128)
    sizes = [min(options.batch, count - start) for start in range(0, count, options.batch)]
    return [random_tokens(prepared.checkpoint, size, length) for size in sizes]


def run(
    prepared: Prepared,
    batches: Sequence[Tokens],
    options: Options,
    console: Console,
    network: Network | None = None,
    found: Asked | None = None,
) -> Outcome:
    """Batches of tokens, a request each, through the real processes of a prepared model.

    Answers are held against the published model where their texts are given (`found`), else against the folded one.

    :raises PartyFailed: a process ended early.
    :raises PlanMissed: the measured rounds or bytes differ from the plan.
    """
    network = network or Loopback(options.net)
    start = time.perf_counter()
    replies = _ask_all(prepared, batches, options, console, network)
    seconds = time.perf_counter() - start
    private = stacked([reply.values.double() for reply in replies])
    with console.status("running the plaintext model"):
        plain = compare.plain(prepared, found.texts if found else None, batches, options.choices.dim or 0)
    operations, totals = cost.combine(replies)
    with console.status("checking the measured cost against the plan"):
        cost.check_plan(prepared.config, replies)
    out_of_range = [left for reply in replies for left in reply.out_of_range or [False] * len(reply.values)]
    document = {
        **totals,
        **compare.findings(
            prepared.config,
            options.answer,
            private,
            plain,
            out_of_range,
            options.accept,
            found,
            options.choices.view(prepared.config.shape),
        ),
        **_facts(prepared, options),
        "network": network.name,
        "seconds_run": seconds,
        "out_of_range": out_of_range if options.audit else None,
        "operations": operations,
    }
    if options.choices.query is not None:
        document["answers"] = ranked(document["answers"])
    return Outcome(prepared, private, _as_asked(plain.values, options), document, operations, found)


def _as_asked(plain: Tensor, options: Options) -> Tensor:
    """Logits as one-hot rows, if labels were asked for."""
    return as_labels(plain) if options.answer == "label" else plain


def _ask_all(
    prepared: Prepared, batches: Sequence[Tokens], options: Options, console: Console, network: Network
) -> list[Answer]:
    """Start the processes, ask one request after the other, and see that all end well."""
    servers = Here(
        lambda say: prepared, options.model, network, options.keep, threads=options.threads,
        timeout_s=options.timeout_s, streams=options.streams, device=options.device,
    )  # fmt: skip
    replies: list[Answer] = []
    asking = f"client: {len(batches)} private request(s) of up to {options.batch} sentences"
    entering = partial(network.enter, "client")
    starting = "server0, server1, dealer, owner: starting, and sharing the weights"
    with console.status(starting) as status, Client(servers, progress=False, on_thread=entering) as client:
        for tokens in batches:
            status.update(f"{asking}, {len(replies)} answered")
            replies.append(client.ask_tokens(tokens, options.answer, options.audit, options.choices.dim or 0))
        status.update("waiting for the parties to end in order")
        servers.finish()
    return replies


def _facts(prepared: Prepared, options: Options) -> dict[str, Any]:
    return {
        "model": options.model.removeprefix(BUILTIN),
        "random_weights": prepared.random,
        "suite": options.suite,
        "softmax": prepared.config.formats.softmax,
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
