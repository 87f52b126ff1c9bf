"""The published model as transformers runs it: what the folded reference and the private answers must equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import logging as hf_logging

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.float_model import pipelines
from mpcnet.models.float_model.rewritten import loadable
from mpcnet.models.float_model.student_attention import attention_name, replace_attention
from mpcnet.models.float_model.students import load_student
from mpcnet.models.head_shape import Head
from mpcnet.models.images.reader import load_processor
from mpcnet.models.picture import Picture
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Given, Tokens

MODELS: Mapping[Head, Any] = {
    "embedding": AutoModel,
    "classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "fill-mask": AutoModelForMaskedLM,
}


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint's folder as others read it, text by text; nothing of it goes through
    mpcnet.models.checkpoints.folding.

    `by` names who: transformers, or sentence-transformers, where it is installed and the folder is one of its own.
    """

    by: str
    one: Callable[[Any], Tensor] = field(repr=False)  # of a text or a picture

    def __call__(self, texts: Sequence[Given]) -> Tensor:
        """Embeddings [B, d] or logits [B, labels], float64, each text or picture alone and without padding.

        Logits of tokens are [B, n, columns], 0 behind those of each text.
        """
        known: dict[Given, Tensor] = {}
        with torch.inference_mode():
            for text in dict.fromkeys(texts):
                known[text] = self.one(text)
        return pad_sequence([known[text] for text in texts], batch_first=True)


def published(found: Checkpoint, softmax: Softmax = "exact") -> Published:
    """The folder of a checkpoint, with another softmax in the place of transformers' own if it is not "exact".

    Files that transformers does not read itself are read here, which `by` says.

    :raises LocalConfigError: the checkpoint is random, or transformers cannot load it.
    """
    _published(found)
    if found.shape.alibi:
        raise LocalConfigError(f"{found.origin}: want a model of transformers' own code, got JinaBERT; compare another")
    with loadable(found) as (written, note):
        theirs = _own(written, softmax)
    return replace(theirs, by=theirs.by + note)


def _own(found: Checkpoint, softmax: Softmax) -> Published:
    source, head = _published(found), found.shape.head
    folder = pipelines.root(found.origin, source)
    arguments: dict[str, Any] = {"dtype": torch.float64, "key_mapping": _key_mapping(found)}
    in_place = softmax != "exact" and found.shape.relative_buckets > 0  # MPNet knows no interface for it
    if softmax != "exact" and not in_place:
        arguments["attn_implementation"] = attention_name(softmax)
    hf_logging.disable_progress_bar()  # of loading, which takes no time that anybody waits for
    hf_logging.set_verbosity_error()  # a missing pooler is no news; what is needed and missing is an error below
    try:
        if head == "embedding" and pipelines.installed() and pipelines.has_modules(folder):
            library = pipelines.load_library(folder, arguments)
            if in_place:
                replace_attention(library, softmax)
            return Published("sentence-transformers", pipelines.by_library(library))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        raise LocalConfigError(
            f"{folder}: want a folder that the sentence-transformers here loads, got {error}; upgrade it"
        ) from error
    if found.shape.image is not None:
        return Published("transformers", _of_pictures(found, folder, source, arguments))
    try:
        model = _loaded(MODELS[head], source, arguments)
        if in_place:
            replace_attention(model, softmax)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LocalConfigError(f"{folder}: want a folder that transformers loads, got {error}") from error
    pipeline = pipelines.Pipeline.of(folder)
    tokens = pipeline.tokenised(tokenizer, model.config.max_position_embeddings)
    if head == "question-answering":
        return Published("transformers", lambda text: _ends(model(**tokens(text))))
    if head == "fill-mask":
        return Published("transformers", lambda text: _at_masks(model, tokens(text), tokenizer.mask_token_id))
    if head != "embedding":
        return Published("transformers", lambda text: model(**tokens(text)).logits[0])
    vector = pipeline.vector(tokenizer)
    return Published("transformers", lambda text: vector(model(**tokens(text)).last_hidden_state[0]))


def _of_pictures(
    found: Checkpoint, folder: str, source: str, arguments: Mapping[str, Any]
) -> Callable[[Picture], Tensor]:
    """A picture's embedding, that of the class token, or its logits."""
    kind = AutoModelForImageClassification if found.shape.head == "classification" else AutoModel
    try:
        model, processor = _loaded(kind, source, arguments), load_processor(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LocalConfigError(f"{folder}: want a folder that transformers loads, got {error}") from error

    def answer(picture: Picture) -> Tensor:
        pixels = processor(picture.rgb(), return_tensors="pt")["pixel_values"].double()
        output = model(pixel_values=pixels)
        answer: Tensor = output.logits[0] if found.shape.labels else output.last_hidden_state[0, 0]
        return answer

    return answer


def _ends(output: Any) -> Tensor:
    """Where an answer starts and ends, logits [n, 2]."""
    return torch.stack([output.start_logits[0], output.end_logits[0]], -1)


def _at_masks(model: Any, inputs: Mapping[str, Tensor], mask: int) -> Tensor:
    """Logits of every word at a text's masks, [count, vocab]."""
    found: Tensor = model(**inputs).logits[0][inputs["input_ids"][0] == mask]
    return found


def _key_mapping(found: Checkpoint) -> dict[str, str]:
    """For what stands before all names of the checkpoint's file, a wrapper's "module." say."""
    return {f"^{re.escape(found.prefix)}": ""} if found.prefix else {}


def _loaded(kind: Any, source: str, arguments: Mapping[str, Any]) -> Any:
    """:raises LocalConfigError: weights that the answer needs are not there, and transformers would draw them."""
    model, report = kind.from_pretrained(source, output_loading_info=True, **arguments)
    pooled = ("pooler.dense.weight", "pooler.dense.bias") if kind is AutoModel else ()
    if missing := sorted(set(report["missing_keys"]) - set(pooled)):
        raise LocalConfigError(f"{source}: want all weights, got none for {', '.join(missing[:3])}")
    return model.eval()


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
    """The classifier loaded once, for batch after batch: transformers' own, or a student
    (mpcnet.models.float_model.students).

    :raises LocalConfigError: the checkpoint is random, or neither BERT nor MPNet and not to be run with exact softmax.
    """
    source = _published(checkpoint)
    if softmax == "exact" and checkpoint.shape.activation != "quad":
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
