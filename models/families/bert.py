"""A private BERT: one input from token indices, or an image's pixels, to the pooled result, read from top to bottom.

Every matrix product is [activation opened under a fresh mask] x [weight opened once per load under a standing mask].
Shapes: B sentences, n tokens each, d hidden, h heads, k = d / h.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mpcnet.models.families.attention import attention
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.families.feed_forward import feed_forward
from mpcnet.models.families.heads import at_tokens, classify, fill, label, tag
from mpcnet.models.families.images import classify_image, embed_patches
from mpcnet.models.families.loaded import POSITIONS, TYPES, Model, affine, normalise
from mpcnet.models.families.pooled import pool
from mpcnet.models.formats import fixed_point as N
from mpcnet.protocols.arith import linear, own_ring, product
from mpcnet.protocols.lookup import look_up, look_up_short
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared
from mpcnet.rounds import parallel


async def infer(
    p: Party, model: Model, tokens: Sequence[Shared], keep: Tensor, answer: AnswerKind = "logits", extent: int = 0
) -> Shared:
    """Tokens to sentence embeddings [B, columns], to logits [B, labels], or to a label as one-hot bits [B, labels].
    A head for each token has [B, n, columns], all 0 at padding; one that fills masks [B, places, vocab]. `extent`: the
    first columns of embeddings; 0: all.

    `tokens` are what a client shares (:attr:`Config.inputs`): indices [B, n] of the vocabulary, and of the types if
    there are several; or embeddings [B, n, d] where the client looks them up, or an image's rows; then places
    [B, count] of masks, which stay secret. `keep` [B, n] is 1 for tokens and 0 for padding; it is public, and so are B,
    n and count.
    """
    shape, of_tokens = model.config.shape, keep if model.config.shape.tells_tokens else None
    if shape.fills:
        words = await fill(p, model, encode(p, model, tokens[:-1], keep), tokens[-1], keep.shape[1])
        return words + p.at("result").zero(words.shape, words.bits, words.frac)
    normal = await encode(p, model, tokens, keep)
    if not shape.head_norm:  # else something of the head is audited too, and told of there
        p.audit.tell(p)
    if shape.head == "classification":
        if shape.image is None:
            result = await classify(p, model, normal, keep)
        else:
            result = await classify_image(p, model, normal)
    elif of_tokens is not None:
        result = at_tokens(await tag(p.at("tokens"), model, normal), of_tokens)
    else:
        result = await pool(p.at("pool"), model, normal, keep, extent or shape.columns)
    if answer == "label":
        return await label(p, result, of_tokens, sure=model.config.formats.sure("logits"))
    return result + p.at("result").zero(result.shape, result.bits, result.frac)


async def encode(p: Party, model: Model, tokens: Sequence[Shared], keep: Tensor) -> Shared:
    """Tokens to the last layer's bare normalised values, [B, n, d]; see :func:`infer`."""
    stream: Shared | None = None
    if model.config.shape.image is not None:
        x, stream = await embed_patches(p.at("embedding"), model, tokens[0])
    else:
        x = tokens[0] if model.config.embedding == "client" else await embed(p.at("embedding"), model, *tokens)
    normal = await normalise(p.at("embedding"), model, "embedding", x)
    for i in range(model.config.shape.layers):
        normal, stream = await encoder_layer(p.at(f"layer{i}"), model, i, normal, stream, keep)
    return normal


async def embed(p: Party, model: Model, words: Shared, types: Shared | None = None) -> Shared:
    """Rows of the vocabulary and of the types at [B, n] indices, and of the positions, which are public, a slice.

    Whatever a client shares, each token gets one row of each.

    Rounds   3
    Sends    a bit a token and row of the vocabulary each way, and what mpcnet.protocols.lookup adds
    """
    assert model.table is not None
    look = look_up(p, words, model.table)
    if types is None:
        row = await look
    else:
        found: list[Shared] = await parallel(look, look_up_short(p.at("types"), types, model.weights[TYPES]))
        row = found[0] + found[1]
    if (places := model.shared.get(POSITIONS)) is None:
        return row
    return row + places.take(slice(words.shape[1]))


async def encoder_layer(
    p: Party, model: Model, number: int, normal: Shared, stream: Shared | None, keep: Tensor
) -> tuple[Shared, Shared | None]:
    """One layer, from bare normalised values to bare normalised values: [B, n, d] -> [B, n, d].

    `stream` is the residual of layers with their LayerNorms before each half, None before the first of them where it
    begins with what is normalised: what they add to it is not. Of other layers it is None.
    """
    shape, formats, layer = model.config.shape, model.config.formats, f"layer{number}"
    own, inner = f"layer{shape.attention_of(number)}", f"layer{shape.feed_forward_of(number)}"
    before = shape.norm == "before"
    opened = await p.at("qkv").open_one(normal)
    projected = affine(p.at("qkv"), model, f"{own}.qkv", opened)
    if before:
        residual = stream or _start(p.at("qkv"), model, opened)
    else:
        residual = _residual(p.at("qkv"), model, f"{own}.out", opened)
    context = await attention(p, model, number, projected, keep)
    change = affine(p.at("out"), model, f"{own}.out", await p.at("out").open_one(context))
    x = _added(p, change, residual, formats.stream_frac).reduce(N.CENTRED_BITS)
    y = p.rescale(x, formats.centred_frac(f"{layer}.out"))
    opened = await p.at("up").open_one(await normalise(p.at("out"), model, f"{layer}.out", y))
    projected = affine(p.at("up"), model, f"{inner}.up", opened.reduce(N.UP_PRODUCT_BITS))
    residual = x if before else _residual(p.at("up"), model, f"{inner}.down", opened)
    activated = await feed_forward(p, model, number, projected)
    change = affine(p.at("down"), model, f"{inner}.down", await p.at("down").open_one(activated))
    x = _added(p, change, residual, formats.stream_frac)
    y = p.rescale(x, formats.centred_frac(f"{layer}.down"))
    return await normalise(p.at("down"), model, f"{layer}.down", y), x if before else None


def _added(p: Party, change: Shared, residual: Shared, frac: int) -> Shared:
    """What a linear map adds to a residual, with `frac` fraction bits.

    A product beside it is added before both are rescaled at once.
    """
    if residual.frac > frac:
        return p.rescale(change + p.rescale(residual, change.frac), frac)
    return p.rescale(change, frac) + residual


def _start(p: Party, model: Model, normal: Masked) -> Shared:
    """The residual before the first layer: the embedding's gamma N + beta, centred."""
    scaled = _residual(p, model, "stream", normal)
    bias = p.rescale(model.shared["stream.bias"].reduce(scaled.bits), scaled.frac)
    return p.rescale(scaled + bias, model.config.formats.stream_frac).reduce(N.CENTRED_BITS)


def _residual(p: Party, model: Model, name: str, normal: Masked) -> Shared:
    """gamma N minus its mean over d, which is a product of its own: a sum of so many words would leave the ring.

    Of narrow embeddings: the map of N to d columns, centred.
    """
    if (entry := model.weights.get(f"{name}.entry.weight")) is not None:
        return linear(p, normal, entry)
    scaled = product(p, own_ring(normal), own_ring(model.opened[f"{name}.gamma"]))
    mean = linear(p, normal, model.weights[f"{name}.mean.weight"]).halve(N.MEAN_SHIFT)
    return scaled + -p.rescale(mean, scaled.frac)
