"""One training run from its options to a checkpoint and results.json: data, split, training, the score on dev."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.text_files import read_text, write_text
from mpcnet.models.texts.metrics import score
from mpcnet.models.texts.tasks import Examples, Task, read, task_of
from mpcnet.models.training.loop import Progress, Rows, Run, Stage, Trainer, pick, predict, split, tokenise

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import BertForSequenceClassification

RESULTS, OPTIONS, STATE, CARD = "results.json", "options.json", "state.pt", "README.md"
INSTALL = "pip install 'mpcnet[distill]'"


@dataclass(frozen=True, slots=True)
class Options:
    """What a result depends on: a run that was stopped goes on under the same only."""

    kind: Literal["teacher", "student"]
    source: str  # the pretrained model, or the teacher
    task: str
    data: tuple[str, ...]
    stages: tuple[Stage, ...]
    softmax: Literal["exact", "2quad", "2relu"] = "exact"
    activation: Literal["gelu", "quad"] = "gelu"
    layers: int = 0
    batch: int = 32
    length: int = 128
    limit: int = 0
    max_steps: int = 0
    seed: int = 1
    half: bool = False
    bf16: bool = False


@dataclass(frozen=True, slots=True)
class Sets:
    """Examples by use: for the weights, for the choice of an epoch, for the report."""

    train: Examples = field(repr=False)
    held_out: Examples = field(repr=False)
    dev: Examples = field(repr=False)


def train(
    options: Options, out: Path, save_every: int, say: Callable[[str], None], show: Callable[[Progress], None]
) -> dict[str, Any]:
    """Train, or go on with it, or only read the results if they are there. Writes the checkpoint and results.json.

    Of several processes the first writes, and only its results have the scores on dev.

    :raises LocalConfigError: a library, the model, the data or the teacher is missing; `out` holds something else.
    """
    accelerator = _accelerator(options)
    task, wanted = task_of(options.task), json.loads(json.dumps(asdict(options)))
    if _finished(out, wanted):
        return _read(out / RESULTS)
    started = time.perf_counter()
    say("reading the data")
    sets = load(task, options)
    train_rows, held_out, dev = (
        tokenise(options.source, found, options.length) for found in (sets.train, sets.held_out, sets.dev)
    )
    say("loading the model")
    model, losses = _models(task, options, accelerator)
    with _claimed(out, wanted) if accelerator.is_main_process else nullcontext():
        run = Run(task, options.batch, options.seed, options.max_steps, save_every)
        trainer = Trainer(accelerator, model, run, out / STATE, show)
        history = trainer.train(options.stages, losses, train_rows, held_out)
        document = {
            "options": wanted,
            "examples": {"train": len(sets.train), "held_out": len(sets.held_out), "dev": len(sets.dev)},
            "metric": task.headline,
            "epochs": history,
            "seconds": time.perf_counter() - started,  # of the last start, if there were several
            "machine": report.machine(),
            "commit": report.commit(),
            "processes": accelerator.num_processes,
            "torch": torch.__version__,
        }
        if accelerator.is_main_process:
            say("scoring what is saved on dev")
            _save(model, task, options, out)
            document["dev"] = _scores(task, out, dev, accelerator.device)
            write_text(str(out / RESULTS), json.dumps(document, indent=1))
            (out / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return document


def load(task: Task, options: Options) -> Sets:
    """Texts of all sources, each once and never one of dev's; dev is the first source's.

    :raises LocalInputError: there are none.
    """
    dev = read(task, options.data[0], "dev")
    seen = set(dev.texts)
    found = Examples([], [])
    for source in options.data:
        examples = read(task, source, "train")
        new = pick(examples, [i for i, text in enumerate(examples.texts) if text not in seen])
        found.texts.extend(new.texts)
        found.labels.extend(new.labels)
        seen.update(new.texts)
    if len(found) < 2:
        raise LocalInputError(f"{task.name}: want examples that are not in dev, got {len(found)}")
    rest, held_out = split(found, options.seed)
    if options.limit:
        order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(options.seed)).tolist()
        rest = pick(rest, sorted(order[: options.limit]))
    return Sets(rest, held_out, dev)


def _accelerator(options: Options) -> Accelerator:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise LocalConfigError(f"distill: want the library accelerate, got none; run: {INSTALL}") from error
    from transformers.utils import logging

    logging.set_verbosity_error()  # a new head is no news here
    logging.disable_progress_bar()
    head_alone = any(stage.name == "layers" for stage in options.stages)  # that loss does not reach the head
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=head_alone)
    return Accelerator(
        mixed_precision="bf16" if options.bf16 else "no",
        cpu=not torch.accelerator.is_available(),  # told so, its processes find each other on CPUs too
        kwargs_handlers=[kwargs],
    )


@contextmanager
def _claimed(out: Path, wanted: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder of a run, and keep it to this process: two that go on from one state would replace each other's.

    :raises LocalConfigError: another process trains there.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(str(out / OPTIONS), json.dumps(wanted, indent=1))
    with (out / OPTIONS).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalConfigError(
                f"{out}: want a folder that nobody trains in, got one that another process does; wait for it, or name "
                "another --out"
            ) from error
        yield


def _finished(out: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a run with these options ended in this folder; false if it may start or go on there.

    :raises LocalConfigError: the folder holds other files, or a run with other options (they are named).
    """
    if not (out / OPTIONS).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise LocalConfigError(f"{out}: want a new or empty folder for --out, got one with files")
        return False
    had = _read(out / OPTIONS)
    differing = [f"{key} {had.get(key)} is not {value}" for key, value in wanted.items() if had.get(key) != value]
    if differing:
        raise LocalConfigError(f"{out}: holds a run with other options: {'; '.join(differing)}; name another --out")
    return (out / RESULTS).exists()


