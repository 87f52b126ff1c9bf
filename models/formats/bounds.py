"""What no text can exceed: bounds on a model's intermediate values that follow from its weights alone.

LayerNorm's result N has mean 0 and norm sqrt(d) at most. So a linear output N w + b is below sqrt(d) |w - mean(w)| +
|b|; a score below d |A B'| + sqrt(d) (|A b_k| + |B b_q|) + |b_q b_k|, with the spectral norm of A B' for a head's
queries N A + b_q and keys N B + b_k; and a context, which is a mean of V's rows, below what V is. Tokens are finitely
many, so the sums of squares of embeddings are known exactly. Pixels lie between two ends, and so do rows of images.

All bounds are a little wider than that (`SLACK`), for what rounding adds. Where a value itself went wrong before,
nothing is proved of what follows; the audit has noticed then (mpcnet.protocols.audit).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from mpcnet.models.checkpoints.folding import Folded, centre
from mpcnet.models.float_model.functions import quad
from mpcnet.models.image_shape import Image
from mpcnet.models.position_bias import float_falls
from mpcnet.models.shape import BertShape

SLACK = 1.01  # formats keep 12 fraction bits and more of values and weights
MOST_COMBINATIONS = 1 << 28  # of words, types and positions: ten seconds; 250,002 words of 512 positions are half
ROWS = 8192  # of the embedding table, that are combined with all positions at a time


@dataclass(frozen=True, slots=True)
class Bounds:
    """For every text: `sizes` by site, what |value| stays below; sums of squares between two ends; scores by head."""

    sizes: Mapping[str, float]
    square_sums: Mapping[str, tuple[float, float]]
    scores: tuple[tuple[float, ...], ...]  # of each layer
    relative: float  # of what MPNet adds to a score, or ALiBi takes off it
    distances: tuple[float, ...] = ()  # of each layer: norms of DeBERTa's queries and keys of distances, together

    def beside(self, layer: int, norms: float) -> float:
        """What is added to, or taken off, a product of a query and a key whose squared norms are below `norms`."""
        return self.relative + (sqrt(norms) * self.distances[layer] if self.distances else 0.0)

    def products(self, shape: BertShape, layer: int) -> list[float]:
        """Of each head's queries with its keys, without what ALiBi takes off them."""
        return [score - SLACK * fall for score, fall in zip(self.scores[layer], _falls(shape), strict=True)]


def bounds(shape: BertShape, folded: Folded) -> Bounds:
    """The bounds of a folded model, at the sites of mpcnet.models.float_model.reference."""
    sizes: dict[str, float] = {}
    sums: dict[str, tuple[float, float]] = {}
    scores: list[tuple[float, ...]] = []
    parts: list[tuple[_Found, _Found]] = []
    stream = _stream(folded) if shape.norm == "before" and shape.image is None else None
    if shape.image is not None:
        stream = _patches(shape, shape.image, folded)
        sizes["embedding.centred"] = sizes["embedding.stream"] = SLACK * float(stream[0].max())
        least = shape.hidden * shape.eps
        sums["embedding.square_sum"] = (least, SLACK * stream[1] ** 2 + least)
    else:
        sizes["embedding.centred"] = _embedding_size(shape, folded)
        sums["embedding.square_sum"] = _embedding_sums(shape, folded)
    for i in range(shape.layers):
        one, two = shape.attention_of(i), shape.feed_forward_of(i)
        scores.append(scores[one] if one < i else tuple(SLACK * size for size in _scores(shape, folded, f"layer{i}")))
        attention = parts[one][0] if one < i else _attention(shape, folded, f"layer{i}")
        feed_forward = parts[two][1] if two < i else _feed_forward(shape, folded, f"layer{i}")
        parts.append((attention, feed_forward))
        for found, place in ((attention, "out"), (feed_forward, "down")):
            sizes |= {f"layer{i}.{name}": SLACK * size for name, size in found.sizes.items()}
            columns, norm = found.columns, found.norm
            if stream is not None:  # nothing has brought it back to norm sqrt(d)
                columns, norm = stream = (stream[0] + columns, stream[1] + norm)
            sizes[f"layer{i}.{place}.centred"] = SLACK * float(columns.max())
            least = shape.hidden * shape.eps
            sums[f"layer{i}.{place}.square_sum"] = (least, SLACK * norm**2 + least)
    if shape.head == "classification" and shape.image is not None:
        sizes["logits"] = SLACK * _label_differences(shape, folded)
    elif shape.head == "classification":
        columns = _linear(folded, "pooler")
        sizes["pooler.input"] = SLACK * float(columns.max())
        weight, bias = folded["classifier.weight"], folded["classifier.bias"]
        active = _active(shape.head_activation, columns)
        differences = ((weight[:, :, None] - weight[:, None, :]).abs() * active[:, None, None]).sum(0)
        sizes["logits"] = SLACK * float((differences + (bias[:, None] - bias[None, :]).abs()).max())
        if shape.head_norm:
            least = shape.hidden * shape.eps
            sizes["head.centred"] = SLACK * float(active.max() + active.mean())
            sums["head.square_sum"] = (least, SLACK * float(active.norm()) ** 2 + least)
    if shape.transforms:
        up = _linear(folded, "transform")
        active, added = _active(shape.head_activation, up), len(up) * shape.eps
        sizes["transform.up"] = SLACK * float(up.max())
        sizes["transform.centred"] = SLACK * float(active.max() + active.mean())
        sums["transform.square_sum"] = (added, SLACK * float(active.square().sum()) + added)
    if shape.head == "token-classification" or (shape.head == "classification" and shape.head_norm):
        sizes["logits"] = SLACK * _label_differences(shape, folded)
    relative = float(folded["relative.bias"].abs().max()) if shape.relative_buckets else max(_falls(shape))
    distances = [sum(map(max, _distances(folded, f"layer{i}"))) for i in range(shape.layers if shape.distances else 0)]
    return Bounds(sizes, sums, tuple(scores), relative, tuple(SLACK * size for size in distances))


