"""Heads for tokens: the private model against the oracle, the float model and transformers, in lock-step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from private import TINY, audit, share_model, tiny_model

from mpcnet.errors import LocalInputError
from mpcnet.models.private.program import Size, answer_shape, answers, wanted_answer, wanted_extent
from mpcnet.models.shape import BertShape, Softmax
from mpcnet.models.texts.tokens import Tokens, first_said

TAGS: dict[str, Any] = {"head": "token-classification", "labels": 3, "pooling": "none"}
MASKS: dict[str, Any] = {"head": "fill-mask", "pooling": "none", "head_activation": "gelu"}
SPANS: dict[str, Any] = {"head": "question-answering", "pooling": "none"}


@pytest.mark.parametrize("head", [TAGS, SPANS], ids=["tags", "spans"])
def test_logits_of_tokens(head: dict[str, Any]) -> None:
    """One round beyond the encoder's, and nothing at padding."""
    shape = replace(TINY, layers=1, **head)
    model, tokens = tiny_model("fast", "exact", shape)
    private, whole, floats = model.run(tokens)
    size = Size(*tokens.ids.shape)
    assert private.shape == answer_shape(shape, size) == (3, 9, shape.columns)
    assert (private - floats).abs().max() < 0.02
    assert (private - whole).abs().max() < 0.02
    assert floats.abs().max() > 1
    assert not private[tokens.mask == 0].any()
    cost = model.plans.infer(size).ledger.of("tokens")
    assert (cost.rounds, cost.sent_bytes) == (1, 5 * 3 * 9 * shape.hidden)
    assert sum(cost.dealt_bytes) == 5 * 3 * 9 * shape.columns


@pytest.mark.parametrize(("labels", "rounds"), [(2, 2), (3, 3)])
def test_label_of_each_token(labels: int, rounds: int) -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **(TAGS | {"labels": labels})))
    logits, _, floats = model.run(tokens)
    valid = tokens.mask.bool()
    assert floats[valid].topk(2).values.diff().abs().min() > 4 * (logits - floats).abs().max()
    hot, whole, _ = model.run(tokens, "label")
    want = torch.nn.functional.one_hot(floats.argmax(-1), labels).double() * tokens.mask[..., None]
    assert torch.equal(hot.abs(), want)
    assert torch.equal(whole.abs(), want)
    plans = [model.plans.infer(Size(*tokens.ids.shape, answer)).ledger for answer in ("logits", "label")]
    assert plans[1].total().rounds - plans[0].total().rounds == rounds == plans[1].of("argmax").rounds


def test_an_audit_passes_what_is_in_range() -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **TAGS))
    value, found, _ = audit(model, tokens)
    assert found == [False] * 3
    assert (value - model.run(tokens)[2]).abs().max() < 0.02


def test_who_answers_questions_has_no_labels() -> None:
    model, _ = tiny_model("fast", "exact", replace(TINY, layers=1, **SPANS))
    assert answers(model.config) == ("logits",)
    with pytest.raises(LocalInputError, match="want logits of a model that answers questions, got 'label'"):
        wanted_answer(model.config, "label")


@pytest.mark.parametrize(
    "wrong", [TAGS | {"labels": 0}, SPANS | {"labels": 2}, TAGS | {"pooling": "first"}, SPANS | {"multi_label": True}]
)
def test_a_head_has_what_it_needs(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="BERT shape: "):
        BertShape(1, 8, 2, 16, **wrong)


def masked(tokens: Tokens, *places: list[int]) -> Tokens:
    return replace(tokens, places=torch.tensor(places))


