"""`mpcnet distill`: fine-tune a teacher, and distil it into a student that private inference runs faster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError
from mpcnet.launch.distill.training_run import RESULTS, Options, train
from mpcnet.launch.options import Json, TaskName
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.launch.reporting.text_files import check_folder, read_text, write_text
from mpcnet.models.private.prepare import tokenizer_source
from mpcnet.models.texts.tasks import HUB
from mpcnet.models.training.loop import Progress, Stage

app = typer.Typer(no_args_is_help=True, help="Train classifiers for private inference: a teacher, then its students.")
WARMUP = 0.1  # of a stage's steps; the rate then falls to 0. The first stage of a distillation has a constant rate.

Data = Annotated[
    list[str],
    typer.Option(help=f"Folder of GLUE's folders, or {HUB} (library `datasets`); repeatable: texts of all, each once."),
]
Out = Annotated[Path, typer.Option(help="Folder of the result; a run there that was stopped goes on.")]
Epochs = Annotated[int, typer.Option(min=0, help="Epochs (of the first stage).")]
Rate = Annotated[float, typer.Option(min=0.0, help="Learning rate (of the first stage).")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="Examples to a step of each process.")]
Length = Annotated[int, typer.Option(min=8, max=512, help="Longer texts are cut to so many tokens.")]
MaxSteps = Annotated[int, typer.Option(min=0, help="Steps of a stage at most; 0: no limit.")]
Limit = Annotated[int, typer.Option(min=0, help="Train on a random choice of so many examples; 0: on all.")]
Seed = Annotated[int, typer.Option(help="Of the split, the order, dropout and a new head.")]
Dropout = Annotated[float | None, typer.Option(min=0.0, max=0.9, help="Instead of config.json's.")]
Half = Annotated[bool, typer.Option("--half", help="Save the weights in float16.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Products in bfloat16 (GPUs, CPUs with AMX or AVX512-BF16).")]
SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between two saved states.")]


@app.command("teacher")
def teacher_command(
    task: TaskName,
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option(help="A pretrained BERT or MPNet: a directory, a hub name, demo, or mpnet.")],
    layers: Annotated[int, typer.Option(min=0, help="Keep its first so many layers; 0: all.")] = 0,
    epochs: Epochs = 3,
    lr: Rate = 5e-5,
    batch: BatchSize = 32,
    length: Length = 128,
    max_steps: MaxSteps = 0,
    limit: Limit = 0,
    seed: Seed = 1,
    dropout: Dropout = None,
    half: Half = False,
    bf16: Bf16 = False,
    save_every: SaveEvery = 500,
) -> None:
    """Fine-tune a pretrained BERT or MPNet on the labels of a task."""
    stages = (Stage("labels", epochs, lr, WARMUP, dropout),)
    options = Options(
        "teacher", tokenizer_source(model), task, tuple(data), stages, layers=layers, batch=batch, length=length,
        limit=limit, max_steps=max_steps, seed=seed, half=half, bf16=bf16,
    )  # fmt: skip
    _train(options, out, save_every)


@app.command("student")
def student_command(
    task: TaskName,
    data: Data,
    out: Out,
    teacher: Annotated[Path, typer.Option(help="Folder of a fine-tuned teacher.")],
    softmax: Annotated[Literal["exact", "2quad", "2relu"], typer.Option(help="The student's softmax.")] = "2quad",
    activation: Annotated[Literal["gelu", "quad"], typer.Option(help="Its GeLU; quad is MPCFormer's.")] = "gelu",
    labels_only: Annotated[bool, typer.Option("--labels-only", help="No distillation: one stage, on labels.")] = False,
    epochs: Epochs = 10,
    lr: Rate = 5e-5,
    logit_epochs: Annotated[int, typer.Option(min=0, help="Epochs of the second stage.")] = 5,
    logit_lr: Annotated[float, typer.Option(min=0.0, help="Learning rate of the second stage.")] = 1e-5,
    batch: BatchSize = 32,
    length: Length = 128,
    max_steps: MaxSteps = 0,
    limit: Limit = 0,
    seed: Seed = 1,
    dropout: Dropout = None,
    half: Half = False,
    bf16: Bf16 = False,
    save_every: SaveEvery = 500,
) -> None:
    """Distil a teacher into a student with other functions: what is inside the teacher first, then its logits.

    With no epochs at all the student has the teacher's weights.
    """
    if labels_only:
        stages: tuple[Stage, ...] = (Stage("labels", epochs, lr, WARMUP, dropout),)
    else:
        stages = (
            Stage("layers", epochs, lr, 0.0, dropout, select=False),
            Stage("logits", logit_epochs, logit_lr, WARMUP, dropout),
        )
    options = Options(
        "student", str(teacher), task, tuple(data), stages, softmax, activation, batch=batch, length=length,
        limit=limit, max_steps=max_steps, seed=seed, half=half, bf16=bf16,
    )  # fmt: skip
    _train(options, out, save_every)


@app.command("table")
def table_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    json_file: Json = "",
) -> None:
    """The results of several runs side by side."""
    check_folder(json_file)
    documents = [_results(folder) for folder in folders]
    if json_file == "-":
        print(json.dumps(documents))
        return
    if json_file:
        write_text(json_file, json.dumps(documents, indent=1))
    _show(folders, documents)


def _results(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS
    try:
        return checked_json.mapping(read_text(path))
    except ValueError as error:
        raise LocalConfigError(f"{path}: want JSON, got {error}") from error


def _train(options: Options, out: Path, save_every: int) -> None:
    if os.environ.get("RANK", "0") != "0":  # one of several processes, and not the one that tells
        train(options, out, save_every, lambda text: None, lambda now: None)
        return
    with _progress() as bars:
        document = train(options, out, save_every, bars.say, bars.show)
    _show([out], [document])


class _Bars:
    """Progress on a terminal; on anything else a line for each epoch."""

    def __init__(self, bars: Bars) -> None:
        self._bars, self._task = bars, bars.add_task("starting", total=None)

    def say(self, text: str) -> None:
        self._bars.update(self._task, description=text)

    def show(self, now: Progress) -> None:
        self._bars.update(
            self._task, description=f"{now.stage}, epoch {now.epoch}", completed=now.step, total=now.steps
        )
        if now.loss is not None and now.scores is not None:
            scores = ", ".join(f"{name} {value:.4f}" for name, value in now.scores.items())
            self._bars.console.print(f"{now.stage}, epoch {now.epoch}: loss {now.loss:.5f}; held out: {scores}")


@contextmanager
def _progress() -> Iterator[_Bars]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
        yield _Bars(bars)


def _show(folders: Sequence[Path], documents: Sequence[dict[str, Any]]) -> None:
    table = Table(title="results: the chosen epoch on held-out training examples, and on dev", title_justify="left")
    for column in ("run", "task", "softmax", "GeLU", "stages (epochs)", "examples", "held out", "dev", "minutes"):
        table.add_column(column)
    for folder, document in zip(folders, documents, strict=True):
        options, metric = document["options"], document["metric"]
        stages = ", ".join(f"{stage['name']} {stage['epochs']}" for stage in options["stages"] if stage["epochs"])
        dev = ", ".join(f"{name} {value:.4f}" for name, value in document["dev"].items())
        table.add_row(
            folder.name, options["task"], options["softmax"], options["activation"], stages or "none",
            str(document["examples"]["train"]), _held_out(document, metric), dev, f"{document['seconds'] / 60:.1f}",
        )  # fmt: skip
    screen().print(table)


def _held_out(document: dict[str, Any], metric: str) -> str:
    """The best epoch of the last stage: the weights that were kept."""
    epochs = document["epochs"]
    kept = [row["held_out"][metric] for row in epochs if row["stage"] == epochs[-1]["stage"]]
    return f"{max(kept):.4f}" if kept else ""
