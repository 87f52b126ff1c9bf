"""The published model as transformers runs it: what the folded reference and the private answers must equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as hf_logging

from models import pipelines
from models.shape import Softmax
from models.students import attention_name, load_student
from models.text import Text, Tokens, parts
from models.weights import Checkpoint
from mpcnet.errors import LocalConfigError


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint's folder as others read it, text by text; nothing of it goes through models.weights.

    `by` names who: transformers, or sentence-transformers, where it is installed and the folder is one of its own.
    """

    by: str
    one: Callable[[Text], Tensor] = field(repr=False)

    def __call__(self, texts: Sequence[Text]) -> Tensor:
        """Embeddings [B, d] or logits [B, labels], float64, each text alone and without padding."""
        known: dict[Text, Tensor] = {}
        with torch.inference_mode():
            for text in dict.fromkeys(texts):
                known[text] = self.one(text)
        return torch.stack([known[text] for text in texts])


def published(found: Checkpoint, softmax: Softmax = "exact") -> Published:
    """The folder of a checkpoint, with another softmax in the place of transformers' own if it is not "exact".

    :raises LocalConfigError: the checkpoint is random, transformers cannot load it, or it is no BERT and not exact.
    """
    source, classifies = _published(found), found.shape.head == "classification"
    attention = "" if softmax == "exact" else attention_name(softmax)
    if attention and found.shape.relative_buckets:
        raise LocalConfigError(f"{source}: transformers' MPNet runs exact softmax only, got {softmax}")
    if not classifies and pipelines.has_modules(source) and pipelines.installed():
        return Published("sentence-transformers", pipelines.by_library(source, attention))
    hf_logging.disable_progress_bar()  # of loading, which takes no time that anybody waits for
    loader = AutoModelForSequenceClassification if classifies else AutoModel
    chosen = {"attn_implementation": attention} if attention else {}
    try:
        model = loader.from_pretrained(source, dtype=torch.float64, **chosen).eval()
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LocalConfigError(f"{source}: want a folder that transformers loads, got {error}") from error

    def hidden(given: Mapping[str, Tensor]) -> Tensor:
        value: Tensor = model(**given).last_hidden_state
        return value

    def logits(text: Text) -> Tensor:
        value: Tensor = model(**tokenizer(*parts(text), return_tensors="pt", verbose=False)).logits[0]
        return value

    return Published("transformers", logits if classifies else pipelines.by_hand(source, tokenizer, hidden))


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
