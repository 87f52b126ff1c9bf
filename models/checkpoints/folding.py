"""Folding: the weights of a checkpoint as the private program uses them, without a LayerNorm's own.

Folding moves every LayerNorm's gamma and beta, its centring and the scores' 1/sqrt(head_dim) into the linear maps,
so that between two linear maps only the bare normalised value N = (x - mean) / sqrt(var + eps) is left:

    qkv = N W + b;  C = attention @ out.weight + out.bias + centre(out.gamma * N);  N1 = norm(C)
    u = N1 @ up.weight + up.bias;  C = activation(u) @ down.weight + down.bias + centre(down.gamma * N1);  N = norm(C)

Images have no tables of words: rows of patches are mapped, and a row is added to each place.

Before-norm layers have the same maps between the same values, and add to a residual that is C itself: C' = C + ....
Their LayerNorms go by the names of those that come at their places: that before the feed-forward part is `out.norm`,
that before the next layer, or behind the last, `down.norm`.

Where a linear map follows the embeddings' LayerNorm, N of the first layer are the narrow embeddings, the map is folded
into qkv, and its own centred product with N stands in the place of out.gamma * N.

At last, maps that follow each other are balanced (mpcnet.models.checkpoints.balance).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mpcnet.models.checkpoints.balance import balanced
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.parameter_sizes import norm_behind
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.shape import BertShape

Folded: TypeAlias = Mapping[str, Tensor]


def fold(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The float64 weights the private model uses; linear weights are [in, out]. See the module's formulas."""
    shape = checkpoint.shape
    raw = _Doubled(checkpoint.tensors)
    folded = _fold_images(raw) if shape.image is not None else _fold_tables(raw, shape)
    if shape.relative_buckets:
        folded["relative.bias"] = raw["relative.weight"]
    entry = _projected(raw) if shape.embedding_width else _norm(raw, "embedding.norm")
    if shape.norm == "before" and shape.image is None:
        folded |= {"stream.gamma": entry.scale, "stream.bias": centre(entry.shift)}
    for i in range(shape.layers):
        own = f"layer{shape.weights_of(i)}"
        if shape.attention_of(i) == i:
            folded |= _fold_attention(raw, f"layer{i}", own, entry, shape)
        if shape.feed_forward_of(i) == i:
            folded |= _fold_ffn(raw, f"layer{i}", own, shape)
        entry = _norm(raw, norm_behind(shape, shape.weights_of(i)))
    folded |= {"final.gamma": entry.scale, "final.beta": entry.shift}
    if shape.head == "classification":
        folded |= _fold_classifier(raw, entry, shape)
    if shape.transforms:
        folded |= _linear("transform", *entry.into(raw, "transform"))
        entry = _norm(raw, "transform.norm")
    if (name := TOKEN_LINEARS.get(shape.head)) is not None:
        folded |= _linear(name, *entry.into(raw, name))
    for i in range(len(shape.dense)):
        folded |= {f"dense{i}.weight": raw[f"dense{i}.weight"].T, f"dense{i}.bias": raw[f"dense{i}.bias"]}
    folded = balanced(shape, folded)
    for name, value in folded.items():
        folded[name] = value.contiguous()  # one by one: never all of them twice
    return folded


@dataclass(frozen=True, slots=True, repr=False)
class _Doubled(Mapping[str, Tensor]):
    """Tensors in float64, each made when it is asked for: all of them at once are twice the checkpoint."""

    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].to(torch.float64)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def _fold_tables(raw: Mapping[str, Tensor], shape: BertShape) -> dict[str, Tensor]:
    """Of words, of types behind them, and of positions."""
    tables = [raw[name] for name in ("embedding.word.weight", "embedding.type.weight") if name in raw]
    folded = {"embedding.table": centre(torch.cat(tables))}
    if shape.placed:
        folded["embedding.position"] = centre(raw["embedding.position.weight"][shape.skipped_positions :])
    return folded


