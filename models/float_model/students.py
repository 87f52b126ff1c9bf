"""BERTs and MPNets to train for private inference: Hugging Face's classifier with another softmax and another GeLU.

They are Hugging Face's own modules under their own names: save_pretrained writes a checkpoint that
mpcnet.models.checkpoints.loading reads. config.json says which functions the weights were trained with ("softmax",
"hidden_act"). Transformers knows the others only where this module was imported; by itself it refuses "quad", and runs
"2quad" as an exact softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    BertForSequenceClassification,
    MPNetForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN

from mpcnet.errors import LocalConfigError
from mpcnet.models.float_model.functions import quad
from mpcnet.models.float_model.student_attention import SOFTMAXES, attention_name, replace_attention
from mpcnet.models.shape import Activation, Softmax
from mpcnet.models.texts.tasks import Task


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


ACT2FN["quad"] = Quad


def load_student(
    source: str | Path,
    task: Task | None = None,
    softmax: Softmax | None = None,
    activation: Activation | None = None,
    layers: int = 0,
) -> PreTrainedModel:
    """A classifier with the weights of `source`, in float32; what is not given is as its config.json says.

    A new head is made for `task` if the checkpoint has none of its size. `layers` keeps the first so many; 0: all.

    :raises LocalConfigError: there is no BERT or MPNet in `source`, or it has not so many layers.
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
    if config.model_type == "mpnet":
        mpnet = MPNetForSequenceClassification.from_pretrained(
            str(source), config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )
        replace_attention(mpnet, config.softmax)
        return mpnet
    return BertForSequenceClassification.from_pretrained(
        str(source),
        config=config,
        attn_implementation=attention_name(config.softmax),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
    )


def run(model: nn.Module, inputs: Mapping[str, Tensor], inside: bool = False) -> Outputs:
    """The model on ids, types and mask; `inside` asks for scores and hidden states too."""
    found = model(**inputs, output_attentions=inside, output_hidden_states=inside)
    return Outputs(found.logits, *((found.attentions, found.hidden_states) if inside else ()))


def _config(source: str | Path) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(str(source), local_files_only=Path(source).is_dir())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{source}: want a directory or hub name with a BERT or MPNet, got none") from error
    if config.model_type not in ("bert", "mpnet"):
        raise LocalConfigError(f"{source}: want a BERT or MPNet, got model_type {config.model_type}")
    return config
