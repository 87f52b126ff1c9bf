"""The plaintext model over the folded weights (mpcnet.models.checkpoints.folding.fold): what the private model must
reproduce.

Computes in the dtype of the weights: float64 to compare with, float32 to be quick. `observe(site, value)` sees every
intermediate value, valid tokens only; padded positions hold values of their own that nothing valid depends on. Inside
the encoder, what it returns (if not None) takes the value's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.folding import centre
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.image_shape import Image
from mpcnet.models.pooling import check_pooled, counted, weights
from mpcnet.models.position_bias import bias, by_distance, by_gap, distance_rows, float_falls, near_pairs
from mpcnet.models.rotary import float_waves, rotate
from mpcnet.models.shape import Activation, BertShape, Softmax
from mpcnet.models.texts.tokens import first_said
from mpcnet.protocols.softmax import RELU_EPS

Observe: TypeAlias = Callable[[str, Tensor], Tensor | None]
Folded: TypeAlias = Mapping[str, Tensor]

PIXEL = 1e-5  # that a pixel in single precision may be beyond its ends
QUAD_SHIFT = 5.0  # c of SecFormer's 2Quad, (s + c)^2 / sum (s + c)^2


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """Hands the valid part of each value to `observe`, and gives back what to go on with. mask is bool [batch, seq]."""

    mask: Tensor
    observe: Observe | None

    def rows(self, site: str, value: Tensor) -> Tensor:
        """[batch, seq, ...]"""
        return self._show(site, value, self.mask)

    def heads(self, site: str, value: Tensor) -> Tensor:
        """[batch, head, seq, ...]"""
        return self.rows(site, value.transpose(1, 2)).transpose(1, 2)

    def pairs(self, site: str, value: Tensor, near: Tensor | None = None) -> Tensor:
        """[batch, head, query, key]; shown as [pair, head], those that are `near`."""
        valid = valid_pairs(self.mask) if near is None else valid_pairs(self.mask) & near
        return self._show(site, value.permute(0, 2, 3, 1), valid).permute(0, 3, 1, 2)

    def _show(self, site: str, value: Tensor, valid: Tensor) -> Tensor:
        if self.observe is None:
            return value
        if bool(valid.all()):  # no padding: picking values by a mask takes several times as long as the model
            changed = self.observe(site, value.reshape(-1, *value.shape[valid.dim() :]))
            return value if changed is None else changed.reshape(value.shape)
        changed = self.observe(site, value[valid])
        if changed is None:
            return value
        value = value.clone()
        value[valid] = changed
        return value


def valid_pairs(mask: Tensor) -> Tensor:
    """Where query and key are both valid: bool [batch, seq] -> [batch, query, key]."""
    return mask[:, :, None] & mask[:, None, :]


def forward(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """Hidden states of the last layer, [batch, seq, hidden]; all inputs are [batch, seq].

    :raises LocalInputError: shapes differ, an id is out of range, or a row has no valid token.
    """
    normal, watch = _encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
    return watch.rows("final.hidden", folded["final.gamma"] * normal + folded["final.beta"])


def embed(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """The pooled hidden states and the dense maps of them, [batch, columns], not normalised."""
    hidden = forward(shape, folded, token_ids, type_ids, mask, softmax, observe)
    vector = torch.cat([_pooled(hidden, kind, mask, shape.pooled_from) for kind in shape.kinds], -1)
    for i, dense in enumerate(shape.dense):
        vector = vector @ folded[f"dense{i}.weight"] + folded[f"dense{i}.bias"]
        vector = torch.tanh(vector) if dense.activation == "tanh" else vector
    return vector


def _pooled(hidden: Tensor, kind: str, mask: Tensor, start: int) -> Tensor:
    """[batch, seq, hidden] -> [batch, hidden]"""
    if kind == "max":
        return hidden.masked_fill(~counted(mask, start)[..., None], -torch.inf).amax(1)
    return (hidden * weights(kind, mask, start)[..., None].to(hidden.dtype)).sum(1)


def classify(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """Logits, [batch, labels]: activation(N_first @ pooler) @ classifier, or of the mean of all tokens' N; of images
    (N_first, sum N_i) @ classifier.

    :raises LocalConfigError: the model has no classification head.
    """
    if shape.head != "classification":
        raise LocalConfigError(f"classify: want a model with head classification, got {shape.head}")
    normal, _ = _encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
    if shape.image is not None:
        pooled = torch.cat([normal[:, 0], normal[:, shape.image.lead :].sum(1)][: len(shape.kinds)], -1)
        logits = pooled @ folded["classifier.weight"] + folded["classifier.bias"]
        if observe is not None:
            observe("logits", logits)
        return logits
    first = _pooled(normal, "mean", mask, 0) if shape.pooling == "mean" else normal[:, 0]
    pooled = first @ folded["pooler.weight"] + folded["pooler.bias"]
    activated = ACTIVATIONS[shape.head_activation](pooled)
    if shape.head_norm:
        every = torch.ones(len(activated), 1, dtype=torch.bool)
        activated = _norm(centre(activated)[:, None], shape, "head", _Watch(every, observe))[:, 0]
    logits = activated @ folded["classifier.weight"] + folded["classifier.bias"]
    if observe is not None:
        observe("pooler.input", pooled)
        observe("logits", logits)
    return logits


def tag(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """Logits of every token, [batch, seq, columns]: one linear map, of N or what is :func:`transformed`. 0 at padding.

    :raises LocalConfigError: the model has no such head.
    """
    if not shape.tells_tokens:
        raise LocalConfigError(f"tag: want a model with a head for each token, got {shape.head}")
    normal, watch = _encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
    if shape.transforms:
        normal = _transformed(normal, shape, folded, watch)
    name = TOKEN_LINEARS[shape.head]
    logits = watch.rows("logits", normal @ folded[f"{name}.weight"] + folded[f"{name}.bias"])
    return logits * mask[..., None]


def transformed(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """What a masked language model decodes, at every token, [batch, seq, embedded].

    :raises LocalConfigError: the model has no such head.
    """
    if not shape.fills:
        raise LocalConfigError(f"transformed: want a model that fills masks, got {shape.head}")
    normal, watch = _encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
    return _transformed(normal, shape, folded, watch)


def _transformed(normal: Tensor, shape: BertShape, folded: Folded, watch: _Watch) -> Tensor:
    """norm(f(N @ transform)), [batch, seq, columns]."""
    up = watch.rows("transform.up", normal @ folded["transform.weight"] + folded["transform.bias"])
    return _norm(centre(ACTIVATIONS[shape.head_activation](up)), shape, "transform", watch)


def fill(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    places: Tensor,
    softmax: Softmax = "exact",
) -> Tensor:
    """A logit of every word at the places [batch, count]: [batch, count, vocab]; 0 where a place is said again."""
    found = transformed(shape, folded, token_ids, type_ids, mask, softmax)
    chosen = torch.take_along_dim(found, places[..., None], 1)
    return (chosen @ folded["decoder.weight"] + folded["decoder.bias"]) * first_said(places)[..., None]


def answer(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """What the model's head says: :func:`embed`, :func:`classify` or :func:`tag`, or :func:`fill` of some places.

    Without places a model that fills masks says what it decodes, :func:`transformed`, at every token.
    """
    if places is not None:
        return fill(shape, folded, token_ids, type_ids, mask, places, softmax)
    runs = {"embedding": embed, "classification": classify, "fill-mask": transformed}
    return runs.get(shape.head, tag)(shape, folded, token_ids, type_ids, mask, softmax, observe)


def check_tokens(shape: BertShape, token_ids: Tensor, type_ids: Tensor, mask: Tensor) -> None:
    """Refuse token arrays the model has no embedding for.

    :raises LocalInputError: see :func:`forward`.
    """
    if shape.image is not None:
        _check_rows(shape, shape.image, token_ids, mask)
        return
    sizes = [tuple(x.shape) for x in (token_ids, type_ids, mask)]
    if sizes[0] != sizes[1] or sizes[0] != sizes[2] or len(sizes[0]) != 2 or 0 in sizes[0]:
        raise LocalInputError(f"tokens: want ids, types and mask of one shape [batch, seq], got {sizes}")
    if sizes[0][1] > shape.positions:
        raise LocalInputError(f"tokens: want at most {shape.positions} positions, got {sizes[0][1]}")
    limits = (("ids", token_ids, shape.vocab), ("types", type_ids, max(shape.types, 1)), ("mask", mask, 2))
    for what, values, limit in limits:
        if int(values.min()) < 0 or int(values.max()) >= limit:
            raise LocalInputError(f"tokens: want {what} in 0 ... {limit - 1}, got one outside")
    if not bool(mask.bool().any(1).all()):
        raise LocalInputError("tokens: want a valid token in every row, got a row of padding")
    check_pooled(shape, mask)
    if shape.skipped_positions and bool((mask.diff(dim=1) > 0).any()):
        raise LocalInputError(
            "tokens: want padding after the tokens, whose positions this model counts, got some before"
        )


def _check_rows(shape: BertShape, image: Image, rows: Tensor, mask: Tensor) -> None:
    """Refuse what are no rows of images, or pixels that the model's image processor does not make.

    :raises LocalInputError: see :func:`check_tokens`.
    """
    want = (len(mask), image.rows, image.columns)
    if tuple(rows.shape) != want or 0 in want or tuple(mask.shape) != want[:2] or not bool(mask.bool().all()):
        raise LocalInputError(f"images: want {list(want)} rows of pixels without padding, got {list(rows.shape)}")
    low, high = (torch.tensor(ends).repeat_interleave(image.patch**2) for ends in (image.low, image.high))
    pixels = rows[:, image.lead :]
    if not bool(((pixels >= low - PIXEL) & (pixels <= high + PIXEL)).all()):
        raise LocalInputError(
            "images: want pixels as the model's image processor makes them, got some beyond its range"
        )


def _encoded(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax,
    observe: Observe | None,
) -> tuple[Tensor, _Watch]:
    """The last layer's bare normalised value, [batch, seq, hidden], and who watches what comes of it."""
    check_tokens(shape, token_ids, type_ids, mask)
    watch = _Watch(mask.bool(), observe)
    normal = _norm(look_up(shape, folded, token_ids, type_ids), shape, "embedding", watch)
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
        normal = _norm(stream, shape, f"layer{i}.out", watch)
        normal = watch.rows(f"layer{i}.out.normal", normal)
        own = f"layer{shape.feed_forward_of(i)}"
        residual = stream if shape.norm == "before" else _residual(folded, f"{own}.down", normal)
        residual = watch.rows(f"layer{i}.down.residual", residual)
        stream = _ffn(normal, folded, i, shape, watch) + residual
        normal = _norm(stream, shape, f"layer{i}.down", watch)
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