def _embedding_size(shape: BertShape, folded: Folded) -> float:
    words, types, places = _tables(shape, folded)
    return SLACK * float((words.abs().amax(0) + types.abs().amax(0) + places.abs().amax(0)).max())


def _embedding_sums(shape: BertShape, folded: Folded) -> tuple[float, float]:
    """The least and the largest |word + type + position|^2 + d eps; of too many combinations, what their norms tell."""
    words, types, places = (table.float() for table in _tables(shape, folded))
    least, most = float("inf"), 0.0
    added = shape.embedded * shape.eps
    if len(words) * len(types) * len(places) > MOST_COMBINATIONS:
        first, second = words.norm(dim=1), (types[:, None] + places).reshape(-1, shape.embedded).norm(dim=1)
        apart = max(float(first.min() - second.max()), float(second.min() - first.max()), 0.0)
        return apart**2 / SLACK + added, float(first.max() + second.max()) ** 2 * SLACK + added
    for entry in types:
        here = places + entry
        for rows in torch.split(words, ROWS):
            found = rows.square().sum(1)[:, None] + 2 * rows @ here.T + here.square().sum(1)
            least, most = min(least, float(found.min())), max(most, float(found.max()))
    return max(least, 0.0) / SLACK + added, most * SLACK + added


def _patches(shape: BertShape, image: Image, folded: Folded) -> tuple[Tensor, float]:
    """Of every image's rows: each column, and the norm. A pixel is a centre and up to a half of its channel's range."""
    weight, places = folded["patch.weight"], folded["embedding.position"]
    low, high = (torch.tensor(x, dtype=weight.dtype).repeat_interleave(image.patch**2) for x in (image.low, image.high))
    centres, halves = (low + high) / 2, (high - low) / 2
    middle = centres @ weight + places[image.lead :]
    columns = middle.abs().amax(0) + halves @ weight.abs()
    norm = float(middle.norm(dim=1).max()) + float(halves.norm()) * _norm(weight)
    lead = places[: image.lead]
    norm = max(min(norm, float(columns.norm())), float(lead.norm(dim=1).max()))
    return torch.maximum(columns, lead.abs().amax(0)), norm


def _tables(shape: BertShape, folded: Folded) -> tuple[Tensor, Tensor, Tensor]:
    table = folded["embedding.table"]
    types = table[shape.vocab :] if shape.types else table.new_zeros(1, shape.embedded)
    places = folded["embedding.position"] if shape.placed else table.new_zeros(1, shape.embedded)
    return table[: shape.vocab], types, places


def _linear(folded: Folded, name: str) -> Tensor:
    """Of each column of N W + b."""
    weight = centre(folded[f"{name}.weight"].T).T
    columns: Tensor = sqrt(len(weight)) * weight.norm(dim=0) + folded[f"{name}.bias"].abs()
    return columns


def _active(activation: str, size: Tensor) -> Tensor:
    """Of an activation's results for |x| up to some sizes."""
    if activation == "quad":
        return quad(size)  # the largest of either sign
    return size.clamp(max=1.0) if activation == "tanh" else size  # GeLU, SiLU, ReLU: |f(x)| <= |x|


