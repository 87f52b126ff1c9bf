"""The plaintext model over the folded weights (mpcnet.models.checkpoints.weights.fold): what the private model must
reproduce.

Computes in the dtype of the weights: float64 to compare with, float32 to be quick. `observe(site, value)` sees every
intermediate value, valid tokens only; padded positions hold values of their own that nothing valid depends on. Inside
the encoder, what it returns (if not None) takes the value's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import gelu

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.weights import centre
from mpcnet.models.pooling import check_pooled, counted, weights
from mpcnet.models.position_bias import bias
from mpcnet.models.shape import TOKEN_LINEARS, BertShape, Softmax
from mpcnet.protocols.softmax import RELU_EPS

Observe: TypeAlias = Callable[[str, Tensor], Tensor | None]
Folded: TypeAlias = Mapping[str, Tensor]

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

    def pairs(self, site: str, value: Tensor) -> Tensor:
        """[batch, head, query, key]; shown as [pair, head]."""
        return self._show(site, value.permute(0, 2, 3, 1), valid_pairs(self.mask)).permute(0, 3, 1, 2)

    def _show(self, site: str, value: Tensor, valid: Tensor) -> Tensor:
        if self.observe is None:
            return value
        if bool(self.mask.all()):  # no padding: picking values by a mask takes several times as long as the model
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
    check_tokens(shape, token_ids, type_ids, mask)
    watch = _Watch(mask.bool(), observe)
    normal = _encoder(shape, folded, token_ids, type_ids, softmax, watch)
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
    """Logits, [batch, labels]: tanh(N_first @ pooler) @ classifier.

    :raises LocalConfigError: the model has no classification head.
    """
    if shape.head != "classification":
        raise LocalConfigError(f"classify: want a model with head classification, got {shape.head}")
    check_tokens(shape, token_ids, type_ids, mask)
    normal = _encoder(shape, folded, token_ids, type_ids, softmax, _Watch(mask.bool(), observe))
    pooled = normal[:, 0] @ folded["pooler.weight"] + folded["pooler.bias"]
    logits = torch.tanh(pooled) @ folded["classifier.weight"] + folded["classifier.bias"]
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
    """Logits of every token, [batch, seq, columns]: one linear map. 0 at padding.

    :raises LocalConfigError: the model has no such head.
    """
    if not shape.tells_tokens:
        raise LocalConfigError(f"tag: want a model with a head for each token, got {shape.head}")
    check_tokens(shape, token_ids, type_ids, mask)
    watch = _Watch(mask.bool(), observe)
    normal = _encoder(shape, folded, token_ids, type_ids, softmax, watch)
    name = TOKEN_LINEARS[shape.head]
    logits = watch.rows("logits", normal @ folded[f"{name}.weight"] + folded[f"{name}.bias"])
    return logits * mask[..., None]


def answer(
    shape: BertShape,
    folded: Folded,
    token_ids: Tensor,
    type_ids: Tensor,
    mask: Tensor,
    softmax: Softmax = "exact",
    observe: Observe | None = None,
) -> Tensor:
    """What the model's head says: :func:`embed`, :func:`classify` or :func:`tag`."""
    runs = {"embedding": embed, "classification": classify}
    return runs.get(shape.head, tag)(shape, folded, token_ids, type_ids, mask, softmax, observe)


def check_tokens(shape: BertShape, token_ids: Tensor, type_ids: Tensor, mask: Tensor) -> None:
    """Refuse token arrays the model has no embedding for.

    :raises LocalInputError: see :func:`forward`.
    """
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


