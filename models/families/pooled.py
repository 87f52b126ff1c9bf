"""Sentence embeddings: every kind of pooling, and sentence-transformers' dense maps of it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.families.loaded import Model, affine
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.head_shape import Dense
from mpcnet.models.pooling import (
    DENSE_BITS,
    DENSE_FRAC,
    MAX_BITS,
    MAX_FRAC,
    POOLED_BITS,
    POOLED_FRAC,
    RESULT_BITS,
    SHARE_FRAC,
    counted,
    weights,
)
from mpcnet.protocols.arith import lift, own_ring, product
from mpcnet.protocols.gelu import tanh
from mpcnet.protocols.maximum import largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared
from mpcnet.rounds import parallel


async def pool(p: Party, model: Model, normal: Shared, keep: Tensor, columns: int) -> Shared:
    """gamma P(N) + beta for every kind of pooling P, concatenated, and the dense maps of it: [B, n, d] -> [B, columns].

    Fewer `columns` than the model has are the first of them. Where nothing follows the pooling, no others are opened.
    Nothing of it can leave its ring, whatever the text (mpcnet.models.pooling.too_large), so nothing is audited.

    Rounds   1 for sums over tokens; 2 more than mpcnet.protocols.maximum for the maximum, beside them; 1 for each dense
             map, and 3 for its tanh
    """
    shape = model.config.shape
    if not shape.dense:
        normal = normal.take(np.s_[..., :columns])
    sums = [kind for kind in shape.kinds if kind != "max"]
    branches: dict[str, Coroutine[Any, Any, Any]] = {"sums": _sums(p, model, normal, keep, sums)} if sums else {}
    if "max" in shape.kinds:
        branches["max"] = _largest(p.at("max"), model, normal, keep)
    found = dict(zip(branches, await parallel(*branches.values()), strict=True))
    summed = iter(found.get("sums", []))
    parts = [found["max"] if kind == "max" else next(summed) for kind in shape.kinds]
    pooled = replace(parts[0], value=torch.cat([part.value for part in parts], -1))
    for i, dense in enumerate(shape.dense):
        pooled = await _dense(p.at(f"dense{i}"), model, f"dense{i}", pooled, dense)
    result = p.rescale(pooled.take(np.s_[..., :columns]), N.LOGIT_FRAC)
    return result.reduce(min(result.bits, RESULT_BITS))


def _final(model: Model, columns: int) -> tuple[Masked, Shared]:
    """The last LayerNorm's gamma and beta, of the first columns."""
    return model.opened["final.gamma"].map(lambda x: x[:columns]), model.shared["final.beta"].take(slice(columns))


async def _sums(p: Party, model: Model, normal: Shared, keep: Tensor, kinds: Sequence[str]) -> list[Shared]:
    """gamma sum_i w_i N_i + beta sum_i w_i for the public weights w of each kind: a list of [B, d] in 64 bits.

    Rounds   1
    """
    start = model.config.shape.pooled_from
    shares = torch.stack([weights(kind, keep, start) for kind in kinds], 1)  # [B, kind, n]
    words = torch.round(shares * 2.0**SHARE_FRAC).to(torch.int64)
    summed = [normal.scale(words[:, i, :, None], SHARE_FRAC).sum(1) for i in range(len(kinds))]
    stacked = replace(summed[0], value=torch.stack([x.value for x in summed], 1))
    opened = await p.open_one(p.rescale(stacked, POOLED_FRAC).reduce(POOLED_BITS))
    gamma, beta = _final(model, normal.shape[-1])
    scaled = product(p, lift(p, opened, gamma.bits, sure=True), own_ring(gamma))
    total = torch.round(shares.sum(-1) * 2.0**POOLED_FRAC).to(torch.int64)
    scaled = scaled + beta.map(lambda x: x[None, None]).scale(total[..., None], POOLED_FRAC)
    return [scaled.take(np.s_[:, i]) for i in range(len(kinds))]


async def _largest(p: Party, model: Model, normal: Shared, keep: Tensor) -> Shared:
    """The largest gamma N + beta of each column over the pooled tokens: [B, n, d] -> [B, d] in 64 bits."""
    opened = await p.open_one(normal)
    gamma, shift = _final(model, normal.shape[-1])
    scaled = product(p, own_ring(opened), own_ring(gamma.reduce(opened.bits)))
    beta = p.rescale(shift.reduce(scaled.bits), scaled.frac)
    values = p.rescale(scaled + beta, MAX_FRAC).reduce(MAX_BITS)
    found = await largest(p, values, counted(keep, model.config.shape.pooled_from))
    wide = lift(p, await p.open_one(found), ring.MAX_BITS, sure=True).shared()
    return p.rescale(wide, POOLED_FRAC + N.WEIGHT_FRAC)


async def _dense(p: Party, model: Model, name: str, x: Shared, dense: Dense) -> Shared:
    """x W + b, and tanh if it follows: [B, in] -> [B, out]."""
    opened = await p.open_one(p.rescale(x, DENSE_FRAC).reduce(DENSE_BITS))
    mapped = affine(p, model, name, opened)
    if dense.activation == "identity":
        return mapped
    return await tanh(p.at("tanh"), p.rescale(mapped, N.UP_FRAC), DENSE_BITS)
