"""The plaintext encoder over the folded weights, from embeddings to the last layer's bare normalised value.

Computes in the dtype of the weights. Padded positions hold values of their own that nothing valid depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.models.checkpoints.folding import Folded, centre
from mpcnet.models.float_model.functions import ACTIVATIONS, numerators
from mpcnet.models.float_model.inputs import check_tokens
from mpcnet.models.float_model.watch import Observe, Watch
from mpcnet.models.position_bias import bias, by_distance, by_gap, distance_rows, float_falls, near_pairs
from mpcnet.models.rotary import float_waves, rotate
from mpcnet.models.shape import BertShape, Softmax


def encoded(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax,
    observe: Observe | None,
) -> tuple[Tensor, Watch]:
    """The last layer's bare normalised value, [batch, seq, hidden], and who watches what comes of it."""
    check_tokens(shape, token_ids, type_ids, mask)
    watch = Watch(mask.bool(), observe)
    normal = norm(look_up(shape, folded, token_ids, type_ids), shape, "embedding", watch)
    normal = watch.rows("embedding.normal", normal)
    stream = None
    if shape.image is not None:
        stream = watch.rows("embedding.stream", look_up(shape, folded, token_ids, type_ids))
    elif shape.norm == "before":
        stream = centre(folded["stream.gamma"] * normal) + folded["stream.bias"]
    for i in range(shape.layers):
        own = f"layer{shape.attention_of(i)}"
        context = _attention(normal, folded, i, shape, softmax, watch)
        residual = _residual(folded, f"{own}.out", normal) if stream is None else stream
        residual = watch.rows(f"layer{i}.residual", residual)
        stream = context @ folded[f"{own}.out.weight"] + folded[f"{own}.out.bias"] + residual
        normal = norm(stream, shape, f"layer{i}.out", watch)
        normal = watch.rows(f"layer{i}.out.normal", normal)
        own = f"layer{shape.feed_forward_of(i)}"
        residual = stream if shape.norm == "before" else _residual(folded, f"{own}.down", normal)
        residual = watch.rows(f"layer{i}.down.residual", residual)
        stream = _ffn(normal, folded, i, shape, watch) + residual
        normal = norm(stream, shape, f"layer{i}.down", watch)
        normal = watch.rows(f"layer{i}.normal", normal)
        stream = stream if shape.norm == "before" else None
    return normal, watch


def _residual(folded: Folded, name: str, normal: Tensor) -> Tensor:
    """What stands beside a linear map before a LayerNorm, centred."""
    if (entry := folded.get(f"{name}.entry.weight")) is not None:
        return normal @ entry
    return centre(folded[f"{name}.gamma"] * normal)


def look_up(shape: BertShape, folded: Folded, token_ids: Tensor, type_ids: Tensor) -> Tensor:
    """Embeddings of words, types (if the model has them) and positions, centred: [batch, seq, embedded]. Or rows of
    images times the map of patches, and the rows of their places."""
    if shape.image is not None:
        patches = token_ids[:, shape.image.lead :].to(folded["patch.weight"].dtype) @ folded["patch.weight"]
        return torch.nn.functional.pad(patches, (0, 0, shape.image.lead, 0)) + folded["embedding.position"]
    table = folded["embedding.table"]
    words = table[token_ids]
    if shape.types:
        words = words + table[shape.vocab + type_ids]
    return words if not shape.placed else words + folded["embedding.position"][: token_ids.shape[1]]


def norm(centred: Tensor, shape: BertShape, site: str, watch: Watch) -> Tensor:
    """C sqrt(d / T) with T = sum C^2 + d eps; C has zero mean."""
    centred, d = watch.rows(f"{site}.centred", centred), centred.shape[-1]
    square_sum = watch.rows(f"{site}.square_sum", centred.square().sum(-1) + d * shape.eps)
    return centred * (d / square_sum).sqrt()[..., None]


def _attention(normal: Tensor, folded: Folded, i: int, shape: BertShape, softmax: Softmax, watch: Watch) -> Tensor:
    """sum_j p_j v_j / (sum_j p_j + eps) over valid keys j, with p and eps of `numerators`; [batch, seq, hidden]."""
    layer, own = f"layer{i}", f"layer{shape.attention_of(i)}"
    qkv = watch.rows(f"{layer}.qkv", normal @ folded[f"{own}.qkv.weight"] + folded[f"{own}.qkv.bias"])
    # [batch, seq, 3 * hidden] -> 3 x [batch, head, seq, head_dim]
    query, key, value = qkv.reshape(*qkv.shape[:2], 3, shape.heads, shape.head_dim).permute(2, 0, 3, 1, 4)
    value = watch.heads(f"{layer}.value", value)
    watch.heads(f"{layer}.norms", torch.stack([query, key], -2).square().sum(-1))
    if shape.rotary:
        cos, sin = float_waves(qkv.shape[1], shape.head_dim, shape.rotary[i])
        query, key = (rotate(x, cos.to(x.dtype), sin.to(x.dtype)) for x in (query, key))
    scores = query @ key.transpose(2, 3)  # [batch, head, query, key]
    if shape.relative_buckets:
        scores = scores + bias(folded["relative.bias"], scores.shape[-1])
    if shape.alibi:
        scores = scores - by_gap(float_falls(shape.heads, scores.shape[-1]).to(scores.dtype), scores.shape[-1])
    if shape.distances:
        rows = distance_rows(scores.shape[-1], shape.distances, shape.farthest)
        scores = scores + by_distance(query @ folded[f"{own}.distance.key"], rows, False)
        scores = scores + by_distance(key @ folded[f"{own}.distance.query"], rows, True)
    near = near_pairs(shape.window(i), scores.shape[-1])
    scores = watch.pairs(f"{layer}.scores", scores, near)
    valid = watch.mask[:, None, None, :]
    if near is not None:  # padding attends to all, or it might to nothing
        valid = valid & (near | ~watch.mask[:, None, :, None])
    row_max = watch.heads(f"{layer}.row_max", scores.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True))
    row_span = row_max - scores.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
    for head in range(shape.heads):
        watch.pairs(f"{layer}.head{head}.scores", scores[:, [head]], near)
        watch.heads(f"{layer}.head{head}.row_span", row_span[:, [head]])
    weights, eps = numerators(scores, row_max, softmax)
    weights = watch.pairs(f"{layer}.weights", weights.masked_fill(~valid, 0), near)
    row_sum = watch.heads(f"{layer}.row_sum", weights.sum(-1, keepdim=True) + eps)
    raw = watch.heads(f"{layer}.context_raw", weights @ value)
    return watch.rows(f"{layer}.context", (raw / row_sum).transpose(1, 2).flatten(2))


def _ffn(normal: Tensor, folded: Folded, i: int, shape: BertShape, watch: Watch) -> Tensor:
    """activation(N @ up) @ down + bias: what the feed-forward part adds."""
    layer, own = f"layer{i}", f"layer{shape.feed_forward_of(i)}"
    up = normal @ folded[f"{own}.up.weight"] + folded[f"{own}.up.bias"]
    if shape.gated:
        up, gate = up.chunk(2, -1)
        gate = watch.rows(f"{layer}.gate", gate)
    up = watch.rows(f"{layer}.up", up)
    activated = ACTIVATIONS[shape.activation](up)
    if shape.gated:
        activated = watch.rows(f"{layer}.activation", activated) * gate
        activated = watch.rows(f"{layer}.gated", activated)
    else:
        activated = watch.rows(f"{layer}.activation", activated)
    return activated @ folded[f"{own}.down.weight"] + folded[f"{own}.down.bias"]
