"""Attention of a private model: queries, keys and values in, contexts out."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mpcnet.models import rotary
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import Model
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.local_window import Band
from mpcnet.models.position_bias import bias, by_distance, by_gap, distance_rows, falls, near_pairs
from mpcnet.models.rotary import rotate, waves
from mpcnet.protocols.arith import lift, matmul
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Masked, Shared
from mpcnet.protocols.softmax import RELU_EPS, exponentials, mix, relus, squares, weigh


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
    value = p.rescale(value.halve(N.VALUE_SPARE), formats.value_frac(layer, n)).reduce(N.VALUE_BITS)
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
    if shape.alibi:  # public: it takes no round
        scores = scores - by_gap(falls(shape.heads, n, N.SCORE_FRAC) / 2.0**N.SCORE_FRAC, n)
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
