"""`mpcnet bench suites`: one small point through real processes, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.bench import app
from models.prepare import prepare
from models.program import Plans, Size
from mpcnet.errors import LocalInputError


def test_a_row_is_what_the_plan_says(tmp_path: Path) -> None:
    line = [
        "suites",
        "--models",
        "bert-tiny",
        "--lengths",
        "8",
        "--suites",
        "fast",
        "--softmaxes",
        "exact",
        "--runs",
        "1",
    ]
    done = CliRunner().invoke(app, [*line, "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    (row,) = [json.loads(text) for text in (tmp_path / "suites.jsonl").read_text().splitlines()]
    plan = Plans(prepare("bert-tiny", "fast", "exact", 8).config).infer(Size(1, 8)).ledger.total()
    assert (row["rounds"], row["sent_bytes"], row["dealt_bytes"]) == (plan.rounds, plan.sent_bytes, plan.dealt_bytes)
    assert row["n"] == 1 and row["least_cosine"] > 0.999
    assert row["cpu_ratio"] == pytest.approx(row["server_cpu_s"] / row["plain_cpu_s"], rel=1e-2)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


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
