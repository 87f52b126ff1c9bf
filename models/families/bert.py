"""A private BERT: one input from token indices to the pooled result, read from top to bottom.

Every matrix product is [activation opened under a fresh mask] x [weight opened once per load under a standing mask].
Shapes: B sentences, n tokens each, d hidden, h heads, k = d / h.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models import rotary
from mpcnet.models.families.heads import at_tokens, bits_at_tokens, fill, tag
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.local_window import Band
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
from mpcnet.models.position_bias import bias, by_distance, distance_rows, near_pairs
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.rotary import rotate, waves
from mpcnet.models.shape import BertShape, Dense
from mpcnet.protocols.argmax import one_hot_argmax
from mpcnet.protocols.arith import lift, linear, matmul, own_ring, product
from mpcnet.protocols.gelu import gelu_tanh, relu, silu, tanh
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.lookup import Table, index_bits, look_up, look_up_short, table_shape
from mpcnet.protocols.maximum import largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.share import Bits, Masked, Shared, Weight
from mpcnet.protocols.softmax import RELU_EPS, exponentials, mix, relus, squares, weigh
from mpcnet.protocols.suites import Suite
from mpcnet.randomness.source import Secret
from mpcnet.rounds import parallel

Embedding: TypeAlias = Literal["private", "client"]
DISTANCES = (".distance.query", ".distance.key")
TABLE, TYPES, POSITIONS = "embedding.table", "embedding.type.weight", "embedding.position"  # parameters
AnswerKind: TypeAlias = Literal["logits", "label"]  # what a client gets: all results, or which logit is the largest


@dataclass(frozen=True, slots=True)
class Input:
    """An array that a client shares: [B, n, *columns] in the ring of `bits`; or a number for each place, [B, count]."""

    bits: int
    frac: int = 0
    columns: tuple[int, ...] = ()
    of_places: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The public description of a private model: what all parties must agree on.

    `embedding` says who looks tokens up: the servers, in a private table, or the client, in a table that is public.
    `preprocessing` is how clients make tokens of texts; None for random weights, which have no tokenizer.
    `labels` are the names of a classifier's, for who gets its answers. `answers` are the kinds that the owner allows.
    `weights` is a hiding commitment to the weights (mpcnet.models.private.commitment), "" for none.
    """

    shape: BertShape
    formats: Formats
    suite: Suite
    embedding: Embedding = "private"
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    answers: tuple[AnswerKind, ...] = get_args(AnswerKind)
    weights: str = ""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a client shares for each token: its index and its type's, if there are several, or its embedding; and
        the places of masks, if it wants them filled.
        """
        places = (Input(index_bits(self.shape.positions, short=True), of_places=True),) if self.shape.fills else ()
        if self.embedding == "client":
            return Input(self.formats.table_bits, self.formats.table_frac, (self.shape.embedded,)), *places
        words = Input(index_bits(self.shape.vocab))
        types = (Input(index_bits(self.shape.types, short=True)),) if self.typed else ()
        return words, *types, *places

    @property
    def typed(self) -> bool:
        """Whether servers look types up too. A single type is every token's: its row is added to each position's."""
        return self.embedding == "private" and self.shape.types > 1


@dataclass(frozen=True, slots=True, repr=False)
class Model:
    """Loaded weights: those that multiply are opened under standing masks, the others stay shared."""

    config: Config
    weights: Mapping[str, Weight]
    table: Table | None  # the vocabulary's, if the servers look it up
    opened: Mapping[str, Masked]  # what multiplies elementwise: gammas
    shared: Mapping[str, Shared]


async def load(p: Party, config: Config, shares: Iterable[tuple[str, Shared]]) -> Model:
    """Open every multiplying weight once; its mask r_W stands for as long as this model does.

    `shares` are the parameters by name, in order; they are asked for layer by layer, and not kept.

    Rounds   layers + 2, or 3 with LayerNorms before the layers' halves
    Sends    5 or 6 bytes a weight, 2 (or 3) an element of the embedding table
    Hiding   W^ = W + r_W, or W xor r_W, with r_W fresh, uniform, and used for this version of the weights only
    """
    weights: dict[str, Weight] = {}
    table: Table | None = None
    opened: dict[str, Masked] = {}
    shared: dict[str, Shared] = {}
    for group, rows in groupby(shares, lambda row: row[0].split(".")[0]):
        mine, q = dict(rows), p.at("load").at(group)
        multiplying = [name for name in mine if name.endswith((".weight", ".gamma", *DISTANCES))]
        values = [mine.pop(name) for name in multiplying]
        masked, found = await parallel(_open(q, values), _open_table(q, config, mine.pop(TABLE, None)))
        table = found or table
        for name, value in zip(multiplying, masked, strict=True):
            if name.endswith(".weight"):
                weights[name] = Weight.of(value)
            else:
                opened[name] = _standing(value)
        shared.update(mine)
    return Model(config, weights, table, opened, shared)


async def _open(p: Party, values: Sequence[Shared]) -> list[Masked]:
    return await p.open(*values) if values else []


async def _open_table(p: Party, config: Config, matrix: Shared | None) -> Table | None:
    """The vocabulary's, whose share is packed bits."""
    if matrix is None:
        return None
    shape, bits = config.shape, config.formats.table_bits
    size = table_shape(shape.vocab, shape.embedded, bits)
    (opened,) = await p.open_bits(Bits(matrix.value, size, matrix.party))
    return Table.of(opened, shape.embedded, bits, config.formats.table_frac)


