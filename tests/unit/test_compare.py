"""Which private answers are wrong: too far in angle or length, or another label than rounding explains."""

from dataclasses import replace

import pytest
import torch
from integration.parties import tiny

from launch.asked import Asked
from launch.compare import Plain, differing, findings
from models.inputs import Entry
from models.text import Row


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
        ([0.03, 0.5], [0.0, 0.5], True),  # the same label, and no rounding
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
    assert differing(hot, rows([2.0, 1.0], [0.0, 0.03], [0.0, 0.05]), "label", True) == [2]


def test_findings_leave_out_what_is_out_of_range() -> None:
    config = replace(tiny(2).config(), labels=("no", "yes"))
    entries = [Entry(f"line {number}", "text") for number in range(1, 5)]
    asked = Asked(entries, [Row([], []), None, Row([], []), Row([], [])], ["", "line 2: bad", "", ""], None)  # type: ignore[arg-type]
    private = rows([2.0, 0.0], [9.0, -9.0], [0.0, 2.0])
    plain = Plain(
        rows([2.0, 0.0], [0.0, 2.0], [2.0, 0.0]), "transformers", rows([0.0, 2.0], [0.0, 2.0], [0.0, 2.0]), "T"
    )
    found = findings(config, "logits", private, plain, [False, True, False], False, asked)
    assert (found["sentences"], found["wrong"], found["compared_with"]) == (3, ["line 4"], "transformers")
    assert found["max_abs_error"] == 2.0 and found["min_cosine"] == 0.0
    assert found["published"] == {"by": "T", "min_cosine": 0.0, "mean_cosine": 0.5, "max_abs_error": 2.0}
    assert [row.get("label") for row in found["answers"]] == ["no", None, None, "yes"]
    assert found["answers"][1] == {"error": "line 2: bad"} and found["answers"][2]["out_of_range"] is True
    accepted = findings(config, "logits", private, plain, [False, True, False], True, asked)
    assert accepted["answers"][2]["label"] == "no" and accepted["wrong"] == ["line 4"]
    assert accepted["max_abs_error"] == 11.0


def test_no_answer_at_all_is_no_error() -> None:
    plain = Plain(rows([1.0, 0.0]), "transformers")
    found = findings(tiny().config(), "logits", rows([0.0, 1.0]), plain, [True], False, None)
    assert (found["min_cosine"], found["max_abs_error"], found["wrong"]) == (None, None, [])
