"""Table 2 from what training left: rows by what a run did, means over seeds, shares of the same seed's teacher."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpcnet.errors import LocalConfigError
from mpcnet.launch.bench.paper import glue_runs, table2
from mpcnet.launch.bench.paper.glue_runs import LABELS_ONLY, MPCFORMER, PUT_IN, SECFORMER, TEACHER

LABELS = [{"name": "labels", "epochs": 3, "lr": 1e-4}]
DISTILLED = [{"name": "layers", "epochs": 2, "lr": 1e-4}, {"name": "logits", "epochs": 1, "lr": 5e-5}]
NONE = [stage | {"epochs": 0} for stage in DISTILLED]


def left(folder: Path, kind: str, stages: list[dict[str, Any]], score: float, *, seed: int = 1, **options: str) -> None:
    """As `mpcnet distill` leaves a run of CoLA."""
    folder.mkdir(parents=True)
    document = {
        "options": {"softmax": "2quad", "activation": "gelu"}
        | {"kind": kind, "task": "cola", "stages": stages, "seed": seed}
        | options,
        "examples": {"train": 100},
        "epochs": [
            {"stage": stage["name"], "loss": 1.0 / (epoch + 1)} for stage in stages for epoch in range(stage["epochs"])
        ],
        "dev": {"matthews": score, "accuracy": 0.5},
    }
    (folder / "results.json").write_text(json.dumps(document))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, teacher, student in ((1, 0.4, 0.3), (2, 0.5, 0.5)):
        left(tmp_path / f"{seed}/t", "teacher", LABELS, teacher, seed=seed, softmax="exact")
        left(tmp_path / f"{seed}/s", "student", DISTILLED, student, seed=seed)
    left(tmp_path / "1/m", "student", DISTILLED, 0.1, activation="quad")
    left(tmp_path / "1/l", "student", LABELS, 0.2)
    left(tmp_path / "1/p", "student", NONE, 0.0)
    left(tmp_path / "1/other", "student", LABELS, 0.2, softmax="2relu")  # the table has no such row
    return tmp_path


def test_runs_are_told_apart_by_what_they_did(folder: Path) -> None:
    runs = glue_runs.find(folder)
    assert [(run.row, run.seed) for run in runs] == [
        (TEACHER, 1), (TEACHER, 2), (PUT_IN, 1), (LABELS_ONLY, 1), (SECFORMER, 1), (SECFORMER, 2), (MPCFORMER, 1),
    ]  # fmt: skip
    settled = {run.row: run.settled for run in runs}
    assert settled[SECFORMER] == -0.5  # of the two epochs of its first stage
    assert settled[PUT_IN] is None


def test_a_cell_is_the_mean_over_seeds_and_the_share_that_each_kept_of_its_own_teacher(folder: Path) -> None:
    rows = {row["row"]: row for row in table2.lines(glue_runs.find(folder))}
    assert rows[SECFORMER]["mean"] == pytest.approx(0.4)
    assert rows[SECFORMER]["deviation"] == pytest.approx(0.1 * 2**0.5)
    assert rows[SECFORMER]["kept"] == pytest.approx((0.3 / 0.4 + 1.0) / 2)
    assert rows[SECFORMER]["paper"] == 57.1
    assert rows[MPCFORMER]["kept"] == pytest.approx(0.25)
    assert rows[MPCFORMER]["deviation"] is None


def test_the_report_says_what_the_claim_becomes(folder: Path, tmp_path: Path) -> None:
    text = table2.write(glue_runs.find(folder), tmp_path).read_text()
    assert "| SecFormer's student | 40.0 ± 14.1 (2) | 40.0 | 87.5% |" in text
    assert "SecFormer's student less MPCFormer's: +30.0 points (cola +30.0)." in text
    assert "| SecFormer's student | 91.2 | 57.1 | 87.4 | 89.2 | 69.0 | 78.8 | 98.8% |" in text  # as published
    assert len((tmp_path / table2.LINES).read_text().splitlines()) == 5


def test_averages_are_over_the_tasks_that_all_rows_have(folder: Path, tmp_path: Path) -> None:
    left(folder / "1/rte", "teacher", LABELS, 0.9, softmax="exact", task="rte")
    text = table2.write(glue_runs.find(folder), tmp_path).read_text()
    assert "| teacher | 45.0 ± 7.1 (2) | 50.0 (1) | 45.0 | 100.0% |" in text
    assert "| SecFormer's student | 40.0 ± 14.1 (2) |  | 40.0 | 87.5% |" in text


@pytest.mark.parametrize("wrong", ["none", "damaged", "twice"])
def test_what_is_no_result_is_refused_in_one_line(folder: Path, tmp_path: Path, wrong: str) -> None:
    if wrong == "none":
        folder = tmp_path / "empty"
        folder.mkdir()
    elif wrong == "damaged":
        (folder / "1/t/results.json").write_text('{"options": []}')
    else:
        left(folder / "again", "student", DISTILLED, 0.3)
    with pytest.raises(
        LocalConfigError, match={"none": "got none", "damaged": "train again", "twice": "move one"}[wrong]
    ):
        glue_runs.find(folder)