def _standing(x: Masked) -> Masked:
    """Forget the dealer's copy of r_0: a weight is never grown."""
    return replace(x, mask=Secret(x.mask.bits, x.mask.share, x.mask.plain))


async def infer(
    p: Party, model: Model, tokens: Sequence[Shared], keep: Tensor, answer: AnswerKind = "logits", extent: int = 0
) -> Shared:
    """Tokens to sentence embeddings [B, columns], to logits [B, labels], or to a label as one-hot bits [B, labels].
    A head for each token has [B, n, columns], all 0 at padding; one that fills masks [B, places, vocab]. `extent`: the
    first columns of embeddings; 0: all.

    `tokens` are what a client shares (:attr:`Config.inputs`): indices [B, n] of the vocabulary, and of the types if
    there are several; or embeddings [B, n, d] where the client looks them up; then places [B, count] of masks, which
    stay secret. `keep` [B, n] is 1 for tokens and 0 for padding; it is public, and so are B, n and count.
    """
    shape, of_tokens = model.config.shape, keep if model.config.shape.tells_tokens else None
    if shape.fills:
        words = await fill(p, model, encode(p, model, tokens[:-1], keep), tokens[-1], keep.shape[1])
        return words + p.at("result").zero(words.shape, words.bits, words.frac)
    normal = await encode(p, model, tokens, keep)
    p.audit.tell(p)
    if shape.head == "classification":
        result = await classify(p, model, normal)
    elif of_tokens is not None:
        result = at_tokens(await tag(p.at("tokens"), model, normal), of_tokens)
    else:
        result = await pool(p.at("pool"), model, normal, keep, extent or shape.columns)
    if answer == "label":
        return await label(p, result, of_tokens, sure=model.config.formats.sure("logits"))
    return result + p.at("result").zero(result.shape, result.bits, result.frac)


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


async def encode(p: Party, model: Model, tokens: Sequence[Shared], keep: Tensor) -> Shared:
    """Tokens to the last layer's bare normalised values, [B, n, d]; see :func:`infer`."""
    x = tokens[0] if model.config.embedding == "client" else await embed(p.at("embedding"), model, *tokens)
    normal = await _norm(p.at("embedding"), model, "embedding", x)
    stream: Shared | None = None
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


async def _norm(p: Party, model: Model, site: str, x: Shared) -> Shared:
    """LayerNorm without gamma and beta: [B, n, d] in, bare normalised values in a ring of 48 bits out."""
    formats, shape = model.config.formats, model.config.shape
    rows, eps = formats.norm_rows(site), shape.eps
    rsqrt_frac = 64 - N.NORMAL_BITS + N.NORMAL_FRAC - x.frac
    sure, root = formats.sure(f"{site}.centred"), model.config.suite.rsqrt
    return await layer_norm(p.at("norm"), x, eps, rows, rsqrt_frac, N.NORMAL_FRAC, root, sure=sure)


