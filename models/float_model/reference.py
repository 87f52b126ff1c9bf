"""The plaintext model over the folded weights (mpcnet.models.checkpoints.folding.fold): what the private model must
reproduce. Its encoder is in encoder.py; here is what heads make of it.

Computes in the dtype of the weights: float64 to compare with, float32 to be quick. An observer sees all that comes of
it (mpcnet.models.float_model.watch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import Folded, centre
from mpcnet.models.float_model.encoder import encoded, norm
from mpcnet.models.float_model.functions import ACTIVATIONS
from mpcnet.models.float_model.watch import Observe, Watch
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.pooling import counted, weights
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import first_said


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
    normal, watch = encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
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
    normal, _ = encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
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
        activated = norm(centre(activated)[:, None], shape, "head", Watch(every, observe))[:, 0]
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
    normal, watch = encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
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
    normal, watch = encoded(shape, folded, token_ids, type_ids, mask, softmax, observe)
    return _transformed(normal, shape, folded, watch)


def _transformed(normal: Tensor, shape: BertShape, folded: Folded, watch: Watch) -> Tensor:
    """norm(f(N @ transform)), [batch, seq, columns]."""
    up = watch.rows("transform.up", normal @ folded["transform.weight"] + folded["transform.bias"])
    return norm(centre(ACTIVATIONS[shape.head_activation](up)), shape, "transform", watch)


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
