"""Every family's private answers beside transformers': a table's rows.

Small seeded models run in one process in lock-step (mpcnet.protocols.lockstep_session), audited: shares, masks and
corrections are a deployment's, and the measured cost must be the plan's. Checkpoints at hand run in five processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.launch.reporting import report
from mpcnet.launch.requests.asked import words
from mpcnet.launch.simulate.localhost import DEFAULT_TEXTS, Options, simulate_each
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.checkpoints.source import find_object
from mpcnet.models.families.loaded import load
from mpcnet.models.head_shape import Head
from mpcnet.models.images.reader import reader_of
from mpcnet.models.images.synthetic import synthetic_pictures
from mpcnet.models.preprocessing import IMAGES
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import encode, encode_tokens, parameters
from mpcnet.models.private.prepare import Prepared, prepare
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.shape import BertShape
from mpcnet.models.texts import tokens as texts
from mpcnet.models.texts.tokens import Given
from mpcnet.protocols.lockstep_session import Session, check_cost, reveal
from mpcnet.protocols.share import Shared

HEADS: tuple[Head, ...] = ("embedding", "classification", "fill-mask")  # of the seeded models


def rows(families: Sequence[str], checkpoints: Sequence[str], console: Console) -> Iterator[dict[str, Any]]:
    """Some families, or all, with each of the heads, from a seed; or checkpoints."""
    for model in checkpoints:
        yield simulated(model, console)
    if checkpoints and not families:
        return
    for kind in families or FAMILIES:
        for head in HEADS[:2] if kind in IMAGES else HEADS:
            with console.status(f"{kind}, {head}"):
                row = seeded(kind, head)
            yield row


def simulated(model: str, console: Console) -> dict[str, Any]:
    """One simulation of three texts, or images."""
    outcome = simulate_each(words(DEFAULT_TEXTS), Options(model), console, strict=True, built_in=True)
    document = outcome.document
    cost = {key: document[key] for key in ("rounds", "sent_bytes", "offline_bytes")}
    flagged = sum(document["out_of_range"])
    kind = str(find_object(outcome.prepared.checkpoint.source, "config.json").get("model_type", ""))
    return _row(kind, model, outcome.prepared.config.shape, outcome.private, outcome.plain, flagged) | cost


def seeded(kind: str, head: Head) -> dict[str, Any]:
    """Three texts, or images, through a small model, in lock-step; each text with a mask at its end, for one that fills
    masks.
    """
    from mpcnet.launch.bench.seeded import save_seeded  # transformers: only who makes models waits for it
    from mpcnet.models.float_model.huggingface import published

    with TemporaryDirectory() as folder:
        prepared = prepare(str(save_seeded(Path(folder), kind, head)), "fast")
        found = prepared.checkpoint
        reader = reader_of(found.source, found.shape.positions, found.preprocessing, found.shape)
        given = _given(prepared, head)
        plain = published(found)(given)
        tokens = texts.read_all(reader, given)
    values, flagged, cost = _lock_step(prepared, tokens)
    return _row(kind, "seeded", found.shape, values, plain, flagged) | cost


def _given(prepared: Prepared, head: Head) -> Sequence[Given]:
    found = prepared.checkpoint
    if found.shape.image is not None:
        return synthetic_pictures(found.shape.image, len(DEFAULT_TEXTS))
    if head == "fill-mask":
        return [f"{text} {texts.load_tokenizer(found.source).mask_token}" for text in DEFAULT_TEXTS]
    return DEFAULT_TEXTS


def _lock_step(prepared: Prepared, tokens: texts.Tokens) -> tuple[Tensor, int, dict[str, Any]]:
    """The answers, how many of them the audit flags, and the cost of the request."""
    config, session = prepared.config, Session()
    plans, words = Plans(config), encode(config, prepared.folded)
    stores: list[dict[str, Shared]] = [{}, {}, {}]
    for q in parameters(config):
        for store, share in zip(stores, session.share_parameter(words[q.name], q.shape, q.bits, q.frac), strict=True):
            store[q.name] = share
    loaded = session.run(lambda p, x: load(p, config, x.items()), stores)
    check_cost(loaded.ledger, plans.load)
    given = zip(encode_tokens(config, tokens, prepared.folded), config.inputs, strict=True)
    shares = [session.share_words(word, form.bits, form.frac) for word, form in given]
    run = session.run(lambda p, model, *x: audited_inference(p, model, x, tokens.mask), loaded.results, *shares)
    batch, length = tokens.mask.shape
    check_cost(run.ledger, plans.infer(Size(batch, length, audit=True)))
    first, second = (result.out_of_range for result in run.results[:2])
    flagged = ring.unpack_bits(first.packed ^ second.packed, first.shape).bool().any(1)
    costs = list(run.ledger.operations.values())
    dealt = [sum(cost.dealt_bytes[party] for cost in costs) for party in (0, 1)]
    cost = {
        "rounds": sum(cost.rounds for cost in costs),
        "sent_bytes": sum(cost.sent_bytes for cost in costs),
        "offline_bytes": max(dealt),
    }
    return reveal(*(result.values for result in run.results[:2])), int(flagged.sum()), cost


def _row(
    family: str, checkpoint: str, shape: BertShape, private: Tensor, plain: Tensor, flagged: int
) -> dict[str, Any]:
    """How near the answers are to transformers' own: labels, or the likeliest words."""
    same = (private.argmax(-1) == plain.argmax(-1)).flatten()
    return {
        "family": family,
        "head": shape.head,
        "checkpoint": checkpoint,
        "cosine": None if shape.head != "embedding" else float(torch.cosine_similarity(private, plain).min()),
        "agreement": f"{int(same.sum())} of {len(same)}" if shape.labels >= 2 or shape.fills else None,
        "max_abs_error": float((private - plain).abs().max()),
        "out_of_range": flagged,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "vocab": shape.vocab,
        "machine": report.machine(),
        "commit": report.commit(),
    }
