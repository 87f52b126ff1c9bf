"""The oracle's trace beside the float model: what the private program opens, and where the float model has that value.

The fixed-point oracle (mpcnet.protocols.oracle) opens the values themselves. A :class:`Place` reads such a word as the
float model's site, and writes one; the program is the servers' own and knows nothing of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.checkpoints.folding import Folded
from mpcnet.models.families.bert import encode
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import Model, load
from mpcnet.models.float_model.watch import valid_pairs
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import encode as encode_weights
from mpcnet.models.private.parameters import encode_tokens, parameters
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.oracle import Look, evaluate
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import SHIFT

View: TypeAlias = Literal["rows", "heads", "pairs"]


def load_plain(config: Config, folded: Folded) -> Model:
    """The model as the oracle holds it: all weights whole."""
    words = encode_weights(config, folded)
    whole = {q.name: Shared(words[q.name], q.bits, q.frac, 0) for q in parameters(config)}
    return evaluate(lambda p: load(p, config, whole.items()))


def normal_values(model: Model, folded: Folded, tokens: Tokens, look: Look) -> Tensor:
    """The last layer's bare normalised values, [batch, seq, hidden], as the oracle computes them."""
    rows = _rows(model.config, folded, tokens)
    normal = evaluate(lambda p: encode(p, model, rows, tokens.mask), look)
    return ring.decode(normal.value, normal.frac, normal.bits)


def answer(model: Model, folded: Folded, tokens: Tokens) -> Tensor:
    """What a client would get, [batch, columns], as the oracle computes it: the private answer but for roundings."""
    return audited_answer(model, folded, tokens)[0]


