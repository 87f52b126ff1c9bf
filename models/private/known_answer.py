"""What a program's protocols compute, as a digest: two parties that would compute other numbers refuse each other.

A plan has the shapes of all that is opened, and not one constant. A server with another constant in its softmax would
send frames of the right form, and every answer would be wrong. So each party runs, before it shakes hands, the
program's own suite and number formats on fixed public inputs, and hashes all that is opened:

* the functions of the suite over whole rings, by two servers and a dealer in lock-step under a fixed seed: masks and
  their keystream, point functions, growth, products, comparisons and the audit take part;
* exponentials and a model of the program's form, a layer of a few columns, by the oracle. The dealer's e^-r is the one
  number that is made in floating point, and under a mask of 0 it is 1.

So nothing depends on the host: integers, and floating point that IEEE 754 rounds correctly everywhere (sums, products,
quotients, square roots of exact numbers). With it goes the plan of a small request to the real program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.models.families.bert import infer
from mpcnet.models.families.config import Config
from mpcnet.models.families.feed_forward import activate
from mpcnet.models.families.loaded import TABLE, load
from mpcnet.models.formats import fixed_point as N
from mpcnet.models.head_shape import Dense
from mpcnet.models.image_shape import Image
from mpcnet.models.position_bias import buckets, distance_rows, falls
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.parameters import Parameter, parameters
from mpcnet.models.shape import BertShape
from mpcnet.protocols.audit import Audit
from mpcnet.protocols.gelu import tanh
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.lockstep_session import Session
from mpcnet.protocols.lookup import table_bits
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.share import Bits, Shared
from mpcnet.protocols.softmax import exponentials, mix, relus, squares, weigh
from mpcnet.rounds import Part

SEED = 0  # public, as are all inputs: nothing of a deployment is masked by it
ROWS, COLUMNS = 16, 32  # of each function's input
KEYS = 48  # of a row of scores: a window's tables are met at most places
TOKENS = 6
HEAD_DIM, FFN, VOCAB = 4, 8, 16
IMAGE = Image(4, 2, (-1.0,), (1.0,), registers=1)  # of as many rows as a text has tokens


def known_answer(config: Config) -> bytes:
    """SHA-256 of all that these runs open; takes a fraction of a second.

    :raises ValueError, ArithmeticError, LookupError: formats that no protocol can run with.
    """
    seen = _Seen()
    _functions(config, seen)
    _exponentials(config, seen)
    _model(config, seen)
    return seen.digest()


class _Seen:
    """A hash of words, each list of them with its form."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, part: Part, word: Tensor) -> None:
        self._hash.update(f"\n{part.label} {part.bits} {list(part.shape)}\n".encode())
        self._hash.update(ring.pack(word, part.bits).data)

    def round(self, parts: Sequence[Part], first: list[Tensor], second: list[Tensor]) -> None:
        """What both servers send."""
        for part, a, b in zip(parts, first, second, strict=True):
            self.add(part, a)
            self.add(part, b)

    def look(self, part: Part, count: int, word: Tensor) -> Tensor:
        """What the oracle opens."""
        self.add(part, word)
        return word

    def result(self, value: Shared | Bits) -> None:
        if isinstance(value, Bits):
            self.add(Part(1, value.shape, "bits"), value.packed)
        else:
            packed = ring.pack_bits(value.value) if value.bits == 1 else value.value
            self.add(Part(value.bits, value.shape, f"result {value.frac}"), packed)

    def digest(self) -> bytes:
        return self._hash.digest()


