"""From the values of tokens to one vector a sentence: what of it is public, and what its rings must hold.

Every kind of pooling but the maximum is a sum over tokens with public weights, since the mask is public.

Source   docs/protocol.md, "A BERT"
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.shape import BertShape

SHARE_FRAC = 22  # fraction bits of a token's weight: 512 of them are wrong by 6e-5 of a value together, at most
POOLED_FRAC = 16  # of pooled values
POOLED_BITS = 30  # the ring they are opened in, which a sum over tokens leaves of LayerNorm's 48 bits: |x| < 2^12
RESULT_BITS = 40  # of an embedding: |x| < 2^23 with 16 fraction bits
MAX_FRAC, MAX_BITS = 14, 26  # the ring of a maximum: differences below 2^11, compared in one round
TOKEN_LOGIT_BITS = 12  # before the point, of every token's logits: their ring is twice as wide
DENSE_FRAC, DENSE_BITS = 14, 48  # of what a dense map takes; its result is below 2^19


def counted(keep: Tensor, start: int) -> Tensor:
    """Which tokens are pooled: those of the mask [batch, seq], without the first `start` of each row."""
    return keep.bool() & (keep.cumsum(1) > start)


def weights(kind: str, keep: Tensor, start: int) -> Tensor:
    """The weight of each token in a sum, float64 [batch, seq]; 0 for padding and a prompt's tokens."""
    chosen = counted(keep, start).double()
    length = chosen.sum(1, keepdim=True).clamp(min=1)
    place = chosen.cumsum(1) * chosen  # 1, 2, ... of the pooled tokens
    if kind == "cls":
        return (place == 1).double()
    if kind == "lasttoken":
        return ((place == length) & (chosen > 0)).double()
    if kind == "mean":
        return chosen / length
    if kind == "mean_sqrt_len_tokens":
        return chosen / length.sqrt()
    position = keep.cumsum(1) * chosen  # "weightedmean": a prompt's tokens count as places before
    return position / position.sum(1, keepdim=True).clamp(min=1)


def check_pooled(shape: BertShape, keep: Tensor) -> None:
    """:raises LocalInputError: a row has no token behind the prompt."""
    if not bool(counted(keep, shape.pooled_from).any(1).all()):
        raise LocalInputError(
            f"tokens: want some behind the {shape.pooled_from} of the prompt, got a row of none; write more of a text"
        )


def too_large(shape: BertShape, folded: Mapping[str, Tensor]) -> Iterator[str]:
    """What of a head, but for a classifier's of whole texts, may leave its ring for some text: proved from the weights,
    since LayerNorm's result has the norm sqrt(d), and tanh is below 1.
    """
    if (name := TOKEN_LINEARS.get(shape.head)) is not None:
        weight = folded[f"{name}.weight"]
        sizes = math.sqrt(len(weight)) * (weight - weight.mean(0)).norm(dim=0) + folded[f"{name}.bias"].abs()
        yield from _needs("logits of tokens", float(sizes.max()), TOKEN_LOGIT_BITS)
    if shape.head == "classification" and shape.image is not None:
        yield from _needs("logits of images", float(image_logits(shape, folded).max()), TOKEN_LOGIT_BITS)
    elif shape.head == "classification" and shape.pooling == "mean":
        yield from _needs("pooled values", math.sqrt(shape.hidden), POOLED_BITS - 2 - POOLED_FRAC)
    if shape.head != "embedding":
        return
    root, longest = math.sqrt(shape.hidden), math.sqrt(shape.positions)
    gamma, beta = folded["final.gamma"].abs(), folded["final.beta"].abs()
    bound = root * gamma + beta
    vectors = [bound * longest if kind == "mean_sqrt_len_tokens" else bound for kind in shape.kinds]
    summed = root * longest if "mean_sqrt_len_tokens" in shape.kinds else root
    yield from _needs("pooled values before gamma", summed, POOLED_BITS - 2 - POOLED_FRAC)
    if "max" in shape.kinds:
        yield from _needs("values whose maximum is taken", float(bound.max()), MAX_BITS - 2 - MAX_FRAC)
    sizes = torch.cat(vectors)
    for i, dense in enumerate(shape.dense):
        sizes = sizes @ folded[f"dense{i}.weight"].abs() + folded[f"dense{i}.bias"].abs()
        yield from _needs(f"results of Dense {i}", float(sizes.max()), DENSE_BITS - 2 - DENSE_FRAC - 14)
        if dense.activation == "tanh":
            sizes = torch.ones_like(sizes)
    yield from _needs("values of the embedding", float(sizes.max()), RESULT_BITS - 2 - POOLED_FRAC)


def image_logits(shape: BertShape, folded: Mapping[str, Tensor]) -> Tensor:
    """What each logit of a classifier of images stays below: a sum of n rows N has the norm n sqrt(d) at most."""
    assert shape.image is not None
    sizes = folded["classifier.bias"].abs()
    parts = torch.split(folded["classifier.weight"], shape.hidden)
    for part, count in zip(parts, (1, shape.image.rows - shape.image.lead), strict=False):
        sizes = sizes + count * math.sqrt(shape.hidden) * (part - part.mean(0)).norm(dim=0)
    return sizes


def _needs(what: str, got: float, whole_bits: int) -> Iterator[str]:
    if not got < 2.0**whole_bits:
        yield f"{what}: want < {2**whole_bits} for every text, got up to {got:.4g}; scale the last layer's weights down"
