"""What follows a model's last layer, by the head of its shape: from bare normalised values to what a client gets.

Pooling, the answer of most encoders, is in :mod:`mpcnet.models.families.pooled`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.families.feed_forward import activate
from mpcnet.models.families.loaded import Model, affine, normalise
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.pooling import POOLED_BITS, POOLED_FRAC, SHARE_FRAC, weights
from mpcnet.protocols.argmax import one_hot_argmax
from mpcnet.protocols.arith import lift, matmul
from mpcnet.protocols.lookup import one_hot_rows
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, Shared
from mpcnet.rounds import parallel


async def tag(p: Party, model: Model, normal: Shared) -> Shared:
    """Logits of every token, N W + b: [B, n, d] -> [B, n, columns] in a ring of 30 bits.

    None can leave its ring, whatever the text (mpcnet.models.pooling.too_large), so no logit is audited. Where the
    shape transforms, N is norm(f(N W + b)) before.

    Rounds   1; 7 more where it transforms, or 8 if f is GeLU in SecFormer's suites
    Sends    5 bytes an element of N each way; where it transforms, as many again and those of f and LayerNorm
    Offline  5 bytes a logit
    Error    that of N times W's norm, and rounding of W to 2^-14
    Hiding   N is opened under a fresh mask of 40 bits, uniform over all that is sent
    """
    opened = await p.open_one(normal.reduce(N.TOKEN_BITS))
    if model.config.shape.transforms:
        normal = await _transformed(p.at("transform"), model, _up(p.at("transform"), model, opened))
        p.audit.tell(p)
        opened = await p.open_one(normal.reduce(N.TOKEN_BITS))
    return p.rescale(affine(p, model, TOKEN_LINEARS[model.config.shape.head], opened), N.LOGIT_FRAC)


async def fill(p: Party, model: Model, encoding: Coroutine[Any, Any, Shared], places: Shared, length: int) -> Shared:
    """Logits of every word at places that stay secret: indices [B, count] of tokens -> [B, count, vocab] in 30 bits.

    decoder(norm(f(N_i W + b))) for the last layer's N, whose rows a one-hot row of each place picks, and the head's
    activation f. Whatever a client shares, each of its places is one token of its own text: index mod length.

    Rounds   9 behind the encoder: N and the one-hot rows, the rows picked, f's 3, LayerNorm's 3, the decoder's. The
             place's own opening travels with the encoder's first. One more if f is GeLU in SecFormer's suites
    Sends    5 bytes an element of N each way, and for a place 5 a token, 20 a column, and those of f and LayerNorm
    Offline  5 bytes a word of the vocabulary for each place, and 5 for each number that an index can name
    Error    that of f, LayerNorm and the weights' rounding; picking a row has none
    Hiding   places, N, one-hot rows and what is picked are opened under fresh masks, uniform over all that is sent
    """
    found: list[Shared] = await parallel(encoding, one_hot_rows(p.at("places"), places, length, N.TOKEN_BITS))
    normal, hot = found
    q = p.at("transform")
    rows, values = await q.open(hot, normal.reduce(N.TOKEN_BITS))
    picked = matmul(q, rows, values)
    up = _up(q, model, await q.open_one(picked))
    apart = up.map(lambda x: x[:, None, None])  # of no token: an audit counts all of it
    norm = await _transformed(q, model, apart)
    p.audit.tell(p)
    last = norm.map(lambda x: x[:, 0, 0]).reduce(N.TOKEN_BITS)
    q = p.at("decoder")
    return q.rescale(affine(q, model, "decoder", await q.open_one(last)), N.LOGIT_FRAC)


def _up(p: Party, model: Model, x: Masked) -> Shared:
    """The transform's map, as its activation takes it: [..., d] -> [..., columns]."""
    return p.rescale(affine(p, model, "transform", x), N.UP_FRAC).reduce(N.UP_BITS)


async def _transformed(p: Party, model: Model, up: Shared) -> Shared:
    """norm(f(up)), f the head's activation: what its last map takes."""
    kind, sure = model.config.shape.head_activation, model.config.formats.sure("transform.up")
    active = await activate(p.at("activation"), model.config.suite, kind, up, N.POOLER_BITS, sure=sure)
    return await normalise(p, model, "transform", _centred(p, active, N.HEAD_MEAN_FRAC))


