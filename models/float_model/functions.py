"""The functions of a layer, in floating point: activations, and the numerators of each softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from mpcnet.models.shape import Activation, Softmax
from mpcnet.protocols.softmax import RELU_EPS

QUAD_SHIFT = 5.0  # c of SecFormer's 2Quad, (s + c)^2 / sum (s + c)^2


def numerators(scores: Tensor, row_max: Tensor, softmax: Softmax) -> tuple[Tensor, float]:
    """exp(s - max s), (s + 5)^2 or max(s, 0), and what is added to their sum."""
    if softmax == "exact":
        return (scores - row_max).exp(), 0.0
    if softmax == "2quad":
        return (scores + QUAD_SHIFT).square(), 0.0
    return scores.clamp(min=0), RELU_EPS


def quad(x: Tensor) -> Tensor:
    """MPCFormer's activation."""
    return 0.125 * x.square() + 0.25 * x + 0.5


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "silu": silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "quad": quad,
}