def _fold_images(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The map of patches, and a row for each place: what is added to it, the class token and registers among it."""
    places = raw["embedding.position.weight"]
    lead = [raw["embedding.class.weight"] + places[:1]]
    lead += [raw["embedding.register.weight"]] if "embedding.register.weight" in raw else []
    rows = torch.cat([*lead, places[1:] + raw["patch.bias"]])
    return {"patch.weight": centre(raw["patch.weight"].T), "embedding.position": centre(rows)}


def centre(x: Tensor) -> Tensor:
    """x - mean(x) over the last axis: x (I - 11'/d)."""
    return x - x.mean(-1, keepdim=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    """What stands between a bare normalised value N and who reads it: N scale + shift, or N * scale + shift."""

    scale: Tensor  # [in, out], or [out] of a LayerNorm alone
    shift: Tensor

    def into(self, raw: Mapping[str, Tensor], linear: str) -> tuple[Tensor, Tensor]:
        """(N S + c) W + b = N (S W) + (b + c W)."""
        weight = raw[f"{linear}.weight"].T
        inner = self.scale[:, None] * weight if self.scale.ndim == 1 else self.scale @ weight
        return inner, raw[f"{linear}.bias"] + self.shift @ weight


def _norm(raw: Mapping[str, Tensor], name: str) -> _Affine:
    return _Affine(raw[f"{name}.weight"], raw[f"{name}.bias"])


def _projected(raw: Mapping[str, Tensor]) -> _Affine:
    """The embeddings' LayerNorm and the map to the layers' width."""
    return _Affine(*_norm(raw, "embedding.norm").into(raw, "projection"))


def _linear(name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _before_norm(raw: Mapping[str, Tensor], name: str, own: str, entry: _Affine) -> dict[str, Tensor]:
    """x W + b + (N S + c), centred: the linear map into a LayerNorm and the residual beside it."""
    residual = (
        {f"{name}.gamma": entry.scale} if entry.scale.ndim == 1 else {f"{name}.entry.weight": centre(entry.scale)}
    )
    return residual | _linear(name, centre(raw[f"{own}.weight"].T), centre(raw[f"{own}.bias"] + entry.shift))


def _into_stream(raw: Mapping[str, Tensor], name: str, own: str) -> dict[str, Tensor]:
    """x W + b, centred: what is added to a residual that no LayerNorm has changed."""
    return _linear(name, centre(raw[f"{own}.weight"].T), centre(raw[f"{own}.bias"]))


def _fold_attention(
    raw: Mapping[str, Tensor], layer: str, own: str, entry: _Affine, shape: BertShape
) -> dict[str, Tensor]:
    """Scores are sums of products q_j k_j / sqrt(head_dim); the factor is split so that both have errors alike."""
    parts = [entry.into(raw, f"{own}.{name}") for name in ("query", "key", "value")]
    query, key = ((weight.square().sum(0) + bias.square()).sqrt() for weight, bias in parts[:2])  # N's variance is 1
    if shape.rotary:  # pairs of columns are turned into each other, and have one factor
        query, key = (_paired(size, shape.head_dim) for size in (query, key))
    scale = (shape.head_dim * (3 if shape.distances else 1)) ** -0.5  # DeBERTa's scores are sums of three products
    share = torch.where((query > 0) & (key > 0), (scale * key / query).sqrt(), scale)  # a zero column has any
    scales = (share, scale / share, torch.ones_like(share))
    qkv = _linear(
        f"{layer}.qkv",
        torch.cat([s * weight for s, (weight, _) in zip(scales, parts, strict=True)], dim=1),
        torch.cat([s * bias for s, (_, bias) in zip(scales, parts, strict=True)]),
    )
    if shape.distances:
        qkv |= _fold_distances(raw, layer, own, share, scale / share, shape)
    if shape.norm == "before":
        return qkv | _into_stream(raw, f"{layer}.out", f"{own}.out")
    return qkv | _before_norm(raw, f"{layer}.out", f"{own}.out", entry)


def _fold_distances(
    raw: Mapping[str, Tensor], layer: str, own: str, query: Tensor, key: Tensor, shape: BertShape
) -> dict[str, Tensor]:
    """Queries and keys of each row of the table of distances, as the layer makes them of it: [head, head_dim, row]."""
    table, maps = raw["distance.weight"], f"{own}.distance" if shape.own_distances else own
    if not shape.own_distances:
        norm = _norm(raw, "distance.norm")
        table = torch.nn.functional.layer_norm(table, table.shape[-1:], norm.scale, norm.shift, shape.eps)
    found = {}
    for name, factor in (("query", query), ("key", key)):
        values = (table @ raw[f"{maps}.{name}.weight"].T + raw[f"{maps}.{name}.bias"]) * factor
        heads = values.reshape(len(values), shape.heads, shape.head_dim)
        found[f"{layer}.distance.{name}"] = heads.permute(1, 2, 0)
    return found


def _paired(sizes: Tensor, columns: int) -> Tensor:
    """The root mean square of each pair of columns that RoPE turns, in both of its places: [hidden] -> [hidden]."""
    halves = sizes.reshape(-1, 2, columns // 2)
    return halves.square().mean(1, keepdim=True).sqrt().expand_as(halves).reshape(-1)


def _fold_classifier(raw: Mapping[str, Tensor], entry: _Affine, shape: BertShape) -> dict[str, Tensor]:
    """Of texts, two maps with an activation between them; of images, one of N of the class token, and of the sum of N
    over the patches beside it, if the classifier reads their mean.
    """
    weight, bias = raw["classifier.weight"].T, raw["classifier.bias"]
    if shape.image is not None:
        parts = []
        for part, count in zip(
            torch.split(weight, shape.hidden), (1, shape.image.rows - shape.image.lead), strict=False
        ):
            parts.append(entry.scale[:, None] * part / count)
            bias = bias + entry.shift @ part
        return _linear("classifier", torch.cat(parts), bias)
    last = _norm(raw, "pooler.norm").into(raw, "classifier") if shape.head_norm else (weight, bias)
    return _linear("pooler", *entry.into(raw, "pooler")) | _linear("classifier", *last)


def _fold_ffn(raw: Mapping[str, Tensor], layer: str, own: str, shape: BertShape) -> dict[str, Tensor]:
    """The first map's columns are the activation's, and behind them those that it multiplies, if it does."""
    entry = _norm(raw, f"{own}.out.norm")
    maps = [entry.into(raw, f"{own}.{name}") for name in ("up", "gate")[: 1 + shape.gated]]
    up = _linear(f"{layer}.up", torch.cat([weight for weight, _ in maps], 1), torch.cat([bias for _, bias in maps]))
    if shape.norm == "before":
        return up | _into_stream(raw, f"{layer}.down", f"{own}.down")
    return up | _before_norm(raw, f"{layer}.down", f"{own}.down", entry)
