"""The published model as transformers runs it: what the folded reference must equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification

from models.shape import Softmax
from models.students import load_student
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
    return huggingface_classifier(checkpoint, "exact", dtype)(tokens)


def huggingface_classifier(
    checkpoint: Checkpoint, softmax: Softmax = "exact", dtype: torch.dtype = torch.float64
) -> Callable[[Tokens], Tensor]:
    """The classifier loaded once, for batch after batch: transformers' own, or a student (models.students).

    :raises LocalConfigError: the checkpoint is random, or no BERT and not to be run with exact softmax.
    """
    source = _published(checkpoint)
    if softmax == "exact" and checkpoint.shape.activation == "gelu":
        model = AutoModelForSequenceClassification.from_pretrained(source, dtype=dtype).eval()
    else:
        model = load_student(source, softmax=softmax).to(dtype).eval()

    def logits(tokens: Tokens) -> Tensor:
        with torch.inference_mode():
            found: Tensor = model(**_inputs(checkpoint, tokens)).logits
        return found

    return logits


def _inputs(checkpoint: Checkpoint, tokens: Tokens) -> dict[str, Tensor]:
    types = {"token_type_ids": tokens.types} if checkpoint.shape.types else {}
    return {"input_ids": tokens.ids, "attention_mask": tokens.mask, **types}


def _published(checkpoint: Checkpoint) -> str:
    if not checkpoint.source:
        raise LocalConfigError(f"reference: want a published model, got {checkpoint.origin}")
    return checkpoint.source
