"""A classifier's answers by name."""

import io

import pytest
import torch
from rich.console import Console

from launch.answers import by_label, table


def test_by_label():
    private, plain = torch.tensor([[0.0, 2.0], [1.0, 1.5]]), torch.tensor([[0.0, 2.0], [1.5, 1.0]])
    first, second = by_label(("negative", "positive"), private, plain)
    sure, unsure = (1 / (1 + torch.tensor(-x).exp()).item() for x in (2.0, 0.5))
    assert first == {
        "label": "positive", "probability": pytest.approx(sure),
        "plain_label": "positive", "plain_probability": pytest.approx(sure),
    }  # fmt: skip
    assert (second["label"], second["plain_label"]) == ("positive", "negative")
    assert second["probability"] == pytest.approx(unsure)


def test_a_row_for_each_text():
    logits = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    console = Console(width=120, file=io.StringIO())
    document = {"answer": "logits", "answers": by_label(("no", "yes"), logits, logits)}
    console.print(table(["A [b]text[/b].", "Another."], document, logits, logits))
    shown = console.file.getvalue().splitlines()
    assert [line for line in shown if "A [b]text[/b]." in line and "yes" in line and "0.8808" in line]
    assert [line for line in shown if "Another." in line and "no" in line]


def test_labels_alone():
    hot = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    document = {"answer": "label", "labels": ["[b]yes", "no"], "plain_labels": ["[b]yes", "[b]yes"]}
    console = Console(width=120, file=io.StringIO())
    console.print(table(["One.", "Two."], document, hot, hot))
    first, second = (line for line in console.file.getvalue().splitlines() if "One." in line or "Two." in line)
    assert first.count("[b]yes") == 2 and "│ yes " in first
    assert second.count("[b]yes") == 1 and "│ no   │" in second
