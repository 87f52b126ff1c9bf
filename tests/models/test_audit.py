"""The audit of whole models: every kind of site is found out of range, and texts in range never are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import sqrt

import pytest
import torch
from private import TINY, Private, audit, share_model, tiny_model
from torch import Tensor

from models import numbers as N
from models import reference
from models.demo import demo_checkpoint
from models.prepare import prepare
from models.program import Size
from models.text import Tokens
from models.weights import fold
from protocols.audit import NORM

D = TINY.hidden
BOTH = pytest.mark.parametrize("softmax", ["exact", "2quad"])


@cache
def tiny(suite: str, softmax: str) -> tuple[Private, Tokens]:
    return tiny_model(suite, softmax)  # type: ignore[arg-type]


def largest(model: Private, tokens: Tokens, site: str) -> float:
    """What the float model has at a site."""
    seen: dict[str, Tensor] = {}
    shape, softmax = model.config.shape, model.config.numbers.softmax
    reference.embed(shape, model.folded, tokens.ids, tokens.types, tokens.mask, softmax, seen.__setitem__)
    return float(seen[site].abs().max())


def scaled(model: Private, name: str, factor: float, columns: slice = slice(None)) -> Private:
    """The model with larger weights than those it was calibrated with."""
    weight = model.folded[name].clone()
    weight[..., columns] *= factor
    return share_model(model.config, {**model.folded, name: weight})


@pytest.mark.parametrize("suite", ["fast", "secformer", "secformer-v1"])
@BOTH
def test_in_range_nothing_is_flagged_and_the_answer_is_the_same(suite: str, softmax: str) -> None:
    model, tokens = tiny(suite, softmax)
    private, found, run = audit(model, tokens)
    floats = reference.embed(TINY, model.folded, tokens.ids, tokens.types, tokens.mask, model.config.numbers.softmax)
    assert (private - floats).abs().max() < 0.02
    assert found == [False, False, False]
    bare = model.plans.infer(Size(*tokens.ids.shape)).ledger
    maxima = TINY.heads * tokens.ids.numel()  # of exact softmax: opened in as wide a ring as the scores, a byte wider
    for name, cost in bare.operations.items():  # all else costs what it did; the audit's own comes on top
        same, more = run.ledger.operations[name], maxima if name.endswith("/exp") else 0
        assert (same.rounds, same.sent_bytes) == (cost.rounds, cost.sent_bytes + more), name
        assert sum(same.dealt_bytes) == sum(cost.dealt_bytes) + 31 * more, name
    assert run.ledger.operations["audit"].rounds <= 3


def test_many_runs_in_range() -> None:
    """Shares, masks and roundings differ each time."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1))
    few = Tokens(*(x[:2, :4] for x in (tokens.ids, tokens.types, tokens.mask)))
    assert all(audit(model, few)[1] == [False, False] for _ in range(20))


@pytest.mark.parametrize(
    ("softmax", "name", "columns", "factor", "site", "limit"),
    [
        ("exact", "layer1.qkv.weight", slice(0, D), 40.0, "layer1.scores", 0.0),
        ("2quad", "layer1.qkv.weight", slice(0, D), 150.0, "layer1.scores", 256.0),
        ("exact", "layer0.qkv.weight", slice(0, 2 * D), 30.0, "layer0.scores", NORM),
        ("exact", "layer1.qkv.weight", slice(2 * D, 3 * D), 200.0, "layer1.value", 0.0),
        ("2quad", "layer1.qkv.weight", slice(2 * D, 3 * D), 2000.0, "layer1.value", 0.0),
        ("exact", "layer1.out.weight", slice(None), 1000.0, "layer1.out.square_sum", 0.0),
        ("exact", "layer0.up.weight", slice(None), 1000.0, "layer0.up", 1024.0),
        ("exact", "layer1.down.weight", slice(None), 1000.0, "layer1.down.square_sum", 0.0),
        ("exact", "embedding.table", slice(None), 12.0, "embedding.square_sum", 0.0),
        ("2quad", "embedding.table", slice(None), 12.0, "embedding.square_sum", 0.0),
    ],
)
def test_a_site_out_of_range(softmax: str, name: str, columns: slice, factor: float, site: str, limit: float) -> None:
    model, tokens = tiny("fast", softmax)
    larger = scaled(model, name, factor, columns)
    planned = model.config.numbers.rows[site][1] if site.endswith("square_sum") else 0.0
    planned = model.config.numbers.value_max if site.endswith("value") else planned
    planned = model.config.numbers.window("layer1").limit if (softmax, site) == ("exact", "layer1.scores") else planned
    assert largest(model, tokens, site) < max(limit, planned) < largest(larger, tokens, site)
    assert any(audit(larger, tokens)[1])
    assert not any(audit(model, tokens)[1])