def _read(path: Path) -> dict[str, Any]:
    """:raises LocalConfigError: somebody wrote something else into a file of ours."""
    try:
        return checked_json.mapping(read_text(path))
    except ValueError as error:
        raise LocalConfigError(f"{path}: want JSON of an earlier run, got {error}; name another --out") from error


def _models(
    task: Task, options: Options, accelerator: Accelerator
) -> tuple[BertForSequenceClassification, Mapping[str, Any]]:
    from mpcnet.models.float_model.students import load_student
    from mpcnet.models.training.distillation import losses

    torch.manual_seed(options.seed)  # of a new head
    model = load_student(options.source, task, options.softmax, options.activation, options.layers)
    if options.kind == "teacher":
        return model, losses(task)
    teacher = load_student(options.source)
    if teacher.config.id2label != model.config.id2label:
        labels = ", ".join(teacher.config.id2label.values())
        raise LocalConfigError(f"{options.source}: want a teacher of {task.name}, got one with the labels {labels}")
    return model, losses(task, teacher.to(accelerator.device))


def _save(model: BertForSequenceClassification, task: Task, options: Options, out: Path) -> None:
    """The checkpoint, its tokenizer, and a card with the licence of what it was made from."""
    from mpcnet.models.checkpoints.loading import license_of
    from mpcnet.models.texts.tokens import load_tokenizer

    (model.half() if options.half else model).save_pretrained(out)
    load_tokenizer(options.source).save_pretrained(out)
    card = f"---\nlicense: {license_of(options.source)}\n---\n\nA {task.name} {options.kind}, made by `mpcnet distill`"
    write_text(str(out / CARD), f"{card} from {Path(options.source).name}; {OPTIONS} and {RESULTS} say how.")


def _scores(task: Task, out: Path, dev: Rows, device: torch.device) -> dict[str, float]:
    """Of the files as they were written."""
    from mpcnet.models.float_model.students import load_student

    return score(task, predict(load_student(out).to(device), dev, device), dev.labels)
