"""Answers with their names and all digits, beside the float model's, and those that are not given out."""

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parties import tiny
from rich.console import Console

from mpcnet.launch.requests.answers import OUT_OF_RANGE, beside, entry, guarded, nearness, ranked, table, warning
from mpcnet.launch.requests.view import Known
from mpcnet.models.families.config import Config
from mpcnet.models.texts.tokens import Row, Text


def config(*labels: str, multi_label: bool = False) -> Config:
    made = tiny(len(labels)).config()
    return replace(made, labels=labels, shape=replace(made.shape, multi_label=multi_label))


def test_a_classifiers_logits() -> None:
    found = entry(config("no", "yes"), "logits", torch.tensor([0.25, 2.0], dtype=torch.float64))
    chance = 1 / (1 + torch.tensor(-1.75, dtype=torch.float64).exp()).item()
    assert found == {"label": "yes", "probability": pytest.approx(chance), "logits": [0.25, 2.0]}


def test_a_label_is_all_that_its_client_learns() -> None:
    assert entry(config("no", "yes"), "label", torch.tensor([1.0, 0.0])) == {"label": "no"}


def test_labels_without_names_are_numbered() -> None:
    unnamed = replace(config("a", "b"), labels=())
    assert entry(unnamed, "label", torch.tensor([0.0, 1.0])) == {"label": "LABEL_1"}


def test_a_score_has_its_name_and_all_digits() -> None:
    values = torch.tensor([1.0 / 3], dtype=torch.float64)
    assert entry(config("relevance"), "logits", values) == {"name": "relevance", "score": 1.0 / 3}


def test_labels_that_hold_at_once() -> None:
    found = entry(config("a", "b", multi_label=True), "logits", torch.tensor([3.0, -3.0]))
    assert found["labels"] == ["a"] and found["probabilities"]["a"] == pytest.approx(0.952574, abs=1e-5)


def test_an_embedding() -> None:
    assert entry(config(), "logits", torch.tensor([1.0, 2.0])) == {"values": [1.0, 2.0]}


def test_what_is_out_of_range_is_not_given_out() -> None:
    answer = {"label": "yes"}
    assert guarded(answer, False, "line 3", False) == answer
    refused = guarded(answer, True, "line 3", False)
    assert refused == {"error": f"line 3: {OUT_OF_RANGE}", "out_of_range": True}
    assert (
        "mpcnet calibrate --model DIR --texts FILE" in refused["error"] and "--accept-out-of-range" in refused["error"]
    )
    assert guarded(answer, True, "line 3", True) == {"label": "yes", "out_of_range": True}


def test_a_warning_names_the_texts() -> None:
    assert warning([], False) == ""
    assert warning(["text 1", "text 4"], False).startswith("text 1, text 4: no answer: a value left the range")
    assert warning(["text 1"], True).startswith("text 1: a value left its range, so the answer may be wrong")


def test_beside_the_float_model() -> None:
    one, two = torch.tensor([0.0, 2.0]), torch.tensor([2.0, 0.0])
    found = beside(config("no", "yes"), "logits", one, two)
    assert (found["label"], found["plain_label"], found["plain_logits"]) == ("yes", "no", [2.0, 0.0])
    assert beside(config(), "logits", one, two) == {"cosine": 0.0}
    score = beside(config("relevance"), "logits", one[1:], two[1:])
    assert score == {"name": "relevance", "score": 2.0, "plain_score": 0.0}


def test_nearness() -> None:
    assert (
        nearness({"labels": ["a", "b"], "plain_labels": ["a", "a"], "same_labels": 1}) == "1 of 2 labels are the same"
    )
    assert nearness({"min_cosine": 0.5, "max_abs_error": 0.25}) == "least cosine 0.500000, largest error 0.25000"
    assert nearness({"min_cosine": None, "max_abs_error": 0.25}) == "largest error 0.25000"
    assert nearness({"min_cosine": None, "max_abs_error": None}) == "no answer"


def shown(texts: list[Text], rows: list[dict[str, Any]], private: torch.Tensor, plain: torch.Tensor) -> list[str]:
    console = Console(width=160, file=io.StringIO())
    console.print(table(texts, {"answers": rows}, private, plain))
    return [line for line in console.file.getvalue().splitlines() if line.startswith("│")]  # type: ignore[attr-defined]


def test_a_row_for_each_text() -> None:
    made = config("no", "[b]yes")
    private, plain = torch.tensor([[0.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0, 1.0], [0.0, 1.0]])
    rows = [beside(made, "logits", *pair) for pair in zip(private, plain, strict=True)]
    rows = [rows[0], {"error": "text 2: want words, got an empty text"}, guarded(rows[1], True, "text 3", False)]
    first, second, third = shown(["A [b]text[/b].", "", ("x", "y\u2028z")], rows, private, plain)
    assert "A [b]text[/b]." in first and "[b]yes" in first and "0.8808" in first and " no " in first
    assert "error: want words, got an empty text" in second
    assert "x | y z" in third and "error: a value left the range" in third and "yes" not in third