def _encoder(
    shape: BertShape, folded: Folded, token_ids: Tensor, type_ids: Tensor, softmax: Softmax, watch: _Watch
) -> Tensor:
    """The last layer's bare normalised value, [batch, seq, hidden]."""
    normal = _norm(look_up(shape, folded, token_ids, type_ids), shape, "embedding", watch)
    normal = watch.rows("embedding.normal", normal)
    for i in range(shape.layers):
        context = _attention(normal, folded, f"layer{i}", shape, softmax, watch)
        residual = watch.rows(f"layer{i}.residual", centre(folded[f"layer{i}.out.gamma"] * normal))
        change = context @ folded[f"layer{i}.out.weight"] + folded[f"layer{i}.out.bias"]
        normal = _norm(change + residual, shape, f"layer{i}.out", watch)
        normal = watch.rows(f"layer{i}.out.normal", normal)
        normal = _norm(_ffn(normal, folded, f"layer{i}", shape, watch), shape, f"layer{i}.down", watch)
        normal = watch.rows(f"layer{i}.normal", normal)
    return normal


def look_up(shape: BertShape, folded: Folded, token_ids: Tensor, type_ids: Tensor) -> Tensor:
    """Embeddings of words, types (if the model has them) and positions, centred: [batch, seq, hidden]."""
    table = folded["embedding.table"]
    words = table[token_ids]
    if shape.types:
        words = words + table[shape.vocab + type_ids]
    return words + folded["embedding.position"][: token_ids.shape[1]]


def _norm(centred: Tensor, shape: BertShape, site: str, watch: _Watch) -> Tensor:
    """C sqrt(d / T) with T = sum C^2 + d eps; C has zero mean."""
    centred = watch.rows(f"{site}.centred", centred)
    square_sum = watch.rows(f"{site}.square_sum", centred.square().sum(-1) + shape.hidden * shape.eps)
    return centred * (shape.hidden / square_sum).sqrt()[..., None]


def _attention(normal: Tensor, folded: Folded, layer: str, shape: BertShape, softmax: Softmax, watch: _Watch) -> Tensor:
    """sum_j p_j v_j / (sum_j p_j + eps) over valid keys j, with p and eps of `_numerators`; [batch, seq, hidden]."""
    qkv = watch.rows(f"{layer}.qkv", normal @ folded[f"{layer}.qkv.weight"] + folded[f"{layer}.qkv.bias"])
    # [batch, seq, 3 * hidden] -> 3 x [batch, head, seq, head_dim]
    query, key, value = qkv.reshape(*qkv.shape[:2], 3, shape.heads, shape.head_dim).permute(2, 0, 3, 1, 4)
    value = watch.heads(f"{layer}.value", value)
    watch.heads(f"{layer}.norms", torch.stack([query, key], -2).square().sum(-1))
    scores = query @ key.transpose(2, 3)  # [batch, head, query, key]
    if shape.relative_buckets:
        scores = scores + bias(folded["relative.bias"], scores.shape[-1])
    scores = watch.pairs(f"{layer}.scores", scores)
    valid = watch.mask[:, None, None, :]
    row_max = watch.heads(f"{layer}.row_max", scores.masked_fill(~valid, -torch.inf).amax(-1, keepdim=True))
    row_span = row_max - scores.masked_fill(~valid, torch.inf).amin(-1, keepdim=True)
    for head in range(shape.heads):
        watch.pairs(f"{layer}.head{head}.scores", scores[:, [head]])
        watch.heads(f"{layer}.head{head}.row_span", row_span[:, [head]])
    weights, eps = _numerators(scores, row_max, softmax)
    weights = watch.pairs(f"{layer}.weights", weights.masked_fill(~valid, 0))
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


def _ffn(normal: Tensor, folded: Folded, layer: str, shape: BertShape, watch: _Watch) -> Tensor:
    """activation(N @ up) @ down + bias + centre(gamma N): the centred input of the layer's last LayerNorm."""
    up = watch.rows(f"{layer}.up", normal @ folded[f"{layer}.up.weight"] + folded[f"{layer}.up.bias"])
    activated = watch.rows(f"{layer}.activation", quad(up) if shape.activation == "quad" else gelu(up))
    residual = watch.rows(f"{layer}.down.residual", centre(folded[f"{layer}.down.gamma"] * normal))
    return activated @ folded[f"{layer}.down.weight"] + folded[f"{layer}.down.bias"] + residual