async def encoder_layer(
    p: Party, model: Model, number: int, normal: Shared, stream: Shared | None, keep: Tensor
) -> tuple[Shared, Shared | None]:
    """One layer, from bare normalised values to bare normalised values: [B, n, d] -> [B, n, d].

    `stream` is the residual of layers with their LayerNorms before each half, None before the first of them: what they
    add to it is not normalised. Of other layers it is None.
    """
    shape, formats, layer = model.config.shape, model.config.formats, f"layer{number}"
    own, inner = f"layer{shape.attention_of(number)}", f"layer{shape.feed_forward_of(number)}"
    before = shape.norm == "before"
    opened = await p.at("qkv").open_one(normal)
    projected = _linear(p.at("qkv"), model, f"{own}.qkv", opened)
    if before:
        residual = stream or _start(p.at("qkv"), model, opened)
    else:
        residual = _residual(p.at("qkv"), model, f"{own}.out", opened)
    context = await attention(p, model, number, projected, keep)
    change = _linear(p.at("out"), model, f"{own}.out", await p.at("out").open_one(context))
    x = _added(p, change, residual, formats.stream_frac).reduce(N.CENTRED_BITS)
    y = p.rescale(x, formats.centred_frac(f"{layer}.out"))
    opened = await p.at("up").open_one(await _norm(p.at("out"), model, f"{layer}.out", y))
    projected = _linear(p.at("up"), model, f"{inner}.up", opened.reduce(N.UP_PRODUCT_BITS))
    residual = x if before else _residual(p.at("up"), model, f"{inner}.down", opened)
    activated = await feed_forward(p, model, number, projected)
    change = _linear(p.at("down"), model, f"{inner}.down", await p.at("down").open_one(activated))
    x = _added(p, change, residual, formats.stream_frac)
    y = p.rescale(x, formats.centred_frac(f"{layer}.down"))
    return await _norm(p.at("down"), model, f"{layer}.down", y), x if before else None


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


def _linear(p: Party, model: Model, name: str, x: Masked) -> Shared:
    """x W + b at the sum of their fraction bits. [B, n, in] -> [B, n, out]."""
    result = linear(p, x, model.weights[f"{name}.weight"])
    bias = model.shared[f"{name}.bias"].reduce(result.bits)
    return result + p.rescale(bias, result.frac)


def _residual(p: Party, model: Model, name: str, normal: Masked) -> Shared:
    """gamma N minus its mean over d, which is a product of its own: a sum of so many words would leave the ring.

    Of narrow embeddings: the map of N to d columns, centred.
    """
    if (entry := model.weights.get(f"{name}.entry.weight")) is not None:
        return linear(p, normal, entry)
    scaled = product(p, own_ring(normal), own_ring(model.opened[f"{name}.gamma"]))
    mean = linear(p, normal, model.weights[f"{name}.mean.weight"]).halve(N.MEAN_SHIFT)
    return scaled + -p.rescale(mean, scaled.frac)


