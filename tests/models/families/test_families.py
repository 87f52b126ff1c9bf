"""Every family: the float model is transformers', and the private one is the float model, at its planned cost."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from encoders import small_encoder, small_tokens
from private import Private, private_model
from torch import Tensor

from mpcnet.models.checkpoints.weights import Checkpoint, fold
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.texts.tokens import Tokens

POST_NORM = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


@cache
def small(kind: str, labels: int = 0, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model, tokens for it, and transformers' answer, [batch, seq, hidden] or [batch, labels]."""
    with TemporaryDirectory() as folder:
        checkpoint = small_encoder(Path(folder), kind, labels, **more)
        tokens = small_tokens(checkpoint.shape.types)
        run = huggingface_logits if labels else huggingface_hidden
        return checkpoint, tokens, run(checkpoint, tokens)


@pytest.mark.parametrize("kind", POST_NORM)
def test_float_model_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind)
    valid = tokens.mask.bool()
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[valid].abs().max() < 1e-9
    assert want[valid].std() > 0.3


@pytest.mark.parametrize("kind", POST_NORM)
def test_classifier_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind, 3)
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < 1e-9
    assert want.std() > 0.1


@cache
def private(kind: str, suite: str, labels: int = 0, **more: Any) -> Private:
    checkpoint, tokens, _ = small(kind, labels, **more)
    return private_model(checkpoint, [tokens], suite, "exact")


@pytest.mark.parametrize("kind", POST_NORM)
def test_private_is_float(kind: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(kind, "fast").run(small(kind)[1])
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert (result - whole).abs().max() < 0.02
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", POST_NORM)
def test_private_classifier_is_float(kind: str) -> None:
    result, _, floats = private(kind, "fast", 3).run(small(kind, 3)[1])
    assert (result - floats).abs().max() < 0.02
