"""A small model of each family, what transformers answers with it, and the private one; each is made once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from encoders import save_encoder, small_encoder, small_tokens
from private import Private, private_model
from torch import Tensor
from transformers import AutoModelForMaskedLM

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.texts.tokens import Tokens

ROTARY = ("gte", "modernbert", "nomic_bert")
SINGLE = (*ROTARY, "deberta", "deberta-v2")  # of whose angles, or factor of scores, transformers has float32
POST_NORM = ("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta")
SAID = torch.tensor(
    [[True, True], [True, True], [True, False]]
)  # the places of `filler`: the last text names its own twice


@cache
def small(kind: str, labels: int = 0, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model, tokens for it, and transformers' answer, [batch, seq, hidden] or [batch, labels]."""
    with TemporaryDirectory() as folder:
        checkpoint = small_encoder(Path(folder), kind, labels, **more)
        tokens = small_tokens(checkpoint.shape.types)
        run = huggingface_logits if labels else huggingface_hidden
        return checkpoint, tokens, run(checkpoint, tokens)


@cache
def private(kind: str, suite: str, labels: int = 0, **more: Any) -> Private:
    checkpoint, tokens, _ = small(kind, labels, **more)
    return private_model(checkpoint, [tokens], suite, "exact")


@cache
def filler(kind: str, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model that fills masks, tokens with places, and transformers' logits of these: [batch, count, vocab]."""
    with TemporaryDirectory() as folder:
        found = load_checkpoint(save_encoder(Path(folder), kind, head=AutoModelForMaskedLM, **more))
        tokens = small_tokens(found.shape.types)
        tokens = replace(tokens, places=torch.tensor([[2, 9], [6, 3], [0, 0]]))
        types = {"token_type_ids": tokens.types} if found.shape.types else {}
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64).eval()
        with torch.inference_mode():
            logits = model(input_ids=tokens.ids, attention_mask=tokens.mask, **types).logits
        return found, tokens, torch.take_along_dim(logits, tokens.places[..., None], 1)
