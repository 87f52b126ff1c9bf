"""What callers get: classes by name, and the cost of a call."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from parties import tiny

from mpcnet.launch.api.results import Classification, Usage, classification, usage, vector
from mpcnet.launch.party.answer import Answer
from mpcnet.models.families.config import Config


def config(labels: int, names: tuple[str, ...] = (), multi_label: bool = False) -> Config:
    made = tiny(3).config()
    return replace(made, shape=replace(made.shape, labels=labels, multi_label=multi_label), labels=names)


def test_one_of_several_classes() -> None:
    found = classification(config(3, ("bad", "good", "so so")), torch.tensor([0.0, 2.0, 1.0]), True)
    assert (found.label, found.out_of_range) == ("good", True)
    assert found.score == max(found.scores.values()) and math.isclose(sum(found.scores.values()), 1, rel_tol=1e-6)
    assert list(found.scores) == ["bad", "good", "so so"]


def test_labels_without_names_and_labels_that_hold_at_once() -> None:
    assert classification(config(2), torch.tensor([1.0, 0.0]), False).label == "LABEL_0"
    found = classification(config(2, ("a", "b"), multi_label=True), torch.tensor([0.0, 1.0]), False)
    assert found.scores["a"] == 0.5 and math.isclose(found.scores["b"], 1 / (1 + math.exp(-1)), rel_tol=1e-6)


def test_a_single_label_has_its_raw_value() -> None:
    found = classification(config(1, ("relevance",)), torch.tensor([-7.25]), False)
    assert found == Classification("relevance", -7.25, {"relevance": -7.25})


def test_vectors_are_float32() -> None:
    found = vector(torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert found.dtype == "float32" and found.tolist() == [1.0, 2.0]


def test_usage_adds_up() -> None:
    report = {"rounds": 3, "sent_bytes": 10, "dealt_bytes": [5, 7]}
    answer = Answer(torch.zeros(1, 2), None, (report, report), 0.1, 0.2, 0.3, 0.4)
    assert usage([answer, answer], 2.0, [4]) == Usage(2, 6, 20, (10, 14), 2.0, 0.4, 0.6, 0.8, (4,))
    assert usage([], 0.0, []) == Usage()
    json.dumps(asdict(usage([answer], 1.0, [])))


def test_results_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Classification("a", 1.0, {}).label = "b"
    with pytest.raises(AttributeError):
        Usage().rounds = 1