async def _mean(p: Party, normal: Shared, keep: Tensor) -> Masked:
    """The mean of the tokens of the public mask, opened to grow again, and as it is multiplied: [B, n, d] -> [B, d].

    Rounds   2
    Hiding   either opening is under a fresh mask of its ring, uniform over all that is sent
    """
    words = torch.round(weights("mean", keep, 0) * 2.0**SHARE_FRAC).to(torch.int64)
    summed = normal.scale(words[..., None], SHARE_FRAC).sum(1)
    opened = await p.open_one(p.rescale(summed, POOLED_FRAC).reduce(POOLED_BITS))
    return await p.open_one(lift(p, opened, N.NORMAL_BITS, sure=True).shared())


async def classify(p: Party, model: Model, normal: Shared, keep: Tensor) -> Shared:
    """Logits from the first token: classifier(f(pooler(N_0))), f the head's activation: [B, n, d] -> [B, labels]. Or
    from the mean over the public mask [B, n] in the place of N_0.

    Rounds   5, 1 more of the mean, 1 more if f is GeLU in SecFormer's suites; and 3 of a LayerNorm, if one stands
             before the classifier
    """
    config, q = model.config, p.at("pooler")
    mean = config.shape.pooling == "mean"
    opened = await (_mean(q, normal, keep) if mean else q.open_one(normal.take(np.s_[:, 0])))
    pooled = affine(q, model, "pooler", opened)
    pooled = p.rescale(pooled, N.UP_FRAC).reduce(N.UP_BITS)
    kind = config.shape.head_activation
    activated = await activate(p.at(kind), config.suite, kind, pooled, N.POOLER_BITS, sure=True)
    if config.shape.head_norm:
        activated = await normalise(p.at("head"), model, "head", _centred(p, activated, N.HEAD_MEAN_FRAC))
        p.audit.tell(p)
    logits = affine(p.at("classifier"), model, "classifier", await p.at("classifier").open_one(activated))
    return p.rescale(logits, N.LOGIT_FRAC)


async def label(p: Party, logits: Shared, keep: Tensor | None = None, *, sure: bool = False) -> Shared:
    """The one-hot bits of the largest logit, the first of equal ones: [B, labels] in the ring of 1 bit, unpacked.

    Or [B, n, labels] of the tokens of the public mask `keep` [B, n], and 0 at padding.

    Fresh shares of them are uniform but for their sum, so whoever sees both learns the label and nothing else: no
    logit, and not the order of the others.

    Rounds   2 for two labels, 3 up to five
    Sends    4 bytes and 8 bits a sentence with two labels each way; each of the 8 in whole bytes for all sentences
    """
    hot = await one_hot_argmax(p.at("argmax"), logits, sure=sure)
    hot = hot if keep is None else bits_at_tokens(hot, keep)
    hot = hot ^ p.at("result").zero_bits(hot.shape)
    return Shared(ring.unpack_bits(hot.packed, hot.shape), 1, 0, hot.party)


def _centred(p: Party, x: Shared, frac: int) -> Shared:
    """x less its mean over d, as a LayerNorm's input; the mean is the sum times 1 / d, a public number of `frac` bits.

    Of the mean, d / 2^(frac + 1) is left at most. [..., d] -> [..., d] in 48 bits.
    """
    mean = x.sum(-1, keepdim=True).scale(round(2**frac / x.shape[-1]), frac)
    return p.rescale(x.scale(1 << frac, frac) + -mean, N.CENTRED_FRAC).reduce(N.CENTRED_BITS)


def at_tokens(x: Shared, keep: Tensor) -> Shared:
    """0 at padding, whose values nobody audits or asks for: [B, n, columns] for the public mask [B, n]."""
    return x.scale(keep[..., None])


def bits_at_tokens(x: Bits, keep: Tensor) -> Bits:
    """:func:`at_tokens` for bits."""
    chosen = ring.pack_bits(keep[..., None].expand(x.shape))
    return Bits(x.packed & chosen, x.shape, x.party)