def _norm(centred: Tensor, shape: BertShape, site: str, watch: _Watch) -> Tensor:
    """C sqrt(d / T) with T = sum C^2 + d eps; C has zero mean."""
    centred, d = watch.rows(f"{site}.centred", centred), centred.shape[-1]
    square_sum = watch.rows(f"{site}.square_sum", centred.square().sum(-1) + d * shape.eps)
    return centred * (d / square_sum).sqrt()[..., None]


def _attention(normal: Tensor, folded: Folded, i: int, shape: BertShape, softmax: Softmax, watch: _Watch) -> Tensor:
    """sum_j p_j v_j / (sum_j p_j + eps) over valid keys j, with p and eps of `_numerators`; [batch, seq, hidden]."""
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
    weights, eps = _numerators(scores, row_max, softmax)
    weights = watch.pairs(f"{layer}.weights", weights.masked_fill(~valid, 0), near)
    row_sum = watch.heads(f"{layer}.row_sum", weights.sum(-1, keepdim=True) + eps)
    raw = watch.heads(f"{layer}.context_raw", weights @ value)
    return watch.rows(f"{layer}.context", (raw / row_sum).transpose(1, 2).flatten(2))


def _numerators(scores: Tensor, row_max: Tensor, softmax: Softmax) -> tuple[Tensor, float]:
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


def _ffn(normal: Tensor, folded: Folded, i: int, shape: BertShape, watch: _Watch) -> Tensor:
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
