"""Which private answers are wrong: too far in angle or length, or another label than rounding explains."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parties import tiny
from small_models import layout, save_classifier, save_embedding

from mpcnet.launch.requests.asked import Asked
from mpcnet.launch.requests.compare import Plain, differing, findings, plain, plain_answer
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.students import load_student
from mpcnet.models.private.prepare import other_softmax
from mpcnet.models.texts.inputs import Entry
from mpcnet.models.texts.tokens import Row, encode


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("private", "wrong"),
    [
        ([1.0, 0.0], False),
        ([1.0, 0.04], False),
        ([1.0, 0.05], True),  # cosine 0.99875
        ([1.06, 0.0], True),  # of another length
        ([1.04, 0.0], False),
        ([float("nan"), 0.0], True),
    ],
)
def test_embeddings(private: list[float], wrong: bool) -> None:
    assert differing(rows([1.0, 0.0], private), rows([1.0, 0.0], [1.0, 0.0]), "logits", False) == [1] * wrong


@pytest.mark.parametrize(
    ("private", "plain", "wrong"),
    [
        ([0.01, 0.0], [0.0, 0.01], False),  # the other label, by rounding
        ([0.0, 1.0], [1.0, 0.0], True),
        ([0.06, 0.5], [0.0, 0.5], True),  # the same label, and no rounding
        ([10.15, -10.0], [10.0, -10.0], False),
        ([float("nan"), 0.5], [0.0, 0.5], True),
    ],
)
def test_logits(private: list[float], plain: list[float], wrong: bool) -> None:
    assert differing(rows(private), rows(plain), "logits", True) == [0] * wrong


def test_a_score_is_more_than_its_sign() -> None:
    assert differing(rows([0.5], [0.51], [0.6]), rows([0.5], [0.5], [0.5]), "logits", True) == [2]


def test_labels() -> None:
    hot = rows([1.0, 0.0], [1.0, 0.0], [1.0, 0.0])
    assert differing(hot, rows([2.0, 1.0], [0.0, 0.09], [0.0, 0.11]), "label", True) == [2]


def test_findings_leave_out_what_is_out_of_range() -> None:
    config = replace(tiny(2).config(), labels=("no", "yes"))
    entries = [Entry(f"line {number}", "text") for number in range(1, 5)]
    asked = Asked(
        entries,
        [Row([], []), None, Row([], []), Row([], [])],
        ["", "line 2: bad", "", ""],
        SimpleNamespace(tokenizer=None),
    )  # type: ignore[arg-type]
    private = rows([2.0, 0.0], [9.0, -9.0], [0.0, 2.0])
    theirs = Plain(
        rows([2.0, 0.0], [0.0, 2.0], [2.0, 0.0]), "transformers", rows([0.0, 2.0], [0.0, 2.0], [0.0, 2.0]), "T"
    )
    found = findings(config, "logits", private, theirs, [False, True, False], False, asked)
    assert (found["sentences"], found["wrong"], found["compared_with"]) == (3, ["line 4"], "transformers")
    assert found["max_abs_error"] == 2.0 and found["min_cosine"] == 0.0
    assert found["published"] == {"by": "T", "min_cosine": 0.0, "mean_cosine": 0.5, "max_abs_error": 2.0}
    assert [row.get("label") for row in found["answers"]] == ["no", None, None, "yes"]
    assert found["answers"][1] == {"error": "line 2: bad"} and found["answers"][2]["out_of_range"] is True
    accepted = findings(config, "logits", private, theirs, [False, True, False], True, asked)
    assert accepted["answers"][2]["label"] == "no" and accepted["wrong"] == ["line 4"]
    assert accepted["max_abs_error"] == 11.0


def test_no_answer_at_all_is_no_error() -> None:
    theirs = Plain(rows([1.0, 0.0]), "transformers")
    found = findings(tiny().config(), "logits", rows([0.0, 1.0]), theirs, [True], False, None)
    assert (found["min_cosine"], found["max_abs_error"], found["wrong"]) == (None, None, [])


def prepared(folder, softmax: str) -> Any:
    """As much of a prepared model as a comparison reads."""
    found = load_checkpoint(folder)
    config = SimpleNamespace(shape=found.shape, formats=SimpleNamespace(softmax=softmax))
    return SimpleNamespace(checkpoint=found, folded=fold(found), config=config, random=False)


def test_another_softmax_is_compared_with_itself_and_with_the_published_model(tmp_path: Path) -> None:
    save_classifier(tmp_path, 12)
    texts, tokens = ["the dog eats", "not good"], encode(tmp_path, ["the dog eats", "not good"], 64)
    own = plain(prepared(tmp_path, "exact"), texts, [tokens])
    assert own.by == "transformers" and own.published is None
    assert (own.values - plain_answer(prepared(tmp_path, "exact"), tokens)).abs().max() < 1e-6
    other = plain(prepared(tmp_path, "2quad"), texts, [tokens])
    assert (other.by, other.published_by) == ("transformers with 2quad softmax", "transformers")
    assert (other.values - plain_answer(prepared(tmp_path, "2quad"), tokens)).abs().max() < 1e-6
    assert other.published is not None and torch.equal(other.published, own.values)
    assert (other.values - own.values).abs().max() > 0.1
    assert other_softmax(load_checkpoint(tmp_path), prepared(tmp_path, "2quad").config) == (
        "these weights were trained with exact softmax, and are run with 2quad: the answers are other ones"
    )


def test_a_student_is_compared_with_itself(tmp_path: Path) -> None:
    save_classifier(tmp_path, 3)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"softmax": "2quad", "hidden_act": "quad"}))
    tokens = encode(tmp_path, ["the dog eats"], 64)
    own = plain(prepared(tmp_path, "2quad"), ["the dog eats"], [tokens])
    assert own.published is None and other_softmax(load_checkpoint(tmp_path), prepared(tmp_path, "2quad").config) == ""
    student = load_student(tmp_path).double().eval()
    with torch.inference_mode():
        theirs = student(input_ids=tokens.ids, attention_mask=tokens.mask, token_type_ids=tokens.types).logits
    assert (own.values - theirs).abs().max() < 1e-12


def test_a_folder_that_we_misread_is_noticed(tmp_path: Path) -> None:
    """The comparison reads the folder by itself: what ours drops makes the answers wrong, not the comparison."""
    save_embedding(tmp_path)
    layout(tmp_path, pooling="cls")
    texts, tokens = ["the dog eats", "not good"], encode(tmp_path, ["the dog eats", "not good"], 64)
    mine = prepared(tmp_path, "exact")
    right = plain_answer(mine, tokens)
    mine.checkpoint = replace(mine.checkpoint, shape=replace(mine.checkpoint.shape, pooling="mean"))
    mine.config.shape = mine.checkpoint.shape
    theirs = plain(mine, texts, [tokens]).values
    assert differing(right, theirs, "logits", False) == []
    assert differing(plain_answer(mine, tokens), theirs, "logits", False) == [0, 1]
