"""The private model's parameters: names, shapes, rings; from folded float weights to ring words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import POSITIONS, TABLE, TYPES
from mpcnet.models.float_model.encoder import look_up
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.pooling import DENSE_BITS
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.lookup import table_bits, table_shape

RELATIVE_BITS = N.QUERY_BITS + 2 * N.QUERY_FRAC  # a layer may take bits from its fraction, and then from its ring
MEAN = ".mean.weight"  # of a residual: the column that multiplies N to the mean of gamma N over d


@dataclass(frozen=True, slots=True)
class Parameter:
    """One array that the model owner shares between the servers."""

    name: str
    shape: tuple[int, ...]
    bits: int
    frac: int


def parameters(config: Config) -> list[Parameter]:
    """Every parameter of a model, in the order in which it is shared and loaded."""
    shape, formats = config.shape, config.formats
    d, narrow, wide = shape.hidden, shape.embedded, N.NORMAL_BITS
    table = (formats.table_bits, formats.table_frac)

    def linear(name: str, rows: int, columns: int, bits: int, frac: int = N.WEIGHT_FRAC) -> Iterator[Parameter]:
        yield Parameter(f"{name}.weight", (rows, columns), bits, frac)
        yield Parameter(f"{name}.bias", (columns,), bits, frac)

    def residual(name: str, frac: int = N.WEIGHT_FRAC) -> Iterator[Parameter]:
        yield Parameter(f"{name}.gamma", (d,), wide, frac)
        yield Parameter(f"{name}{MEAN}", (d, 1), wide, frac)

    found = []
    if shape.image is not None:
        found.append(Parameter("patch.weight", (shape.image.columns, d), N.PIXEL_BITS, formats.patch_frac))
        found.append(Parameter(POSITIONS, (shape.positions, d), N.PIXEL_BITS, N.PIXEL_FRAC + formats.patch_frac))
    elif config.embedding == "private":
        found.append(Parameter(TABLE, table_shape(shape.vocab, narrow, formats.table_bits), 1, formats.table_frac))
        if config.typed:
            found.append(Parameter(TYPES, (shape.types, narrow), *table))
        if shape.placed:
            found.append(Parameter(POSITIONS, (shape.positions, narrow), *table))
    if shape.relative_buckets:  # added to the scores before they are rescaled
        found.append(Parameter("relative.bias", (shape.relative_buckets, shape.heads), RELATIVE_BITS, 2 * N.QUERY_FRAC))
    before = shape.norm == "before"
    if before and shape.image is None:
        found += residual("stream", formats.start_frac)
        found.append(Parameter("stream.bias", (d,), wide, formats.start_frac))
    for i in range(shape.layers):
        layer, mapped = f"layer{i}", i == 0 and shape.embedding_width > 0
        if shape.attention_of(i) == i:
            found += linear(f"{layer}.qkv", narrow if mapped else d, 3 * d, wide, N.QKV_FRAC)
            if shape.distances:
                frac, size = formats.query_fracs[i], (shape.heads, shape.head_dim, 2 * shape.distances)
                bits = N.QUERY_BITS + frac
                found += [Parameter(f"{layer}.distance.{name}", size, bits, frac) for name in ("query", "key")]
            if mapped:
                found.append(Parameter(f"{layer}.out.entry.weight", (narrow, d), wide, N.WEIGHT_FRAC))
            elif not before:
                found += residual(f"{layer}.out")
            found += linear(f"{layer}.out", d, d, N.CONTEXT_BITS, formats.added_frac)
        if shape.feed_forward_of(i) == i:
            found += linear(f"{layer}.up", d, shape.inner, N.UP_PRODUCT_BITS, N.UP_WEIGHT_FRAC)
            if not before:
                found += residual(f"{layer}.down")
            found += linear(f"{layer}.down", shape.ffn, d, N.GELU_BITS, formats.added_frac)
    if shape.head == "classification" and shape.image is not None:
        found += linear("classifier", d * len(shape.kinds), shape.labels, wide, N.IMAGE_FRAC)
    elif shape.head == "classification":
        found += linear("pooler", d, d, wide)
        found += linear("classifier", d, shape.labels, N.POOLER_BITS)
    elif (last := TOKEN_LINEARS.get(shape.head)) is not None:
        if shape.transforms:
            found += linear("transform", d, shape.decoded, N.TOKEN_BITS)
        found += linear(last, shape.decoded, shape.columns, N.TOKEN_BITS)
    else:
        found += [Parameter(f"final.{name}", (d,), ring.MAX_BITS, N.WEIGHT_FRAC) for name in ("gamma", "beta")]
        rows = d * len(shape.kinds)
        for i, dense in enumerate(shape.dense):
            found += linear(f"dense{i}", rows, dense.columns, DENSE_BITS)
            rows = dense.columns
    return found


def encode_tokens(config: Config, tokens: Tokens, folded: Mapping[str, Tensor] | None = None) -> list[Tensor]:
    """What a client shares, as ring words: indices, or embeddings looked up in the public table of `folded`, or pixels;
    and the places whose words it wants.
    """
    words = _token_words(config, tokens, folded)
    if not config.shape.fills:
        return words
    if tokens.places is None:
        raise LocalInputError("tokens: want the places of masks, got none")
    return [*words, ring.fit(tokens.places, config.inputs[-1].bits)]


def _token_words(config: Config, tokens: Tokens, folded: Mapping[str, Tensor] | None) -> list[Tensor]:
    if config.shape.image is not None:
        return [ring.encode(tokens.ids, given.frac, given.bits) for given in config.inputs]
    if config.embedding == "client":
        if folded is None:
            raise LocalConfigError(
                "client: this program wants embeddings, so the client needs the model's public table"
            )
        rows = config.inputs[0]
        return [ring.encode(look_up(config.shape, folded, tokens.ids, tokens.types), rows.frac, rows.bits)]
    indices = (tokens.ids, tokens.types) if config.typed else (tokens.ids,)
    return [ring.fit(index, given.bits) for index, given in zip(indices, config.inputs, strict=False)]


def encode(config: Config, folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Folded float weights as ring words, with the columns that give the residuals' means."""
    words = {}
    folded = {**folded, **_tables(config, folded)}
    for parameter in parameters(config):
        value = _scaled(config, parameter.name, folded)
        if parameter.name == TABLE:
            bits = config.formats.table_bits
            words[TABLE] = table_bits(ring.encode(value, parameter.frac, bits), bits)
        else:
            words[parameter.name] = ring.encode(value, parameter.frac, parameter.bits)
    return words


def _scaled(config: Config, name: str, folded: Mapping[str, Tensor]) -> Tensor:
    """A parameter's values, times the power of 2 that the program divides the product by again."""
    d = config.shape.hidden
    if name.endswith(MEAN):
        return folded[name.removesuffix(MEAN) + ".gamma"].unsqueeze(1) * 2.0**N.MEAN_SHIFT / d
    if name.endswith((".qkv.weight", ".qkv.bias")):
        query_and_key, value = torch.split(folded[name], [2 * d, d], dim=-1)
        return torch.cat([query_and_key, value * 2.0**N.VALUE_SPARE], dim=-1)
    return folded[name]


def _tables(config: Config, folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The folded table as the servers have it: words, and types, whose only row is added to positions if it is one.

    Without positions it is added to words. Of images there are none.
    """
    if config.shape.image is not None:
        return {}
    words, types = torch.split(folded["embedding.table"], [config.shape.vocab, config.shape.types])
    single = types if len(types) == 1 else torch.zeros_like(words[:1])
    if not config.shape.placed:
        return {TABLE: words + single, TYPES: types}
    return {TABLE: words, TYPES: types, POSITIONS: folded["embedding.position"] + single}
