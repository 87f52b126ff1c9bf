"""`mpcnet bench suites`: one small point through real processes, and what it refuses."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mpcnet.errors import LocalInputError
from mpcnet.launch.bench import suites as scaling
from mpcnet.launch.bench.command import app
from mpcnet.models.private.prepare import prepare
from mpcnet.models.private.program import Plans, Size

pytestmark = pytest.mark.slow


def test_a_row_is_what_the_plan_says(tmp_path: Path) -> None:
    """And the answer is right, of a sentence that is shorter than those calibrated on."""
    point = ["--models", "bert-tiny", "--lengths", "8", "--suites", "fast", "--softmaxes", "exact,2quad", "--runs", "1"]
    done = CliRunner().invoke(app, ["suites", *point, "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    rows = [json.loads(text) for text in (tmp_path / "suites.jsonl").read_text().splitlines()]
    for row, softmax in zip(rows, ("exact", "2quad"), strict=True):
        plan = Plans(prepare("bert-tiny", "fast", softmax, 8).config).infer(Size(1, 8, audit=True)).ledger.total()
        found = (row["rounds"], row["sent_bytes"], row["dealt_bytes"])
        assert found == (plan.rounds, plan.sent_bytes, plan.dealt_bytes)
        assert row["n"] == 1 and row["least_cosine"] > 0.9999 and not row["wrong"] and not row["out_of_range"]
        assert row["cpu_ratio"] == pytest.approx(row["server_cpu_s"] / row["plain_cpu_s"], rel=1e-2)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_a_wrong_answer_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    point = {"model": "m", "suite": "fast", "softmax": "exact", "length": 8}
    row = point | {"least_cosine": 0.65, "wrong": 1, "out_of_range": 2}
    monkeypatch.setattr(scaling, "measure", lambda *arguments: row)
    said = Console(file=io.StringIO(), width=200)
    scaling.run(scaling.Grid(("m",), (8,), ("fast",), ("exact",), 1), None, said)
    assert "warning: m, fast, exact, 8 tokens: least cosine 0.65: 1 wrong and 2 out of range" in said.file.getvalue()
    assert json.loads(capsys.readouterr().out) == row


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--lengths", "8,x", "lengths: want whole numbers"),
        ("--lengths", "0", "lengths: want whole numbers"),
        ("--suites", "fast,quick", "suites: want some of secformer, .*, got 'quick'"),
        ("--softmaxes", "hard", "softmaxes: want some of exact, 2quad, 2relu, .*, got 'hard'"),
    ],
)
def test_what_is_refused(option: str, value: str, words: str) -> None:
    with pytest.raises(LocalInputError, match=words):
        CliRunner().invoke(app, ["suites", option, value], catch_exceptions=False)
