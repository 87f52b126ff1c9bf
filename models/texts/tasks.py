"""GLUE tasks: what a task is, and its labelled texts from plain files or from Hugging Face `datasets`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.texts.inputs import read_lines
from mpcnet.models.texts.tokens import Text

Split: TypeAlias = Literal["train", "dev"]
HUB = "glue"  # as a source: the data set of this name, by the `datasets` library


@dataclass(frozen=True, slots=True)
class Task:
    """A labelled task; without labels it is a regression. The first columns are texts, the last is the label."""

    name: str
    pair: bool
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: str
    folder: str
    columns: tuple[str, ...]
    header: bool = True

    @property
    def outputs(self) -> int:
        """Columns of a classifier's output."""
        return len(self.labels) or 1


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "cola", False, ("unacceptable", "acceptable"), ("matthews", "accuracy"), "matthews",
            "CoLA", ("sentence", "label"), header=False,
        ),
        Task(
            "mrpc", True, ("not_equivalent", "equivalent"), ("f1", "accuracy"), "f1",
            "MRPC", ("#1 String", "#2 String", "Quality"),
        ),
        Task(
            "qnli", True, ("entailment", "not_entailment"), ("accuracy",), "accuracy",
            "QNLI", ("question", "sentence", "label"),
        ),
        Task(
            "rte", True, ("entailment", "not_entailment"), ("accuracy",), "accuracy",
            "RTE", ("sentence1", "sentence2", "label"),
        ),
        Task(
            "sst-2", False, ("negative", "positive"), ("accuracy",), "accuracy",
            "SST-2", ("sentence", "label"),
        ),
        Task(
            "sts-b", True, (), ("pearson", "spearman"), "pearson",
            "STS-B", ("sentence1", "sentence2", "score"),
        ),
    )
}  # fmt: skip
COLA_COLUMNS = ("source", "label", "mark", "sentence")  # its files have no header line
HUB_COLUMNS = {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label", "score": "label"}


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts, or pairs of texts, and their labels: an index into the task's labels, or a score."""

    texts: list[Text] = field(repr=False)
    labels: list[float] = field(repr=False)

    def __len__(self) -> int:
        return len(self.texts)


def task_of(name: str) -> Task:
    """:raises LocalConfigError: there is no such task."""
    if name not in TASKS:
        raise LocalConfigError(f"task: want one of {', '.join(TASKS)}, got {name}")
    return TASKS[name]


def read(task: Task, source: str, split: Split) -> Examples:
    """Labelled examples of a task from `source`: a folder that holds GLUE's folders (SST-2/train.tsv, ...), or "glue".

    :raises LocalConfigError: the file or the `datasets` library is missing, or there are no columns of those names.
    :raises LocalInputError: a row is damaged (the error says which).
    """
    if source == HUB and not Path(source).is_dir():
        return _examples(task, f"{HUB} {task.name} {split}", _hub_rows(task, split))
    path = Path(source) / task.folder / f"{split}.tsv"
    if not path.is_file():
        raise LocalConfigError(f"{task.name}: want {path}, got no such file; --data names the folder of GLUE's folders")
    return _examples(task, str(path), _file_rows(task, path, read_lines(path)))


def _file_rows(task: Task, path: Path, lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """A quote is a character like any other in GLUE's files."""
    rows = (line.split("\t") for line in lines)
    names: tuple[str, ...] = tuple(next(rows, ())) if task.header else COLA_COLUMNS
    if missing := [name for name in task.columns if name not in names]:
        raise LocalConfigError(f"{path}: want columns {', '.join(missing)}, got {', '.join(names) or 'no header line'}")
    for number, row in enumerate(rows, start=1):
        if len(row) < len(names):
            raise LocalInputError(f"{path}: row {number}: want {len(names)} columns, got {len(row)}")
        yield dict(zip(names, row, strict=False))


def _hub_rows(task: Task, split: Split) -> Iterator[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise LocalConfigError(
            f"{HUB}: want the library `datasets`, got none; pip install datasets, or name a folder with --data"
        ) from error
    try:
        rows = load_dataset(
            "nyu-mll/glue", task.name.replace("-", ""), split={"train": "train", "dev": "validation"}[split]
        )
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{HUB}: want {task.name} from the hub, got {type(error).__name__}: {error}") from error
    for row in rows:
        yield {name: row[HUB_COLUMNS.get(name, name)] for name in task.columns}


def _examples(task: Task, where: str, rows: Iterable[Mapping[str, Any]]) -> Examples:
    *columns, last = task.columns
    found = Examples([], [])
    for number, row in enumerate(rows, start=1):
        first, *second = (row[column] for column in columns)
        found.texts.append((first, second[0]) if task.pair else first)
        found.labels.append(_label(task, row[last], f"{where}: row {number}"))
    if not found.texts:
        raise LocalInputError(f"{where}: want examples, got none")
    return found


def _label(task: Task, value: Any, where: str) -> float:
    """A label by its name or its index; a score as it is."""
    if value in task.labels:
        return float(task.labels.index(value))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) if not task.labels else number in range(len(task.labels))):
        want = " or ".join(task.labels) or "a score"
        raise LocalInputError(f"{where}: want label {want}, got {value!r}")
    return number
