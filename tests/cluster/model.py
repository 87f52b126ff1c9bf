"""The model of the virtual cluster: embeddings of four columns, their LayerNorm and pooling.

It has no layers, as no model of a file may: a run then takes 6 segments, one with a layer 20, and both are alike to who
moves frames. It is made once, and so are the plans of its requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from unittest import mock

import torch
from torch import Tensor

from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.config import Config
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.formats.planner import plan
from mpcnet.models.private import program
from mpcnet.models.private.oracle_trace import audited_answer, load_plain
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.private.program import Plans
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.handshake import Program

SHAPE = BertShape(layers=1, hidden=4, heads=1, ffn=4, vocab=8, positions=4)
object.__setattr__(SHAPE, "layers", 0)
TEXTS = 12
NEAR = 0.02  # an answer and the oracle's: roundings only
FAR = 0.1  # the answers to any two texts


@cache
def checkpoint() -> Checkpoint:
    raw = random_checkpoint(SHAPE, 1)
    return replace(raw, tensors={name: t if "norm" in name else t * 5 for name, t in raw.tensors.items()})


@cache
def folded() -> Mapping[str, Tensor]:
    return fold(checkpoint())


@cache
def config() -> Config:
    batches = [random_tokens(checkpoint(), 32, length) for length in (1, 2, SHAPE.positions)]
    known = calibrate(SHAPE, folded(), batches, checkpoint().sha256)
    return Config(
        SHAPE, plan(SHAPE, bounds(SHAPE, folded()), known, "2quad", SUITES["fast"]), SUITES["fast"], "private"
    )


@cache
def agreed() -> Program:
    """What parties of this program agree on; there is no known answer without layers."""
    with mock.patch.object(program, "known_answer", lambda config: b""):
        return program.agreement(config())


@cache
def plans() -> Plans:
    return Plans(config())


@cache
def texts() -> tuple[Tokens, ...]:
    """Of 1 to 4 tokens, in one or two sentences; no two have nearly the same answer."""
    generator = torch.Generator().manual_seed(3)
    plain, found, known = load_plain(config(), folded()), list[Tokens](), list[Tensor]()
    while len(found) < TEXTS:
        batch, length = 1 + len(found) % 5 // 4, 2 + len(found) % 3
        ids = torch.randint(0, SHAPE.vocab, (batch, length), generator=generator)
        tokens = Tokens(ids, torch.zeros_like(ids), torch.ones_like(ids))
        values, flagged = audited_answer(plain, folded(), tokens)
        if not flagged.any() and all((values[0] - other[0]).abs().max() > FAR for other in known):
            found.append(tokens)
            known.append(values)
    return tuple(found)


@cache
def answers() -> tuple[Tensor, ...]:
    """What the oracle answers to `texts`."""
    plain = load_plain(config(), folded())
    return tuple(audited_answer(plain, folded(), tokens)[0] for tokens in texts())


def right(index: int, values: Tensor) -> bool:
    want = answers()[index]
    return values.shape == want.shape and bool((values - want).abs().max() < NEAR)


def right_row(index: int, row: Tensor) -> bool:
    """The answer to the first sentence of a text."""
    return bool((row - answers()[index][0]).abs().max() < NEAR)