async def attention(p: Party, model: Model, layer: int, projected: Shared, keep: Tensor) -> Shared:
    """softmax(q k' + bias) v for every head, the bias MPNet's: [B, n, 3 d] -> [B, n, d]."""
    shape, formats, p = model.config.shape, model.config.formats, p.at("attention")
    frac = formats.query_fracs[layer]
    batch, n = projected.shape[:2]
    d, heads, width = shape.hidden, shape.heads, shape.head_dim
    # [B, n, 3 d] -> 3 x [B, h, n, k]
    split = projected.map(lambda v: v.reshape(batch, n, 3, heads, width).permute(2, 0, 3, 1, 4))
    query, key, value = (split.take(i) for i in range(3))
    query, key = (p.rescale(x, frac).reduce(N.QUERY_BITS + frac) for x in (query, key))
    if shape.rotary:
        query, key = await turn(p.at("rotary"), query, key, shape.rotary[layer])
    value = p.rescale(value, formats.value_frac(layer, n)).reduce(N.VALUE_BITS)
    q, k, v = await p.open(query, key, value)
    if not formats.sure(f"layer{layer}.norms"):
        p.audit.norms(p, formats.norm_limits[layer], q, k)
    if not formats.sure(f"layer{layer}.value"):
        p.audit.within(p, v, formats.value_limit(layer, n))
    band = Band.of(shape.window(layer), n)
    scores = band.scores(p, q, k) if band else matmul(p, q, k.map(lambda x: x.transpose(2, 3)))
    if shape.relative_buckets:
        biases = model.shared["relative.bias"].map(lambda table: bias(table, n))
        scores = scores + p.rescale(biases, scores.frac).reduce(scores.bits)
    if shape.distances:
        scores = scores + _by_distance(p, model, layer, q, k)
    scores = p.rescale(scores, N.SCORE_FRAC)
    bits, rows = formats.weigh_bits(layer, n), formats.softmax_rows(layer, n)
    grown = lift(p, v, bits.product, sure=True).shared()
    keys = band.pairs(keep) if band else keep[:, None, None, :]
    if not band and (near := near_pairs(shape.window(layer), n)) is not None:
        keys = keys * near
    weights, eps = await _numerators(p, model.config, layer, scores, keys, bits.product, formats.numerator_frac(n))
    if (inverse := model.config.suite.reciprocal) is None:
        context = await mix(p, weights, grown, bits)
    else:
        multiply = band.weighted if band else matmul
        context = await weigh(p, weights, grown, rows, bits, inverse, eps, multiply)
    return context.map(lambda x: x.transpose(1, 2).reshape(batch, n, d))  # [B, h, n, k] -> [B, n, d]


def _by_distance(p: Party, model: Model, layer: int, query: Masked, key: Masked) -> Shared:
    """DeBERTa's two further products, of a query with the key of its distance to a token, and the other way round.

    Queries and keys of distances are weights, opened once per load; the rows that n tokens can need are multiplied.

    Rounds   0
    Offline  twice a word of the scores' ring for each token and row
    """
    shape, n = model.config.shape, query.shape[2]
    rows = distance_rows(n, shape.distances, shape.farthest)
    low, high = int(rows.min()), int(rows.max()) + 1
    total: Shared | None = None
    for x, name, by_key in ((query, "key", False), (key, "query", True)):
        table = model.opened[f"layer{layer}.distance.{name}"].map(lambda value: value[None, :, :, low:high])
        found = matmul(p, x, table).map(lambda value, by_key=by_key: by_distance(value, rows - low, by_key))  # type: ignore[misc]
        total = found if total is None else total + found
    assert total is not None
    return total


async def turn(p: Party, query: Shared, key: Shared, base: float) -> tuple[Shared, Shared]:
    """RoPE: queries and keys [B, h, n, k] turned by their places, which are public.

    The product with a public cosine takes ring bits that queries do not have left, so they are opened to grow first.

    Rounds   1
    Sends    4 bytes an element of each, each way
    Offline  4 bytes an element of each
    Hiding   both are opened under fresh masks of their rings
    Error    a unit of their fraction, and 2^-14 of their size
    Source   docs/protocol.md, "A BERT"; [RoFormer]
    """
    cos, sin = waves(query.shape[2], query.shape[3], base)
    turned = []
    for x in await p.open(query, key):
        wide = lift(p, x, x.bits + rotary.FRAC, sure=True).shared()  # proved of every model: see UNWATCHED
        halves = wide.map(lambda value: rotate(value, cos, sin))
        turned.append(p.rescale(replace(halves, frac=x.frac + rotary.FRAC), x.frac))
    return turned[0], turned[1]


async def _numerators(
    p: Party, config: Config, layer: int, scores: Shared, keep: Tensor, bits: int, frac: int
) -> tuple[Shared, float]:
    """What softmax weighs the values by, and what it adds to their sum: [B, h, n, n] -> [B, h, n, n]."""
    formats = config.formats
    if config.suite.numerators is not None:
        sure = all(formats.sure(f"layer{layer}.head{head}.row_span") for head in range(config.shape.heads))
        return await config.suite.numerators(p.at(config.suite.name), scores, keep, bits, frac, sure=sure), 0.0
    if formats.softmax == "exact":
        return await exponentials(p.at("exp"), scores, keep, frac, formats.windows[layer]), 0.0
    sure = formats.sure(f"layer{layer}.scores")
    if formats.softmax == "2quad":
        return await squares(p.at("2quad"), scores, keep, bits, frac, sure=sure), 0.0
    return await relus(p.at("2relu"), scores, keep, bits, sure=sure), RELU_EPS