def _label_differences(shape: BertShape, folded: Folded) -> float:
    """Of any two logits of a token or an image: the norm of their columns' difference, with what N leaves of it."""
    found = (folded["classifier.bias"][:, None] - folded["classifier.bias"][None, :]).abs()
    counts = (1, 1 if shape.image is None else shape.image.rows - shape.image.lead)  # rows N whose sum is read
    weight = folded["classifier.weight"]
    for part, count in zip(torch.split(weight, len(weight) // len(shape.kinds)), counts, strict=False):
        columns = centre(part.T)
        found = found + count * sqrt(columns.shape[1]) * torch.cdist(columns, columns)
    return float(found.max())


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
    """Of each head's scores, with MPNet's bias, or DeBERTa's products with distances."""
    queries, keys = _distances(folded, layer) if shape.distances else ([0.0] * shape.heads,) * 2
    for head, ((a, bq), (b, bk), _) in enumerate(_heads(shape, folded, layer)):
        root = sqrt(len(a))
        if shape.rotary:  # turned, neither is longer than before
            yield (root * _norm(a) + float(bq.norm())) * (root * _norm(b) + float(bk.norm()))
            continue
        product = _norm_of_product(a, b.T)
        size = len(a) * product + root * float((a @ bk).norm() + (b @ bq).norm()) + abs(float(bq @ bk))
        size += (root * _norm(a) + float(bq.norm())) * keys[head] if shape.distances else 0.0
        size += (root * _norm(b) + float(bk.norm())) * queries[head] if shape.distances else 0.0
        size += float(folded["relative.bias"][:, head].abs().max()) if shape.relative_buckets else 0.0
        yield size + _falls(shape)[head]


def _falls(shape: BertShape) -> list[float]:
    """What ALiBi takes off a score of each head, at most."""
    if not shape.alibi:
        return [0.0] * shape.heads
    falls: list[float] = float_falls(shape.heads, shape.positions)[:, -1].tolist()
    return falls


def _distances(folded: Folded, layer: str) -> list[list[float]]:
    """The largest norm, by head, of the queries and of the keys of distances."""
    return [folded[f"{layer}.distance.{name}"].norm(dim=1).amax(1).tolist() for name in ("query", "key")]


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one half of a layer: values by name; of what is there before its LayerNorm, each column and the norm."""

    sizes: Mapping[str, float]
    columns: Tensor
    norm: float


def _attention(shape: BertShape, folded: Folded, layer: str) -> _Found:
    """Of V, and of what the attention's output and the residual are together before their LayerNorm."""
    weight, bias = folded[f"{layer}.out.weight"], folded[f"{layer}.out.bias"]
    columns, norm = bias.abs(), float(bias.norm())
    for head, (_, _, (v, bv)) in enumerate(_heads(shape, folded, layer)):
        out = weight[head * shape.head_dim : (head + 1) * shape.head_dim]
        constant, root = bv @ out, sqrt(len(v))
        columns = columns + root * (v @ out).norm(dim=0) + constant.abs()
        norm += root * _norm_of_product(v, out) + float(constant.norm())
    if shape.norm == "after":
        columns, norm = _with_residual(folded, f"{layer}.out", columns, norm)
    qkv = _linear(folded, f"{layer}.qkv")
    return _Found({"qkv": float(qkv.max()), "value": float(qkv[2 * shape.hidden :].max())}, columns, norm)


def _feed_forward(shape: BertShape, folded: Folded, layer: str) -> _Found:
    """Of the activation's input and result, and of what is there before the layer's last LayerNorm."""
    first, down, bias = _linear(folded, f"{layer}.up"), folded[f"{layer}.down.weight"], folded[f"{layer}.down.bias"]
    up = first[: shape.ffn]
    active = _active(shape.activation, up)
    norm = float(active.norm())
    if shape.activation != "quad":  # |f(u)| <= |u|
        inner = centre(folded[f"{layer}.up.weight"][:, : shape.ffn].T).T
        norm = min(sqrt(shape.hidden) * _norm(inner) + float(folded[f"{layer}.up.bias"][: shape.ffn].norm()), norm)
    sizes = {"up": float(up.max()), "activation": float(active.max())}
    if shape.gated:
        gate = first[shape.ffn :]
        active, norm = active * gate, norm * float(gate.max())
        sizes |= {"gate": float(gate.max()), "gated": float(active.max())}
    columns = torch.minimum(active @ down.abs(), norm * down.norm(dim=0)) + bias.abs()
    total = norm * _norm(down) + float(bias.norm())
    if shape.norm == "after":
        columns, total = _with_residual(folded, f"{layer}.down", columns, total)
    return _Found(sizes, columns, total)


def _stream(folded: Folded) -> tuple[Tensor, float]:
    """Of the residual before the first layer: each column, and the norm."""
    bias = folded["stream.bias"]
    return _with_residual(folded, "stream", bias.abs(), float(bias.norm()))


def _with_residual(folded: Folded, name: str, columns: Tensor, norm: float) -> tuple[Tensor, float]:
    """gamma N less its mean over d is added: |gamma_i| and |gamma - mean| limit it by column, the largest in norm."""
    if (entry := folded.get(f"{name}.entry.weight")) is not None:  # or N times a matrix
        root = sqrt(len(entry))
        return columns + root * entry.norm(dim=0), norm + root * _norm(entry)
    gamma = folded[f"{name}.gamma"]
    root = sqrt(len(gamma))
    mean = float(gamma.norm()) / len(gamma)  # of gamma N / d, for |N| <= 1
    return columns + root * (gamma.abs() + mean), norm + root * float(gamma.abs().max())


def _norm(x: Tensor) -> float:
    """The spectral norm, from the smaller Gram matrix."""
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    return sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0))


def _norm_of_product(a: Tensor, b: Tensor) -> float:
    """The spectral norm of a b for [many, few] and [few, many], from their triangular factors."""
    first, second = torch.linalg.qr(a, mode="r").R, torch.linalg.qr(b.T, mode="r").R
    return _norm(first @ second.T)