def _words(name: str, shape: Sequence[int], bits: int) -> Tensor:
    """Words of all magnitudes and both signs in a ring: a hash of the name, each shifted by a part of itself."""
    raw = np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * prod(shape)), "<i8")
    return ring.fit(torch.from_numpy(raw >> (64 - bits + raw % (bits - 1))).reshape(tuple(shape)), bits)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Of :func:`_run`, in its order."""

    up: Shared
    centred: Shared
    scores: Shared
    numerators: Shared
    value: Shared


def _functions(config: Config, seen: _Seen) -> None:
    """The suite's functions, by two servers and a dealer."""
    session = Session(SEED)
    bits, formats = config.formats.weigh_bits(0, ROWS), config.formats
    forms = {
        "up": ((1, ROWS, COLUMNS), N.UP_BITS, N.UP_FRAC),
        "centred": ((1, ROWS, COLUMNS), N.CENTRED_BITS, N.CENTRED_FRAC),
        "scores": ((1, 2, ROWS, ROWS), N.QUERY_BITS + 1, N.SCORE_FRAC),
        "numerators": ((1, 2, ROWS, ROWS), bits.product, formats.numerator_frac(ROWS)),
        "value": ((1, 2, ROWS, HEAD_DIM), bits.product, formats.value_frac(0, ROWS)),
    }
    shares = [session.share_words(_words(name, shape, k), k, frac) for name, (shape, k, frac) in forms.items()]
    inputs = [_Inputs(*(share[party] for share in shares)) for party in range(3)]
    run = session.run(lambda p, x: _run(p, config, x), inputs, watch=seen.round)
    for values in run.results[:2]:
        for value in values:
            seen.result(value)


async def _run(p: Party, config: Config, x: _Inputs) -> list[Shared | Bits]:
    """Every function that the program's layers use, one after the other, under one audit."""
    formats, suite = config.formats, config.suite
    keep = torch.ones(1, ROWS, dtype=torch.int64)
    keep[0, -1] = 0
    watching = Audit(keep)
    q = replace(p, audit=watching)
    found: list[Shared | Bits] = [
        await suite.gelu(q, x.up, suite.gelu_ring, False),
        await quad(q, x.up, N.GELU_BITS),
        await tanh(q, x.up, N.POOLER_BITS),
    ]
    for kind in sorted({config.shape.activation, config.shape.head_activation} - {"gelu", "quad", "tanh"}):
        found.append(await activate(q, suite, kind, x.up, N.GELU_BITS, sure=False))
    rsqrt_frac = 64 - N.NORMAL_BITS + N.NORMAL_FRAC - x.centred.frac
    rows = formats.norm_rows("embedding")
    found.append(await layer_norm(q, x.centred, config.shape.eps, rows, rsqrt_frac, N.NORMAL_FRAC, suite.rsqrt))
    bits, sums = formats.weigh_bits(0, ROWS), formats.softmax_rows(0, ROWS)
    keys = keep[:, None, None, :]
    if formats.softmax == "2quad":
        found.append(await squares(q, x.scores, keys, bits.product, formats.numerator_frac(ROWS)))
    elif formats.softmax == "2relu":
        found.append(await relus(q, x.scores, keys, bits.product))
    if suite.numerators is not None:
        found.append(await suite.numerators(q, x.scores, keys, bits.product, formats.numerator_frac(ROWS)))
    if suite.reciprocal is None:
        found.append(await mix(q, x.numerators, x.value, bits))
    else:
        found.append(await weigh(q, x.numerators, x.value, sums, bits, suite.reciprocal))
    return [*found, await watching.verdict(p)]


def _exponentials(config: Config, seen: _Seen) -> None:
    """Exact softmax's numerators of the first layer, by the oracle, of scores all over their ring."""
    formats = config.formats
    if formats.softmax != "exact" or config.suite.numerators is not None:
        return
    heads, bits = config.shape.heads, formats.score_bits(0)
    shape = (1, heads, KEYS, KEYS) if heads <= 4 else (1, heads, ROWS, KEYS)
    scores = Shared(_words("exponentials", shape, bits), bits, N.SCORE_FRAC, 0)
    keep = torch.ones(1, shape[2], dtype=torch.int64)

    async def run(p: Party) -> tuple[Shared, Bits]:
        watching = Audit(keep)
        columns = torch.ones(1, 1, 1, KEYS, dtype=torch.int64)
        q = replace(p, audit=watching)
        found = await exponentials(q, scores, columns, formats.numerator_frac(KEYS), formats.windows[0])
        return found, await watching.verdict(p)

    for value in evaluate(run, seen.look):
        seen.result(value)