async def feed_forward(p: Party, model: Model, number: int, projected: Shared) -> Shared:
    """The activation, and its product with the other half of the columns if it is gated: [B, n, inner] -> [B, n, ffn].

    Rounds   those of the activation, and 1 more if gated
    """
    config, layer, p = model.config, f"layer{number}", p.at("activation")
    shape, sure = config.shape, config.formats.sure(f"{layer}.up")
    up = p.rescale(projected, N.UP_FRAC).reduce(N.UP_BITS)
    if not shape.gated:
        return await activate(p, config.suite, shape.activation, up, N.GELU_BITS, sure=sure)
    up, gate = up.take(np.s_[..., : shape.ffn]), up.take(np.s_[..., shape.ffn :])
    activation = activate(p, config.suite, shape.activation, up, N.UP_BITS, sure=sure)
    activated, opened = await parallel(activation, p.at("gate").open_one(gate))
    wide = lift(p, await p.at("gate").open_one(activated), N.GATED_BITS, sure=True)  # no larger than `up`
    other = lift(p, opened, N.GATED_BITS, sure=config.formats.sure(f"{layer}.gate"))
    return p.rescale(product(p, wide, other), N.GELU_FRAC)


async def activate(p: Party, suite: Suite, kind: str, x: Shared, bits: int, *, sure: bool) -> Shared:
    """An activation, its result with the fraction bits of x in a ring of `bits`.

    Rounds   3; 1 of quad, 4 of gelu in SecFormer's suites
    """
    if kind == "gelu":
        activated = await suite.gelu(p, x, max(bits, suite.gelu_ring), sure)
        return p.rescale(activated, x.frac).reduce(bits)
    if kind == "quad":
        return await quad(p, x, bits, sure=sure)
    if kind == "tanh":
        return await tanh(p, x, bits)
    functions = {"gelu_tanh": gelu_tanh, "silu": silu, "relu": relu}
    found: Shared = await functions[kind](p, x, bits, sure)
    return found


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
    mapped = _linear(p, model, name, opened)
    if dense.activation == "identity":
        return mapped
    return await tanh(p.at("tanh"), p.rescale(mapped, N.UP_FRAC), DENSE_BITS)


async def classify(p: Party, model: Model, normal: Shared) -> Shared:
    """Logits from the first token: classifier(f(pooler(N_0))), f the head's activation: [B, n, d] -> [B, labels].

    Rounds   5, or 6 if f is GeLU in SecFormer's suites; and those of a LayerNorm, if one stands before the classifier
    """
    config, first = model.config, normal.take(np.s_[:, 0])
    pooled = _linear(p.at("pooler"), model, "pooler", await p.at("pooler").open_one(first))
    pooled = p.rescale(pooled, N.UP_FRAC).reduce(N.UP_BITS)
    kind = config.shape.head_activation
    activated = await activate(p.at(kind), config.suite, kind, pooled, N.POOLER_BITS, sure=True)
    if config.shape.head_norm:
        activated = await _norm(p.at("head"), model, "head", _centred(p, activated))
    logits = _linear(p.at("classifier"), model, "classifier", await p.at("classifier").open_one(activated))
    return p.rescale(logits, N.LOGIT_FRAC)


def _centred(p: Party, x: Shared) -> Shared:
    """x less its mean, as a LayerNorm's input: [B, d] in 48 bits -> [B, d]."""
    scale = 1 << N.HEAD_MEAN_FRAC
    mean = x.sum(-1, keepdim=True).scale(round(scale / x.shape[-1]), N.HEAD_MEAN_FRAC)
    centred = x.scale(scale, N.HEAD_MEAN_FRAC)
    return p.rescale(replace(centred, value=centred.value - mean.value), N.CENTRED_FRAC).reduce(N.CENTRED_BITS)
