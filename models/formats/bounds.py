"""What no text can exceed: bounds on a model's intermediate values that follow from its weights alone.

LayerNorm's result N has mean 0 and norm sqrt(d) at most. So a linear output N w + b is below sqrt(d) |w - mean(w)| +
|b|; a score below d |A B'| + sqrt(d) (|A b_k| + |B b_q|) + |b_q b_k|, with the spectral norm of A B' for a head's
queries N A + b_q and keys N B + b_k; and a context, which is a mean of V's rows, below what V is. Tokens are finitely
many, so the sums of squares of embeddings are known exactly.

All bounds are a little wider than that (`SLACK`), for what rounding adds. Where a value itself went wrong before,
nothing is proved of what follows; the audit has noticed then (mpcnet.protocols.audit).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from mpcnet.models.checkpoints.weights import centre
from mpcnet.models.float_model.reference import Folded, quad
from mpcnet.models.shape import BertShape

SLACK = 1.01  # formats keep 12 fraction bits and more of values and weights
ROWS = 8192  # of the embedding table, that are combined with all positions at a time


@dataclass(frozen=True, slots=True)
class Bounds:
    """For every text: `sizes` by site, what |value| stays below; sums of squares between two ends; scores by head."""

    sizes: Mapping[str, float]
    square_sums: Mapping[str, tuple[float, float]]
    scores: tuple[tuple[float, ...], ...]  # of each layer
    relative: float  # of what MPNet adds to a score


def bounds(shape: BertShape, folded: Folded) -> Bounds:
    """The bounds of a folded model, at the sites of mpcnet.models.float_model.reference."""
    sizes: dict[str, float] = {}
    sums: dict[str, tuple[float, float]] = {}
    scores = []
    sizes["embedding.centred"] = _embedding_size(shape, folded)
    sums["embedding.square_sum"] = _embedding_sums(shape, folded)
    for i in range(shape.layers):
        scores.append(tuple(SLACK * size for size in _scores(shape, folded, f"layer{i}")))
        found = _attention(shape, folded, f"layer{i}") | _feed_forward(shape, folded, f"layer{i}")
        for name, size in found.items():
            if name.endswith("square_sum"):
                sums[name] = (shape.hidden * shape.eps, SLACK * size + shape.hidden * shape.eps)
            else:
                sizes[name] = SLACK * size
    if shape.head == "classification":
        sizes["pooler.input"] = SLACK * float(_linear(shape, folded, "pooler").max())
        weight, bias = folded["classifier.weight"], folded["classifier.bias"]
        differences = (weight[:, :, None] - weight[:, None, :]).abs().sum(0) + (bias[:, None] - bias[None, :]).abs()
        sizes["logits"] = SLACK * float(differences.max())  # tanh is below 1
    if shape.head == "token-classification":
        sizes["logits"] = SLACK * _label_differences(shape, folded)
    return Bounds(
        sizes, sums, tuple(scores), float(folded["relative.bias"].abs().max()) if shape.relative_buckets else 0.0
    )


def _embedding_size(shape: BertShape, folded: Folded) -> float:
    words, types, places = _tables(shape, folded)
    return SLACK * float((words.abs().amax(0) + types.abs().amax(0) + places.abs().amax(0)).max())


def _embedding_sums(shape: BertShape, folded: Folded) -> tuple[float, float]:
    """The least and the largest |word + type + position|^2 + d eps of all combinations."""
    words, types, places = (table.float() for table in _tables(shape, folded))
    least, most = float("inf"), 0.0
    for entry in types:
        here = places + entry
        for rows in torch.split(words, ROWS):
            found = rows.square().sum(1)[:, None] + 2 * rows @ here.T + here.square().sum(1)
            least, most = min(least, float(found.min())), max(most, float(found.max()))
    added = shape.hidden * shape.eps
    return max(least, 0.0) / SLACK + added, most * SLACK + added


def _tables(shape: BertShape, folded: Folded) -> tuple[Tensor, Tensor, Tensor]:
    table = folded["embedding.table"]
    types = table[shape.vocab :] if shape.types else table.new_zeros(1, shape.hidden)
    return table[: shape.vocab], types, folded["embedding.position"]


def _linear(shape: BertShape, folded: Folded, name: str) -> Tensor:
    """Of each column of N W + b."""
    weight = centre(folded[f"{name}.weight"].T).T
    columns: Tensor = sqrt(shape.hidden) * weight.norm(dim=0) + folded[f"{name}.bias"].abs()
    return columns


def _label_differences(shape: BertShape, folded: Folded) -> float:
    """Of any two logits of a token: the norm of the difference of their columns, with what N leaves of it."""
    weight, bias = centre(folded["classifier.weight"].T), folded["classifier.bias"]
    return float((sqrt(shape.hidden) * torch.cdist(weight, weight) + (bias[:, None] - bias[None, :]).abs()).max())


def _heads(shape: BertShape, folded: Folded, layer: str) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Weight [hidden, head_dim] and bias of queries, keys and values, head by head."""
    weight, bias = centre(folded[f"{layer}.qkv.weight"].T).T, folded[f"{layer}.qkv.bias"]
    for head in range(shape.heads):
        places = [
            slice(j * shape.hidden + head * shape.head_dim, j * shape.hidden + (head + 1) * shape.head_dim)
            for j in range(3)
        ]
        yield [(weight[:, place], bias[place]) for place in places]