def test_rows_of_embeddings_scores_and_labels() -> None:
    private, plain = torch.tensor([[0.5], [0.25]]), torch.tensor([[0.5], [0.5]])
    scores = [beside(config("relevance"), "logits", *pair) for pair in zip(private, plain, strict=True)]
    (line, _) = shown(["a", "b"], scores[1:] + scores[:1], private, plain)
    assert "relevance +0.2500" in line and "0.2500" in line and "cosine" not in line
    hot = torch.eye(2)
    labels = [beside(config("no", "yes"), "label", *pair) for pair in ((hot[0], hot[0]), (hot[1], hot[0]))]
    same, other = shown(["a", "b"], labels, hot, hot)
    assert "yes" in same and same.count(" no ") == 2 and other.count(" no ") == 2
    accepted = guarded({"cosine": 0.5}, True, "text 1", True)
    (vector,) = shown(["a"], [accepted], hot[:1], hot[:1])
    assert "+1.0000 +0.0000 (out of range)" in vector and "0.500000" in vector


def test_entities_are_shown_in_their_text() -> None:
    shape = replace(tiny(2).config().shape, head="token-classification", pooling="none")
    made = replace(config("O", "B-PER"), shape=shape)
    tokenizer = SimpleNamespace(unk_token_id=None)
    encoding = SimpleNamespace(
        ids=[2, 9, 8, 3], tokens="abcd", offsets=[(0, 0), (0, 3), (4, 7), (0, 0)], special_tokens_mask=[1, 0, 0, 1]
    )
    known = Known("the dog", Row([2, 9, 8, 3], [0] * 4, encoding=encoding), tokenizer)
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    row = beside(made, "logits", logits, -logits, known)
    chance = pytest.approx(0.880797, abs=1e-6)
    assert row["entities"] == [{"label": "PER", "score": chance, "text": "dog", "start": 4, "end": 7}]
    assert row["plain_entities"] == [{"label": "PER", "score": chance, "text": "the", "start": 0, "end": 3}]
    (line,) = shown(["the dog"], [row], logits[None], logits[None])
    assert "dog (PER 0.88)" in line and "the (PER 0.88)" in line and " no " in line
    label = beside(made, "label", torch.eye(2)[[0, 0, 1, 0]], logits, known)
    (line,) = shown(["the dog"], [label], logits[None], logits[None])
    assert "dog (PER)" in line and " yes " in line
    assert entry(made, "logits", logits) == {"logits": logits.tolist()}


def test_documents_are_ranked() -> None:
    """By the sigmoid of the logit, as a cross-encoder's folder says; what has no score has no rank, and is last."""
    made = config("relevance")
    made = replace(made, shape=replace(made.shape, sigmoid=True))
    private = torch.tensor([[0.0], [2.0], [1.0]], dtype=torch.float64)
    rows = [beside(made, "logits", row, row + 0.25) for row in private]
    assert rows[0] == {
        "name": "relevance", "score": 0.5, "logit": 0.0, "plain_score": pytest.approx(0.5621765), "plain_logit": 0.25
    }  # fmt: skip
    found = ranked([*rows[:2], {"error": "text 3: want words, got an empty text"}, rows[2]])
    assert [row.get("rank") for row in found] == [3, 1, None, 2]
    lines = shown(["a", "b", "", "c"], found, private, private + 0.25)
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "│"]
    assert [line.split("│")[2].strip() for line in lines] == ["b", "c", "a", ""]
    assert "relevance +0.8808" in lines[0] and "error: want words" in lines[3]


def test_answers_and_words_are_shown_beside_the_float_models() -> None:
    """Whether they are the same goes by their places and their numbers, not by scores."""
    span = {"answer": "a ship", "score": 0.75, "start": 4, "end": 10}
    same = span | {f"plain_{name}": value for name, value in span.items()}
    other = same | {"plain_answer": "", "plain_start": 0, "plain_end": 0}
    lines = shown([("who?", "the a ship")] * 2, [same, other], torch.zeros(2, 3, 2), torch.zeros(2, 3, 2))
    assert "who? | the a ship" in lines[0] and lines[0].count("a ship (0.75)") == 2 and " yes " in lines[0]
    assert "(none) (0.75)" in lines[1] and " no " in lines[1]
    words = [[{"text": "dog", "score": 0.5, "token": 7}], [{"text": "cat", "score": 0.25, "token": 8}]]
    fills = {"fills": words, "plain_fills": [words[0], [{"text": "ship", "score": 0.3, "token": 9}]]}
    (line,) = shown(["the [MASK] [MASK]"], [fills], torch.zeros(1, 2, 9), torch.zeros(1, 2, 9))
    assert "the [MASK] [MASK]" in line and "dog (0.50), cat (0.25)" in line and "dog (0.50), ship (0.30)" in line
    assert " no " in line
