"""Heads for tokens: the private model against the oracle, the float model and transformers, in lock-step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from private import TINY, audit, tiny_model

from mpcnet.errors import LocalInputError
from mpcnet.models.private.program import Size, answer_shape, answers, wanted_answer
from mpcnet.models.shape import BertShape

TAGS: dict[str, Any] = {"head": "token-classification", "labels": 3, "pooling": "none"}
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