def _scores(shape: BertShape, folded: Folded, layer: str) -> Iterator[float]:
    """Of each head's scores, with MPNet's bias."""
    root = sqrt(shape.hidden)
    for head, ((a, bq), (b, bk), _) in enumerate(_heads(shape, folded, layer)):
        product = _norm_of_product(a, b.T)
        size = shape.hidden * product + root * float((a @ bk).norm() + (b @ bq).norm()) + abs(float(bq @ bk))
        yield size + (float(folded["relative.bias"][:, head].abs().max()) if shape.relative_buckets else 0.0)


def _attention(shape: BertShape, folded: Folded, layer: str) -> dict[str, float]:
    """Of V, and of what the attention's output and the residual are together before their LayerNorm."""
    d, root = shape.hidden, sqrt(shape.hidden)
    weight, bias = folded[f"{layer}.out.weight"], folded[f"{layer}.out.bias"]
    columns, norm = bias.abs(), float(bias.norm())
    for head, (_, _, (v, bv)) in enumerate(_heads(shape, folded, layer)):
        out = weight[head * shape.head_dim : (head + 1) * shape.head_dim]
        constant = bv @ out
        columns = columns + root * (v @ out).norm(dim=0) + constant.abs()
        norm += root * _norm_of_product(v, out) + float(constant.norm())
    columns, norm = _with_residual(shape, folded, f"{layer}.out", columns, norm)
    qkv = _linear(shape, folded, f"{layer}.qkv")
    return {
        f"{layer}.qkv": float(qkv.max()),
        f"{layer}.value": float(qkv[2 * d :].max()),
        f"{layer}.out.centred": float(columns.max()),
        f"{layer}.out.square_sum": norm**2,
    }


def _feed_forward(shape: BertShape, folded: Folded, layer: str) -> dict[str, float]:
    """Of the activation's input and result, and of what is there before the layer's last LayerNorm."""
    up, down, bias = _linear(shape, folded, f"{layer}.up"), folded[f"{layer}.down.weight"], folded[f"{layer}.down.bias"]
    if shape.activation == "quad":
        active = quad(up)  # of |u|: the largest of either sign
        norm = float(active.norm())
    else:  # |GeLU(u)| <= |u|
        active = up
        inner = centre(folded[f"{layer}.up.weight"].T).T
        norm = min(sqrt(shape.hidden) * _norm(inner) + float(folded[f"{layer}.up.bias"].norm()), float(up.norm()))
    columns = torch.minimum(active @ down.abs(), norm * down.norm(dim=0)) + bias.abs()
    columns, total = _with_residual(shape, folded, f"{layer}.down", columns, norm * _norm(down) + float(bias.norm()))
    return {
        f"{layer}.up": float(up.max()),
        f"{layer}.activation": float(active.max()),
        f"{layer}.down.centred": float(columns.max()),
        f"{layer}.down.square_sum": total**2,
    }


def _with_residual(shape: BertShape, folded: Folded, name: str, columns: Tensor, norm: float) -> tuple[Tensor, float]:
    """gamma N less its mean over d is added: |gamma_i| and |gamma - mean| limit it by column, the largest in norm."""
    gamma, root = folded[f"{name}.gamma"], sqrt(shape.hidden)
    mean = float(gamma.norm()) / shape.hidden  # of gamma N / d, for |N| <= 1
    return columns + root * (gamma.abs() + mean), norm + root * float(gamma.abs().max())


def _norm(x: Tensor) -> float:
    """The spectral norm, from the smaller Gram matrix."""
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    return sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0))


def _norm_of_product(a: Tensor, b: Tensor) -> float:
    """The spectral norm of a b for [many, few] and [few, many], from their triangular factors."""
    first, second = torch.linalg.qr(a, mode="r").R, torch.linalg.qr(b.T, mode="r").R
    return _norm(first @ second.T)