def small(shape: BertShape) -> BertShape:
    """The form of a shape in a few columns and one layer: its heads, head, pooling, kinds of tables and activation."""
    image = None if shape.image is None else IMAGE
    dense = tuple(Dense(min(each.columns, HEAD_DIM), each.activation) for each in shape.dense)
    return replace(
        shape, layers=1, hidden=shape.heads * HEAD_DIM, ffn=FFN, vocab=VOCAB * (image is None), positions=TOKENS,
        skipped_positions=0, types=min(shape.types, 2), labels=min(shape.labels, 3), dense=dense,
        pooled_from=min(shape.pooled_from, 1), shared=(), embedding_width=min(shape.embedding_width, COLUMNS),
        rotary=shape.rotary[:1], distances=min(shape.distances, TOKENS - 2 * (shape.farthest > 0)),
        farthest=min(shape.farthest, TOKENS), windows=tuple(min(window, 2) for window in sorted(shape.windows)[-1:]),
        image=image,
    )  # fmt: skip


def _model(config: Config, seen: _Seen) -> None:
    """A whole model of the program's form, by the oracle: logits under an audit, and a label without."""
    tiny = replace(config, shape=small(config.shape))
    words = {q.name: Shared(_parameter(tiny, q), q.bits, q.frac, 0) for q in parameters(tiny)}
    model = evaluate(lambda p: load(p, tiny, words.items()), seen.look)
    keep = torch.ones(2, TOKENS, dtype=torch.int64)
    keep[1, TOKENS - 2 :] = int(tiny.shape.image is not None)
    rows = _tokens(tiny)
    answer = evaluate(lambda p: audited_inference(p, model, rows, keep), seen.look)
    seen.result(answer.values)
    assert answer.out_of_range is not None
    seen.result(answer.out_of_range)
    if config.shape.relative_buckets:  # few tokens are never far from each other
        far = buckets(config.formats.longest)
        seen.add(Part(8, tuple(far.shape), "buckets"), far.to(torch.uint8))
    if config.shape.alibi:
        fallen = falls(config.shape.heads, config.formats.longest, N.SCORE_FRAC)
        seen.add(Part(32, tuple(fallen.shape), "falls"), fallen.to(torch.int32))
    if config.shape.distances:
        apart = distance_rows(config.formats.longest, config.shape.distances, config.shape.farthest)
        seen.add(Part(16, tuple(apart.shape), "distances"), apart.to(torch.int16))
    if tiny.shape.chooses:
        seen.result(evaluate(lambda p: infer(p, model, rows, keep, "label"), seen.look))


def _weight(name: str, shape: Sequence[int], frac: int, bits: int) -> Tensor:
    """Within a half of 0, or of 1 for what scales."""
    raw: Any = np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * prod(shape)), "<u8")
    small_words = (raw % 2**frac).astype(np.int64) - 2 ** (frac - 1)
    whole = 2**frac if name.endswith("gamma") else 0
    return ring.fit(torch.from_numpy(small_words + whole).reshape(tuple(shape)), bits)


def _parameter(config: Config, q: Parameter) -> Tensor:
    """Any of a model's parameters; the vocabulary's table is the bits of its words."""
    if q.name != TABLE:
        return _weight(q.name, q.shape, q.frac, q.bits)
    shape, bits = config.shape, config.formats.table_bits
    return table_bits(_weight(q.name, (shape.vocab, shape.embedded), q.frac, bits), bits)


def _tokens(config: Config) -> list[Shared]:
    """What a client shares: indices of tokens and types, or embeddings, or pixels."""
    shape, rows = config.shape, (2, TOKENS)
    if config.embedding == "client" or shape.image is not None:
        form = config.inputs[0]
        found = [Shared(_weight("tokens", (*rows, *form.columns), form.frac, form.bits), form.bits, form.frac, 0)]
        return [*found, *_places(config)]
    ids = (torch.arange(2 * TOKENS) * 7 % shape.vocab).reshape(rows)
    given = (ids, ids % max(1, shape.types))
    forms = [form for form in config.inputs if not form.of_places]
    found = [Shared(ring.fit(x, form.bits), form.bits, 0, 0) for x, form in zip(given, forms, strict=False)]
    return [*found, *_places(config)]


def _places(config: Config) -> list[Shared]:
    """Of masks, one in each text; the second is behind its end."""
    index = torch.tensor([[1], [TOKENS + 2]])
    return [Shared(ring.fit(index, x.bits), x.bits, 0, 0) for x in config.inputs if x.of_places]
