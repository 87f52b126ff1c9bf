"""BERTs to train for private inference: Hugging Face's classifier with another softmax, and another GeLU.

They are Hugging Face's own modules under their own names: save_pretrained writes a checkpoint that
mpcnet.models.checkpoints.loading reads. config.json says which functions the weights were trained with ("softmax",
"hidden_act"). Transformers knows the others only where this module was imported; by itself it refuses "quad", and runs
"2quad" as an exact softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, BertConfig, BertForSequenceClassification
from transformers.activations import ACT2FN
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from mpcnet.errors import LocalConfigError
from mpcnet.models.float_model.functions import QUAD_SHIFT, quad
from mpcnet.models.shape import Activation, Softmax
from mpcnet.models.texts.tasks import Task
from mpcnet.protocols.softmax import RELU_EPS


@dataclass(frozen=True, slots=True)
class Outputs:
    """What distillation compares: logits [B, labels], raw scores [B, h, n, n] by layer, hidden states [B, n, d]."""

    logits: Tensor
    scores: tuple[Tensor, ...] = field(default=(), repr=False)
    hidden: tuple[Tensor, ...] = field(default=(), repr=False)


class Quad(nn.Module):
    """MPCFormer's GeLU."""

    def forward(self, x: Tensor) -> Tensor:
        return quad(x)


def exact(scores: Tensor, valid: Tensor) -> Tensor:
    return scores.masked_fill(~valid, -torch.inf).softmax(-1)


def two_quad(scores: Tensor, valid: Tensor) -> Tensor:
    """(s + 5)^2 / sum (s + 5)^2; padding is masked after squaring, or it would be squared."""
    squares = (scores + QUAD_SHIFT).square() * valid
    return squares / squares.sum(-1, keepdim=True)


def two_relu(scores: Tensor, valid: Tensor) -> Tensor:
    """relu(s) / (sum relu(s) + eps). MPCFormer trains with 1e-12, a reciprocal that no fixed-point number holds."""
    positive = scores.relu() * valid
    return positive / (positive.sum(-1, keepdim=True) + RELU_EPS)


SOFTMAXES: Mapping[Softmax, Callable[[Tensor, Tensor], Tensor]] = {
    "exact": exact,
    "2quad": two_quad,
    "2relu": two_relu,
}


def attention_name(softmax: Softmax) -> str:
    """What transformers knows a softmax of ours by, once this module is imported."""
    return f"mpcnet_{softmax}"


def _attention(normalise: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Attention as transformers calls it; what it gives as "attentions" are the raw scores, 0 at padding."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        **unused: Any,
    ) -> tuple[Tensor, Tensor]:
        scores = query @ key.transpose(2, 3) * scaling
        valid = torch.ones_like(scores, dtype=torch.bool) if attention_mask is None else attention_mask
        weights = nn.functional.dropout(normalise(scores, valid), dropout, module.training)
        context = (weights @ value).transpose(1, 2).contiguous()
        return context, scores * valid

    return attend


ACT2FN["quad"] = Quad
for _name, _normalise in SOFTMAXES.items():
    AttentionInterface.register(attention_name(_name), _attention(_normalise))
    AttentionMaskInterface.register(attention_name(_name), sdpa_mask)


def load_student(
    source: str | Path,
    task: Task | None = None,
    softmax: Softmax | None = None,
    activation: Activation | None = None,
    layers: int = 0,
) -> BertForSequenceClassification:
    """A classifier with the weights of `source`, in float32; what is not given is as its config.json says.

    A new head is made for `task` if the checkpoint has none of its size. `layers` keeps the first so many; 0: all.

    :raises LocalConfigError: there is no BERT in `source`, or it has not so many layers.
    """
    config = _config(source)
    if not 0 <= layers <= config.num_hidden_layers:
        raise LocalConfigError(f"{source}: want 1 to {config.num_hidden_layers} layers, got {layers}")
    config.num_hidden_layers = layers or config.num_hidden_layers
    config.softmax = softmax or getattr(config, "softmax", "exact")
    config.hidden_act = activation or config.hidden_act
    if task is not None:
        config.id2label = dict(enumerate(task.labels or ("score",)))
        config.label2id = {name: index for index, name in config.id2label.items()}
        config.problem_type = "single_label_classification" if task.labels else "regression"
    if config.softmax not in SOFTMAXES or config.hidden_act not in ("gelu", "quad"):
        raise LocalConfigError(
            f"{source}: want softmax {', '.join(SOFTMAXES)} and activation gelu or quad, "
            f"got {config.softmax} and {config.hidden_act}"
        )
    model: BertForSequenceClassification = BertForSequenceClassification.from_pretrained(
        str(source),
        config=config,
        attn_implementation=attention_name(config.softmax),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
    )
    return model


def run(model: nn.Module, inputs: Mapping[str, Tensor], inside: bool = False) -> Outputs:
    """The model on ids, types and mask; `inside` asks for scores and hidden states too."""
    found = model(**inputs, output_attentions=inside, output_hidden_states=inside)
    return Outputs(found.logits, *((found.attentions, found.hidden_states) if inside else ()))


def _config(source: str | Path) -> BertConfig:
    try:
        config = BertConfig.from_pretrained(str(source), local_files_only=Path(source).is_dir())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{source}: want a directory or hub name with a BERT, got none") from error
    if config.model_type != "bert":
        raise LocalConfigError(f"{source}: want a BERT, got model_type {config.model_type}")
    return config
