"""What `mpcnet distill` and `mpcnet evaluate` left in a folder: training runs, and their models run privately."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.launch.distill.training_run import RESULTS
from mpcnet.launch.evaluation import results
from mpcnet.launch.evaluation.results import Evaluation
from mpcnet.launch.reporting.text_files import read_text
from mpcnet.models.texts.tasks import TASKS, Task

TEACHER, PUT_IN, LABELS_ONLY = "teacher", "2Quad put in", "2Quad, labels only"
SECFORMER, MPCFORMER, RELU = "SecFormer's student", "MPCFormer's student", "2ReLU + Quad student"
ROWS = (TEACHER, PUT_IN, LABELS_ONLY, SECFORMER, MPCFORMER, RELU)  # in the table's order
KINDS: Mapping[str, str] = {"bert": "BERT", "mpnet": "MPNet"}  # by config.json's model_type
STUDENTS = {("2quad", "gelu"): SECFORMER, ("2quad", "quad"): MPCFORMER, ("2relu", "quad"): RELU}


@dataclass(frozen=True, slots=True)
class GlueRun:
    """One training run and, where its folder has them, the evaluations of its model.

    `settled` is the relative change of the mean loss in the last epoch of the longest stage; None below two epochs.
    """

    folder: str
    task: Task
    row: str
    model: str  # its kind, layers x width
    seed: int
    stages: str
    settled: float | None
    dev: Mapping[str, float]
    examples: int
    evaluations: tuple[Evaluation, ...] = field(repr=False)

    @property
    def score(self) -> float:
        """The task's headline metric on all of dev, by the float model."""
        return self.dev[self.task.headline]


def find(folder: Path) -> list[GlueRun]:
    """All runs below a folder that the table has a row for, by model, row, task and seed.

    :raises LocalConfigError: there are none, or a file is damaged, or two runs stand for the same cell and seed.
    """
    found = [run for path in sorted(folder.rglob(RESULTS)) if (run := _read(path, folder)) is not None]
    if not found:
        raise LocalConfigError(f"{folder}: want folders of mpcnet distill with {RESULTS}, got none")
    seen: dict[tuple[str, str, str, int], GlueRun] = {}
    for run in found:
        first = seen.setdefault((run.model, run.row, run.task.name, run.seed), run)
        if first is not run:
            raise LocalConfigError(
                f"{folder}: want one run of {run.task.name}, {run.row}, seed {run.seed}, got {first.folder} and "
                f"{run.folder}; move one elsewhere"
            )
    tasks = list(TASKS)
    return sorted(found, key=lambda run: (run.model, ROWS.index(run.row), tasks.index(run.task.name), run.seed))


def _read(path: Path, top: Path) -> GlueRun | None:
    try:
        document = checked_json.mapping(read_text(path))
        options, dev = document["options"], document["dev"]
        row = _row(options)
        if row is None:
            return None
        task = TASKS[options["task"]]
        config = checked_json.mapping(read_text(path.parent / "config.json"))
        return GlueRun(
            folder=str(path.parent.relative_to(top)),
            task=task,
            row=row,
            model=f"{KINDS[config['model_type']]} {config['num_hidden_layers']} x {config['hidden_size']}",
            seed=int(options["seed"]),
            stages=_stages(options),
            settled=_settled(document["epochs"]),
            dev={name: float(dev[name]) for name in task.metrics},
            examples=int(document["examples"]["train"]),
            evaluations=tuple(row for row in results.load(path.parent) if row.task == task.name),
        )
    except (*MALFORMED, json.JSONDecodeError) as error:
        raise LocalConfigError(
            f"{path}: want the results of mpcnet distill, got a file with a {type(error).__name__}; train again"
        ) from error


def _row(options: Mapping[str, Any]) -> str | None:
    """Which row of the table a run is; None for students that it has no row for."""
    if options["kind"] == "teacher":
        return TEACHER
    functions, stages = (options["softmax"], options["activation"]), options["stages"]
    if any(stage["name"] == "labels" for stage in stages):
        return LABELS_ONLY if functions == ("2quad", "gelu") else None
    if not any(stage["epochs"] for stage in stages):
        return PUT_IN if functions == ("2quad", "gelu") else None
    return STUDENTS.get(functions)


def _stages(options: Mapping[str, Any]) -> str:
    stages = [f"{stage['name']} {stage['epochs']} at {stage['lr']:g}" for stage in options["stages"] if stage["epochs"]]
    return ", ".join(stages) or "none"


def _settled(epochs: list[dict[str, Any]]) -> float | None:
    by_stage: dict[str, list[float]] = {}
    for epoch in epochs:
        by_stage.setdefault(epoch["stage"], []).append(float(epoch["loss"]))
    losses = max(by_stage.values(), key=len, default=[])
    return losses[-1] / losses[-2] - 1 if len(losses) > 1 and losses[-2] else None
