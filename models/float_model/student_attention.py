"""Attention with a student's softmax, as transformers calls it: of BERT by its interface, of MPNet in place.

What both give as "attentions" are the raw scores, 0 at padding: distillation compares those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.models.mpnet.modeling_mpnet import MPNetLayer, MPNetSelfAttention

from mpcnet.models.float_model.functions import QUAD_SHIFT
from mpcnet.models.shape import Softmax
from mpcnet.protocols.softmax import RELU_EPS


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


def _attention(softmax: Softmax) -> Callable[..., tuple[Tensor, Tensor]]:
    """Attention as AttentionInterface has it."""

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
        weights = nn.functional.dropout(SOFTMAXES[softmax](scores, valid), dropout, module.training)
        context = (weights @ value).transpose(1, 2).contiguous()
        return context, scores * valid

    return attend


for _name in SOFTMAXES:
    AttentionInterface.register(attention_name(_name), _attention(_name))
    AttentionMaskInterface.register(attention_name(_name), sdpa_mask)


class MPNetAttention(nn.Module):
    """MPNet's attention, which knows no interface, with another softmax; its maps are those that it had."""

    def __init__(self, theirs: MPNetSelfAttention, softmax: Softmax) -> None:
        super().__init__()
        self.q: nn.Linear = theirs.q
        self.k: nn.Linear = theirs.k
        self.v: nn.Linear = theirs.v
        self.o: nn.Linear = theirs.o
        self.dropout: nn.Dropout = theirs.dropout
        self._width: int = theirs.attention_head_size
        self._normalise = SOFTMAXES[softmax]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | float = 0.0,
        output_attentions: bool = False,
        **unused: Any,
    ) -> tuple[Tensor, ...]:
        """attention_mask is what transformers adds to scores, [B, 1, n, n]: 0 at tokens, None without padding."""
        query, key, value = (
            part(hidden_states).unflatten(-1, (-1, self._width)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self._width) + position_bias
        valid = torch.ones_like(scores, dtype=torch.bool) if attention_mask is None else attention_mask == 0
        context = self.dropout(self._normalise(scores, valid)) @ value
        out = self.o(context.transpose(1, 2).flatten(2))
        return (out, scores * valid) if output_attentions else (out,)


def replace_attention(model: nn.Module, softmax: Softmax) -> None:
    """Give every layer of an MPNet, whatever is around it, another softmax; its weights keep their names."""
    for layer in list(model.modules()):
        if isinstance(layer, MPNetLayer):
            layer.attention.attn = MPNetAttention(layer.attention.attn, softmax)
