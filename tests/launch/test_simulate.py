"""How `mpcnet simulate` ends: what is not right is said in a line, and in the exit code."""

from typing import Any

import pytest
import torch
import typer
from rich.console import Console

from mpcnet.launch.simulate import command
from mpcnet.launch.simulate.localhost import Outcome

GOOD: dict[str, Any] = {"wrong": [], "answers": [{}, {}], "compared_with": "transformers", "sentences": 2}


def ending(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> tuple[int, str]:
    """The exit code, and what was said."""
    told = Console(record=True, width=200, quiet=False)
    monkeypatch.setattr(command, "console", told)
    nothing = torch.zeros(0)
    try:
        command._verdict(Outcome(None, nothing, nothing, GOOD | changed, []))  # type: ignore[arg-type]
    except typer.Exit as ended:
        return ended.exit_code, told.export_text().strip()
    return 0, told.export_text()


def test_all_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending(monkeypatch) == (0, "")


def test_another_answer_than_the_published_models(monkeypatch: pytest.MonkeyPatch) -> None:
    code, told = ending(monkeypatch, wrong=["text 2"], max_abs_error=0.61234)
    want = "want the answers of transformers, got other ones (largest error 0.612), in 1 of 2 texts"
    assert (code, told) == (1, f"mpcnet  text 2: {want}")
    assert "largest error" not in ending(monkeypatch, wrong=["text 2"], labels=["a", "b"])[1]  # of labels there is none


def test_a_text_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    code, told = ending(monkeypatch, answers=[{}, {"error": "text 2: a value left its range"}])
    assert (code, told) == (65, "mpcnet  text 2: a value left its range")
