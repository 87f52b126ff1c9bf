"""Weights as the servers hold them, opened once under standing masks, and the two maps that every part needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mpcnet.models.families.config import Config
from mpcnet.models.formats import fixed_point as N
from mpcnet.protocols.arith import linear
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.lookup import Table, table_shape
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, Shared, Weight
from mpcnet.randomness.source import Secret
from mpcnet.rounds import parallel

TABLE, TYPES, POSITIONS = "embedding.table", "embedding.type.weight", "embedding.position"  # parameters
DISTANCES = (".distance.query", ".distance.key")


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


def affine(p: Party, model: Model, name: str, x: Masked) -> Shared:
    """x W + b at the sum of their fraction bits. [B, n, in] -> [B, n, out]."""
    result = linear(p, x, model.weights[f"{name}.weight"])
    bias = model.shared[f"{name}.bias"].reduce(result.bits)
    return result + p.rescale(bias, result.frac)


async def normalise(p: Party, model: Model, site: str, x: Shared) -> Shared:
    """LayerNorm without gamma and beta: [B, n, d] in, bare normalised values in a ring of 48 bits out."""
    formats, shape = model.config.formats, model.config.shape
    rows, eps = formats.norm_rows(site), shape.eps
    rsqrt_frac = 64 - N.NORMAL_BITS + N.NORMAL_FRAC - x.frac
    sure, root = formats.sure(f"{site}.centred"), model.config.suite.rsqrt
    return await layer_norm(p.at("norm"), x, eps, rows, rsqrt_frac, N.NORMAL_FRAC, root, sure=sure)
