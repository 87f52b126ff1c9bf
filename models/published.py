"""The published model as transformers runs it: what the folded reference must equal."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification

from models.text import Tokens
from models.weights import Checkpoint
from mpcnet.errors import LocalConfigError


def huggingface_hidden(checkpoint: Checkpoint, tokens: Tokens, dtype: torch.dtype = torch.float64) -> Tensor:
    """Hidden states of the published model run by transformers, [batch, seq, hidden].

    :raises LocalConfigError: the checkpoint is random.
    """
    model = AutoModel.from_pretrained(_published(checkpoint), dtype=dtype).eval()
    with torch.inference_mode():
        output = model(**_inputs(checkpoint, tokens))
    hidden: Tensor = output.last_hidden_state
    return hidden


def huggingface_logits(checkpoint: Checkpoint, tokens: Tokens, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits of the published classifier run by transformers, [batch, labels].

    :raises LocalConfigError: the checkpoint is random.
    """
    model = AutoModelForSequenceClassification.from_pretrained(_published(checkpoint), dtype=dtype).eval()
    with torch.inference_mode():
        output = model(**_inputs(checkpoint, tokens))
    logits: Tensor = output.logits
    return logits


def _inputs(checkpoint: Checkpoint, tokens: Tokens) -> dict[str, Tensor]:
    types = {"token_type_ids": tokens.types} if checkpoint.shape.types else {}
    return {"input_ids": tokens.ids, "attention_mask": tokens.mask, **types}


def _published(checkpoint: Checkpoint) -> str:
    if not checkpoint.source:
        raise LocalConfigError(f"reference: want a published model, got {checkpoint.origin}")
    return checkpoint.source