@pytest.mark.parametrize("suite", ["fast", "secformer"])
def test_square_sums_below_their_range(suite: str) -> None:
    """Which nothing overflows from: the root is wrong."""
    model, tokens = tiny(suite, "exact")
    smaller = {**model.folded}
    for name in ("embedding.table", "embedding.position"):
        smaller[name] = smaller[name] * 0.02
    assert audit(share_model(model.config, smaller), tokens)[1] == [True, True, True]


def test_sentences_have_bits_of_their_own() -> None:
    """One token's row is large: only the sentence that has it is flagged."""
    model, tokens = tiny("fast", "exact")
    ids = tokens.ids.clone()
    ids[ids == 7] = 8
    table = model.folded["embedding.table"].clone()
    table[7] *= 30.0
    larger = share_model(model.config, {**model.folded, "embedding.table": table})
    ids[1, 2] = 7
    assert audit(larger, replace(tokens, ids=ids))[1] == [False, True, False]
    ids[1, 2], ids[1, 8] = 8, 7  # which is padding
    assert tokens.mask[1, 8] == 0
    assert audit(larger, replace(tokens, ids=ids))[1] == [False, False, False]


def test_the_other_functions() -> None:
    """MPCFormer's: Quad and 2ReLU."""
    model, tokens = tiny_model("fast", "2relu", replace(TINY, activation="quad"))
    assert audit(model, tokens)[1] == [False, False, False]
    assert any(audit(scaled(model, "layer0.up.weight", 1000.0), tokens)[1])
    assert any(audit(scaled(model, "layer1.qkv.weight", 300.0, slice(0, D)), tokens)[1])


def test_a_classifier() -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, head="classification", labels=3, pooling="first"))
    assert audit(model, tokens)[1] == [False, False, False]
    assert any(audit(scaled(model, "layer0.up.weight", 1000.0), tokens)[1])


def test_no_text_moves_the_demo_model_beyond_what_an_audit_sees() -> None:
    """Bounds from weights alone, of all texts: the norm of LayerNorm's result is sqrt(d), and GeLU shrinks.

    What grows stays in what is surely found, three quarters of a ring (V: all of 24 bits but its limit). An audited
    request has values below V's limit, and so contexts, which are means of them.
    """
    folded = fold(demo_checkpoint())
    config = prepare("demo", "fast", "exact").config
    shape, formats = config.shape, config.numbers
    radius = sqrt(shape.hidden)
    words, types = folded["embedding.table"].abs().split([shape.vocab, shape.types])
    entries = words.amax(0) + types.amax(0) + folded["embedding.position"].abs().amax(0)
    assert entries.max() < 0.75 * 2.0 ** (formats.table_bits - formats.table_frac)
    for layer in (f"layer{i}" for i in range(shape.layers)):
        weight = {name: folded[f"{layer}.{name}.weight"] for name in ("qkv", "out", "up", "down")}
        offset = {name: folded[f"{layer}.{name}.bias"] for name in weight}
        operands, values = (radius * weight["qkv"].norm(dim=0) + offset["qkv"].abs()).split(
            [2 * shape.hidden, shape.hidden]
        )
        assert operands.max() < 2.0 ** (N.QUERY_BITS - 1 - N.QUERY_FRAC)
        limit = formats.value_limit(layer, 128) / 2.0**N.VALUE_FRAC
        assert values.max() < 2.0 ** (N.VALUE_BITS - N.VALUE_FRAC) - limit
        up = radius * weight["up"].norm(dim=0) + offset["up"].abs()
        assert up.max() < 0.75 * 2.0 ** (N.UP_BITS - N.UP_FRAC)
        activated = radius * torch.linalg.eigvalsh(weight["up"] @ weight["up"].T)[-1].sqrt() + offset["up"].norm()
        for name, before, gamma in (("out", limit * radius, "out.gamma"), ("down", activated, "down.gamma")):
            residual = 2 * radius * folded[f"{layer}.{gamma}"].abs().max()
            centred = before * weight[name].norm(dim=0).max() + offset[name].abs().max() + residual
            assert centred < 0.75 * 2.0 ** (N.CENTRED_BITS - N.CENTRED_FRAC), (layer, name)
