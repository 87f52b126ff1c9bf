"""`mpcnet simulate --task sentiment`: the shipped model through five processes, its answers by name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpcnet.launch.cli import app

pytestmark = pytest.mark.slow


def test_sentiment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    target = tmp_path / "result.json"
    texts = "A wonderful, moving film.", "Dull and far too long."
    done = CliRunner().invoke(app, ["simulate", "--task", "sentiment", "--json", str(target), *texts])
    assert done.exit_code == 0, done.output
    found = json.loads(target.read_text())
    assert (found["model"], found["softmax"], found["rounds"] > 0) == ("sentiment", "2quad", True)
    assert [row["label"] for row in found["answers"]] == ["positive", "negative"]
    for text, row in zip(texts, found["answers"], strict=True):
        assert row["plain_label"] == row["label"] and abs(row["probability"] - row["plain_probability"]) < 0.01
        shown = next(line for line in done.output.splitlines() if text in line)
        assert row["label"] in shown and f"{row['probability']:.4f}" in shown