def audited_answer(model: Model, folded: Folded, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """:func:`answer`, and where a value left its range, bool [batch]."""
    rows = _rows(model.config, folded, tokens)
    response = evaluate(lambda p: audited_inference(p, model, rows, tokens.mask))
    values, bits = response.values, response.out_of_range
    assert bits is not None
    out_of_range = ring.unpack_bits(bits.packed, bits.shape).bool().any(1)
    return ring.decode(values.value, values.frac, values.bits), out_of_range


def _rows(config: Config, folded: Folded, tokens: Tokens) -> list[Shared]:
    """The whole words of what a client shares."""
    words = encode_tokens(config, tokens, folded)
    return [
        Shared(ring.fit(x, given.bits), given.bits, given.frac, 0)
        for x, given in zip(words, config.inputs, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value of the float model is opened, as words of `bits` bits of which `frac` are fraction bits.

    It is opened as the site's value (some of its `columns` only) less a constant `less`.
    """

    label: str
    bits: int
    count: int
    site: str
    frac: int
    view: View = "rows"
    columns: slice | list[int] = field(default_factory=lambda: slice(None))
    less: float | Tensor = 0.0

    @property
    def key(self) -> tuple[str, int, int]:
        return self.label, self.bits, self.count

    def read(self, word: Tensor, mask: Tensor) -> Tensor:
        """The valid values at an opened word, laid out like the float model's site; `mask` is bool [batch, seq]."""
        value = ring.decode(word, self.frac, self.bits) + self.less
        return self._shown(value)[self._valid(mask)]

    def write(self, word: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        """The word with other valid values."""
        valid, less = self._valid(mask), torch.as_tensor(self.less, dtype=values.dtype).expand(word.shape)
        shown = self._shown(word).clone()
        shown[valid] = ring.reduce(ring.encode(values - self._shown(less)[valid], self.frac, self.bits), self.bits)
        if self.view == "heads":
            return shown.reshape(*shown.shape[:2], *word.shape[1::2]).transpose(1, 2)
        return shown.permute(0, 3, 1, 2) if self.view == "pairs" else shown

    def _shown(self, value: Tensor) -> Tensor:
        """As the float model shows it, but for padding: [batch, seq, ...], or [batch, query, key, head]."""
        if self.view == "heads":  # [batch, head, seq, head_dim] -> [batch, seq, hidden]
            return value.transpose(1, 2).flatten(2)
        return value.permute(0, 2, 3, 1) if self.view == "pairs" else value

    def _valid(self, mask: Tensor) -> Tensor:
        return valid_pairs(mask) if self.view == "pairs" else mask


def places(config: Config, length: int) -> Iterator[Place]:
    """Every opening of a value that the float model has too, but for softmax's numerators (:func:`numerators`)."""
    shape, formats = config.shape, config.formats
    d, entry = shape.hidden, "embedding.normal"
    before = -1.0 if shape.activation == "quad" else 0.0  # Quad completes the square before it opens
    down_bits = N.GELU_BITS - (N.GELU_FRAC + N.WEIGHT_FRAC - N.CENTRED_FRAC)
    yield Place("embedding/norm", formats.table_bits, 0, "embedding.centred", formats.table_frac)
    for i in range(shape.layers):
        layer = f"layer{i}"
        yield Place(f"{layer}/qkv", N.NORMAL_BITS, 0, entry, N.NORMAL_FRAC)
        query_frac, value_frac = formats.query_fracs[i], formats.value_frac(i, length)
        query, key = ((N.QUERY_BITS + query_frac, query_frac, count) for count in (0, 1))
        for j, (bits, frac, count) in enumerate((query, key, (N.VALUE_BITS, value_frac, 0))):
            yield Place(f"{layer}/attention", bits, count, f"{layer}.qkv", frac, "heads", slice(j * d, (j + 1) * d))
        if config.suite.numerators is None:  # a suite's own softmax opens no score as it is
            yield from _scores(formats, i)
        yield Place(f"{layer}/out", N.CONTEXT_BITS, 0, f"{layer}.context", N.CONTEXT_FRAC)
        frac = formats.centred_frac(f"{layer}.out")
        yield Place(f"{layer}/out/norm", N.CENTRED_BITS - formats.stream_frac + frac, 0, f"{layer}.out.centred", frac)
        yield Place(f"{layer}/up", N.NORMAL_BITS, 0, f"{layer}.out.normal", N.NORMAL_FRAC)
        yield Place(f"{layer}/activation", N.UP_BITS, 0, f"{layer}.up", N.UP_FRAC, less=before)
        yield Place(f"{layer}/down", N.GELU_BITS, 0, f"{layer}.activation", N.GELU_FRAC)
        frac = formats.centred_frac(f"{layer}.down")
        yield Place(f"{layer}/down/norm", down_bits - formats.stream_frac + frac, 0, f"{layer}.down.centred", frac)
        entry = f"{layer}.normal"


def _scores(formats: Formats, layer: int) -> Iterator[Place]:
    """Where scores are opened, under exact softmax once for each window."""
    label, site = f"layer{layer}/attention", f"layer{layer}.scores"
    if formats.softmax != "exact":
        shift = -SHIFT if formats.softmax == "2quad" else 0.0
        bits = formats.score_bits(layer)
        yield Place(f"{label}/{formats.softmax}", bits, 0, site, N.SCORE_FRAC, "pairs", less=shift)
        return
    seen: Counter[int] = Counter()
    for window in formats.windows[layer]:
        bits = window.period_bits + N.SCORE_FRAC
        columns, less = list(window.heads), window.lowest()
        yield Place(f"{label}/exp", bits, seen[bits], site, N.SCORE_FRAC, "pairs", columns, less)
        seen[bits] += 1


def numerators(config: Config, layer: int, length: int) -> Place:
    """Where softmax's numerators are opened: the float model's weights, under exact softmax up to a factor a row."""
    bits, frac = config.formats.weigh_bits(layer, length).product, config.formats.numerator_frac(length)
    return Place(f"layer{layer}/attention", bits, 0, f"layer{layer}.weights", frac, "pairs")
