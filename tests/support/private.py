"""Whole private models in lock-step: sharing a model's parameters and tokens, loading, and inferring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockstep import Run, Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.bert import infer
from mpcnet.models.families.config import AnswerKind, Config, Embedding
from mpcnet.models.families.loaded import load
from mpcnet.models.float_model import reference
from mpcnet.models.formats import calibrate
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.planner import plan
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import encode, encode_tokens, parameters
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.lockstep_session import check_cost, reveal
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.share import Shared
from mpcnet.protocols.suites import SUITES

TINY = BertShape(layers=2, hidden=32, heads=2, ffn=64, vocab=50, positions=24)


@dataclass
class Private:
    """A model loaded by two servers, a dealer and the oracle, beside its float weights."""

    config: Config
    folded: dict[str, Tensor]
    session: Session
    loaded: Run
    plain: Any
    plans: Plans

    def run(
        self, tokens: Tokens, kind: AnswerKind = "logits", *, floats: bool = True, extent: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Private, oracle and float results, the last whole; the measured cost must equal the plan.

        Without `floats`, for tokens that the float model refuses, the last is the oracle's.
        """
        shape = self.config.shape
        shares, whole = share_tokens(self, tokens)
        extent = extent if tokens.places is None else tokens.places.shape[1]
        measured = self.session.run(
            lambda p, model, *x: infer(p, model, x, tokens.mask, kind, extent), self.loaded.results, *shares
        )
        check_cost(measured.ledger, self.plans.infer(Size(*tokens.mask.shape, kind, extent=extent)))
        answer = evaluate(lambda p: infer(p, self.plain, whole, tokens.mask, kind, extent))
        if not floats:
            return measured.value(), reveal(answer), reveal(answer)
        plain = reference.answer(
            shape, self.folded, tokens.ids, tokens.types, tokens.mask, self.config.formats.softmax, places=tokens.places
        )
        return measured.value(), reveal(answer), plain


def share_tokens(model: Private, tokens: Tokens) -> tuple[list[list[Shared]], list[Shared]]:
    """Each array that a client shares, by party, and whole."""
    given = list(zip(encode_tokens(model.config, tokens, model.folded), model.config.inputs, strict=True))
    shares = [model.session.share_words(words, x.bits, x.frac) for words, x in given]
    return shares, [Shared(words, x.bits, x.frac, 0) for words, x in given]


def audit(model: Private, tokens: Tokens) -> tuple[Tensor, list[bool], Run]:
    """The private result under an audit, the audit's bits by sentence, and the run, whose cost equals the plan."""
    shares, _ = share_tokens(model, tokens)
    run = model.session.run(
        lambda p, loaded, *x: audited_inference(p, loaded, x, tokens.mask, audit=True), model.loaded.results, *shares
    )
    batch, length = tokens.mask.shape
    extent = 0 if tokens.places is None else tokens.places.shape[1]
    check_cost(run.ledger, model.plans.infer(Size(batch, length, audit=True, extent=extent)))
    first, second = (result.out_of_range for result in run.results[:2])
    found = ring.unpack_bits(first.packed ^ second.packed, first.shape).bool().any(1).tolist()
    return reveal(*(result.values for result in run.results[:2])), found, run


def private_model(
    checkpoint: Checkpoint, batches: list[Tokens], suite: str, softmax: Softmax, embedding: Embedding = "private"
) -> Private:
    """Calibrate, share, load."""
    folded = fold(checkpoint)
    ranges = calibrate.calibrate(checkpoint.shape, folded, batches, checkpoint.sha256)
    shape = checkpoint.shape
    formats = plan(shape, bounds(shape, folded), ranges, softmax, SUITES[suite])
    config = Config(shape, formats, SUITES[suite], embedding)
    return share_model(config, folded)


def share_model(config: Config, folded: dict[str, Tensor]) -> Private:
    """Share, load."""
    words, session, plans = encode(config, folded), Session(), Plans(config)
    shares: list[dict[str, Shared]] = [{}, {}, {}]
    for q in parameters(config):
        for store, share in zip(shares, session.share_parameter(words[q.name], q.shape, q.bits, q.frac), strict=True):
            store[q.name] = share
    loaded = session.run(lambda p, x: load(p, config, x.items()), shares)
    check_cost(loaded.ledger, plans.load)
    whole = {q.name: Shared(words[q.name], q.bits, q.frac, 0) for q in parameters(config)}
    return Private(config, folded, session, loaded, evaluate(lambda p: load(p, config, whole.items())), plans)


def tiny_model(
    suite: str, softmax: Softmax, shape: BertShape = TINY, embedding: Embedding = "private", scale: float = 8.0
) -> tuple[Private, Tokens]:
    """A small random model; weights scaled up so that attention is not flat, and some tokens with padding."""
    raw = random_checkpoint(shape, 1)
    tensors = {
        name: value * scale if name.endswith("weight") and value.ndim == 2 and "embedding" not in name else value
        for name, value in raw.tensors.items()
    }
    checkpoint = Checkpoint(shape, tensors, raw.source, raw.origin, raw.license, raw.sha256)
    tokens = random_tokens(checkpoint, 3, 9)
    tokens.mask[1, 6:] = 0
    tokens.mask[2, 1:] = 0
    return private_model(checkpoint, [tokens], suite, softmax, embedding), tokens
