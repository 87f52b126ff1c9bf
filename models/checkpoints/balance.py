"""Powers of two between two maps of which one reads what the other writes, so that both fit their formats.

Values of one column times s, and the row that multiplies them by 1/s: in floating point the model is the same to the
last bit, since powers of two round nothing. In fixed point it is another one. A column whose values are a thousand
times as large as its row's weights are small wastes the bits of both, or leaves its ring. Such pairs are:

    columns of V, and rows of the attention's output; columns that a gate's activation multiplies, and rows of the
    second map of the feed-forward part; columns before a ReLU, and these rows.

Queries and keys are balanced where they are folded (mpcnet.models.checkpoints.folding), by any factor. What GeLU, SiLU
or tanh is applied to has no such factor.

What is right for a column follows from its roundings. With a and r the typical sizes of values and weights, and e_v and
e_w their errors, (e_v / (a s))^2 + (e_w s / r)^2 is least for s^2 = (e_v / e_w) r / a. Weights have two bits more than
values, so s = 2 sqrt(r / a). Trained models are within a factor of 4 of it (all-MiniLM-L6-v2: 0.41 to 0.75,
all-mpnet-base-v2: 0.31 to 1.10), and stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mpcnet.models.shape import BertShape

ENOUGH = 3  # bits that a column may be off
HALF = 0.5  # of a normal value, what such functions leave
LARGEST = 4.0  # typical size up to which a column is made larger: formats end at a hundred times as much


def balanced(shape: BertShape, folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The folded weights with each pair of maps whose columns are further off than ENOUGH brought together."""
    found = dict(folded)
    d, ffn = shape.hidden, shape.ffn
    for i in range(shape.layers):
        qkv, up = f"layer{i}.qkv", f"layer{i}.up"
        if shape.attention_of(i) == i:
            value = slice(2 * d, 3 * d)
            found |= _between(found, qkv, value, f"layer{i}.out", torch.ones(d))
        if shape.feed_forward_of(i) != i or not (shape.gated or shape.activation == "relu"):
            continue
        if shape.gated:
            active = (HALF * _sizes(found, up, slice(ffn))).clamp(max=1.0)
            found |= _between(found, up, slice(ffn, 2 * ffn), f"layer{i}.down", active)
        else:
            found |= _between(found, up, slice(ffn), f"layer{i}.down", torch.full((ffn,), HALF))
    return found


def _sizes(folded: Mapping[str, Tensor], name: str, columns: slice) -> Tensor:
    """Of each column of N W + b, N's variance being 1."""
    weight, bias = folded[f"{name}.weight"][:, columns], folded[f"{name}.bias"][columns]
    return (weight.square().sum(0) + bias.square()).sqrt()


def _between(
    folded: Mapping[str, Tensor], first: str, columns: slice, second: str, beside: Tensor
) -> dict[str, Tensor]:
    """Both maps, if some column is further off than ENOUGH; `beside`: what is between them makes of a 1."""
    size, rows = _sizes(folded, first, columns), folded[f"{second}.weight"].square().mean(1).sqrt()
    used = size * beside
    bits = torch.where((used > 0) & (rows > 0), 1 + (rows.log2() - used.log2()) / 2, 0.0)
    room = (LARGEST / size.clamp(min=torch.finfo(size.dtype).tiny)).log2().floor().clamp(min=0)
    shift = torch.where(bits.abs() > ENOUGH, torch.minimum(bits.round(), room), 0.0)
    if not bool(shift.any()):
        return {}
    factor, found = torch.exp2(shift), {}
    for leaf in ("weight", "bias"):
        whole = folded[f"{first}.{leaf}"].clone()
        whole[..., columns] *= factor
        found[f"{first}.{leaf}"] = whole
    return found | {f"{second}.weight": folded[f"{second}.weight"] / factor[:, None]}
