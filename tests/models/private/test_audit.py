"""The audit of whole models: what is only calibrated is found out of range, and texts in range never are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from private import TINY, Private, audit, share_model, tiny_model
from torch import Tensor

from mpcnet.models.float_model import reference
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.fixed_point import Formats
from mpcnet.models.private.program import Size
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.division import RowRange

D = TINY.hidden
BOTH = pytest.mark.parametrize("softmax", ["exact", "2quad"])
SUITE_NAMES = pytest.mark.parametrize("suite", ["fast", "secformer", "secformer-v1"])


@cache
def tiny(suite: str, softmax: Softmax) -> tuple[Private, Tokens]:
    return tiny_model(suite, softmax)


def with_numbers(model: Private, **changed: object) -> Private:
    """The model in other formats."""
    formats = replace(model.config.formats, **changed)  # type: ignore[arg-type]
    return share_model(replace(model.config, formats=formats), model.folded)


def seen(model: Private, tokens: Tokens) -> dict[str, Tensor]:
    """The float model's values."""
    values: dict[str, Tensor] = {}
    softmax = model.config.formats.softmax
    reference.embed(
        model.config.shape, model.folded, tokens.ids, tokens.types, tokens.mask, softmax, values.__setitem__
    )
    return values


@SUITE_NAMES
@BOTH
def test_in_range_nothing_is_flagged_and_the_answer_is_the_same(suite: str, softmax: Softmax) -> None:
    model, tokens = tiny(suite, softmax)
    private, found, run = audit(model, tokens)
    floats = reference.embed(TINY, model.folded, tokens.ids, tokens.types, tokens.mask, softmax)
    assert (private - floats).abs().max() < 0.02
    assert found == [False, False, False]
    bare = model.plans.infer(Size(*tokens.ids.shape)).ledger.total()
    total = run.ledger.total()
    if suite == "fast":  # five bytes for a sentence, in a round that takes place anyway
        assert (total.rounds, total.sent_bytes) == (bare.rounds, bare.sent_bytes + 5 * len(found))
        assert sum(total.dealt_bytes) <= 1.05 * sum(bare.dealt_bytes)
    else:
        assert total.rounds <= bare.rounds + 3


def test_many_runs_in_range() -> None:
    """Shares, masks and roundings differ each time."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1))
    few = Tokens(*(x[:2, :4] for x in (tokens.ids, tokens.types, tokens.mask)))
    assert all(audit(model, few)[1] == [False, False] for _ in range(20))


def moved(formats: Formats, by: float) -> Formats:
    """The windows of the last layer's heads, so far from where their scores are."""
    *others, last = formats.windows
    windows = tuple(replace(window, centres=tuple(centre + by for centre in window.centres)) for window in last)
    return replace(formats, windows=(*others, windows))


@pytest.mark.parametrize("by", [-200.0, -80.0, 80.0, 200.0])
def test_scores_outside_of_their_window(by: float) -> None:
    model, tokens = tiny("fast", "exact")
    windows = moved(model.config.formats, by).windows
    assert audit(with_numbers(model, windows=windows), tokens)[1] == [True, True, True]


@pytest.mark.parametrize("suite", ["fast", "secformer"])
@pytest.mark.parametrize("site", ["embedding.square_sum", "layer0.out.square_sum", "layer1.down.square_sum"])
def test_square_sums_below_and_above_their_range(suite: str, site: str) -> None:
    model, tokens = tiny(suite, "exact")
    values, rows = seen(model, tokens)[site], model.config.formats.rows
    for low, high in ((20.0, 100.0), (1 / 100.0, 1 / 20.0)):
        served = RowRange(low * float(values.min()), high * float(values.max()), 10 * float(values.max()))
        assert audit(with_numbers(model, rows={**rows, site: served}), tokens)[1] == [True, True, True]


@pytest.mark.parametrize("suite", ["fast", "secformer"])
@pytest.mark.parametrize("softmax", ["2quad", "2relu"])
def test_row_sums_below_and_above_their_range(suite: str, softmax: Softmax) -> None:
    model, tokens = tiny(suite, softmax)
    site, rows = "layer1.row_sum", model.config.formats.rows
    values = seen(model, tokens)[site]
    for low, high in ((20.0, 100.0), (1 / 1000.0, 1 / 50.0)):
        served = RowRange(low * float(values.max()), high * float(values.max()), 10 * float(values.max()))
        assert audit(with_numbers(model, rows={**rows, site: served}), tokens)[1] == [True, True, True]


@pytest.mark.parametrize(
    ("softmax", "name", "columns", "factor", "sites"),
    [
        ("2quad", "layer1.qkv.weight", slice(0, D), 150.0, {"layer1.scores"}),
        ("2quad", "layer0.qkv.weight", slice(0, 2 * D), 30.0, {"layer0.norms"}),
        ("exact", "layer1.qkv.weight", slice(2 * D, 3 * D), 200.0, {"layer1.value"}),
        ("exact", "layer1.out.weight", slice(None), 20000.0, {"layer1.out.centred"}),
        ("exact", "layer0.up.weight", slice(None), 1000.0, {"layer0.up"}),
        ("exact", "layer1.down.weight", slice(None), 20000.0, {"layer1.down.centred"}),
        ("exact", "embedding.table", slice(None), 12.0, {"embedding.centred"}),
    ],
)
def test_a_site_that_is_only_calibrated(
    softmax: Softmax, name: str, columns: slice, factor: float, sites: set[str]
) -> None:
    """Weights that the formats were not proved for, which the owner would not be let serve."""
    model, tokens = tiny("fast", softmax)
    weight = model.folded[name].clone()
    weight[..., columns] *= factor
    formats = model.config.formats
    limits = tuple(formats.norm_limits[i] or (384.0 if f"layer{i}.norms" in sites else 0.0) for i in range(TINY.layers))
    watched = replace(formats, audited=formats.audited | sites, norm_limits=limits)
    for folded, want in ((model.folded, False), ({**model.folded, name: weight}, True)):
        assert any(audit(share_model(replace(model.config, formats=watched), folded), tokens)[1]) == want


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
    """MPCFormer's: Quad and 2ReLU, of which a square is the more likely to overflow."""
    model, tokens = tiny_model("fast", "2relu", replace(TINY, activation="quad"))
    assert audit(model, tokens)[1] == [False, False, False]
    watched = with_numbers(model, audited=frozenset({"layer0.up"}))
    up = model.folded["layer0.up.weight"] * 1000.0
    assert any(audit(share_model(watched.config, {**model.folded, "layer0.up.weight": up}), tokens)[1])


def test_a_classifier() -> None:
    """Of logits that are proved to be close, none is looked at; of others, the differences are."""
    shape = replace(TINY, head="classification", labels=3, pooling="first")
    model, tokens = tiny_model("fast", "exact", shape)
    assert audit(model, tokens)[1] == [False, False, False]
    assert model.config.formats.sure("logits")
    assert bounds(shape, model.folded).sizes["logits"] < 512