@pytest.mark.parametrize("suite", ["fast", "secformer"])
def test_words_at_secret_places(suite: str) -> None:
    """Nine rounds behind the encoder; places of several counts, and one that is said again has no answer of its own."""
    model, tokens = tiny_model(suite, "exact", replace(TINY, layers=1, **MASKS))
    given = masked(tokens, [2, 8], [5, 5], [0, 0])
    private, whole, floats = model.run(given)
    again = ~first_said(given.places)
    assert private.shape == (3, 2, TINY.vocab) and again.tolist() == [[False, False], [False, True], [False, True]]
    assert (private - floats)[~again].abs().max() < 0.02
    assert (private - whole).abs().max() < 0.02
    assert floats.abs().max() > 1
    assert (private[1, 0] - private[1, 1]).abs().max() < 0.02
    if suite == "fast":
        size = Size(3, 9, extent=2)
        ledger, other = (model.plans.infer(x).ledger for x in (size, replace(size, length=9, extent=1)))
        head = {
            name: cost for name, cost in ledger.operations.items() if name.startswith(("places", "transform", "dec"))
        }
        assert sum(cost.rounds for cost in head.values()) == 9
        assert ledger.of("decoder").sent_bytes == 5 * 6 * 32 and sum(ledger.of("decoder").dealt_bytes) == 5 * 6 * 50
        assert ledger.of("transform").sent_bytes == 5 * (3 * 9 * 32 + 6 * 9 + 6 * 32)
        assert ledger.of("places").sent_bytes == 6 and sum(ledger.of("places").dealt_bytes) == 6 * 32 * 5
        assert other.total().rounds == ledger.total().rounds


@pytest.mark.parametrize(("suite", "softmax"), [("crypten", "exact"), ("mpcformer", "2quad")])
def test_a_head_behind_a_gelu_of_a_narrow_ring(suite: str, softmax: Softmax) -> None:
    """CrypTen's comes in 40 bits, and a LayerNorm of what follows takes 48. Quad stands in for the layers' alone."""
    quad: dict[str, Any] = {"activation": "quad"} if suite == "mpcformer" else {}
    model, tokens = tiny_model(suite, softmax, replace(TINY, layers=1, **MASKS, **quad))
    private, whole, _ = model.run(masked(tokens, [2, 8], [5, 3], [0, 0]))
    assert (private - whole).abs().max() < 0.02
    assert whole.abs().max() > 1


def test_every_index_is_a_place_of_the_text() -> None:
    """Whatever a client shares: it is counted on from the first token."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **MASKS))
    wild, _, _ = model.run(masked(tokens, [11], [9 + 3], [31]), floats=False)
    plain, _, _ = model.run(masked(tokens, [2], [3], [4]), floats=False)
    assert (wild - plain).abs().max() < 0.02


@pytest.mark.parametrize("site", ["transform.up", "transform.centred"])
def test_what_a_filler_computes_is_audited_where_it_is_not_proved(site: str) -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **MASKS))
    assert model.config.formats.sure(site)
    formats = replace(model.config.formats, audited=frozenset({site}))
    audited = share_model(replace(model.config, formats=formats), model.folded)
    value, found, _ = audit(audited, masked(tokens, [2, 8], [5, 5], [0, 0]))
    assert found == [False] * 3 and value.shape == (3, 2, TINY.vocab)
    large = dict(model.folded)
    large["transform.bias"] = large["transform.bias"] + 1500.0  # beyond 2^10
    wide = share_model(replace(model.config, formats=formats), large)
    _, found, _ = audit(wide, masked(tokens, [2, 8], [5, 5], [0, 0]))
    assert found == [site == "transform.up"] * 3


def test_a_client_that_looks_up_its_own_rows() -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **MASKS), embedding="client")
    private, _, floats = model.run(masked(tokens, [2], [3], [0]))
    assert (private - floats).abs().max() < 0.02


def test_places_are_wanted() -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **MASKS))
    with pytest.raises(LocalInputError, match="tokens: want the places of masks, got none"):
        model.run(tokens)
    with pytest.raises(LocalInputError, match="masks: want 1 to 24, got 25"):
        wanted_extent(model.config, 25)


@pytest.mark.parametrize(
    ("shape", "names", "rounds", "sent"),
    [
        ({}, ("pool",), 1, 3 * 32 * 4),
        ({"head": "classification", "labels": 2, "pooling": "first"}, ("pooler", "tanh", "classifier"), 5, 3 * 32 * 19.25),
        (TAGS, ("tokens",), 1, 3 * 9 * 32 * 5),
        (SPANS, ("tokens",), 1, 3 * 9 * 32 * 5),
    ],
    ids=["embedding", "classifier", "tags", "spans"],
)  # fmt: skip
def test_what_the_page_on_models_says(shape: dict[str, Any], names: tuple[str, ...], rounds: int, sent: float) -> None:
    """Of rounds and bytes of each head; those of masks are counted above."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **shape))
    ledger = model.plans.infer(Size(*tokens.ids.shape)).ledger
    costs = [ledger.of(name) for name in names]
    assert sum(cost.rounds for cost in costs) == rounds
    assert sum(cost.sent_bytes for cost in costs) == sent
