"""A model on labelled examples, three ways: the float model, the fixed-point oracle, and the private run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.launch.evaluation import results
from mpcnet.launch.evaluation.examples import Choice, choose, groups, in_order, restore
from mpcnet.launch.evaluation.results import Difference, Evaluation
from mpcnet.launch.reporting.screen import warn, warn_of
from mpcnet.launch.requests.compare import plain_answer
from mpcnet.launch.simulate import localhost
from mpcnet.launch.simulate.localhost import Options, Outcome
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.private import oracle_trace
from mpcnet.models.private.prepare import Prepared, checkpoint, prepare
from mpcnet.models.private.program import wanted_answer
from mpcnet.models.texts.metrics import score
from mpcnet.models.texts.tasks import Task
from mpcnet.models.texts.tokens import Tokens, encode

PHASES = ("upload", "offline", "online")


def evaluate(choice: Choice, options: Options, console: Console) -> Evaluation:
    """Run the task's examples through all three ways; each private request holds `options.batch` of them.

    :raises LocalConfigError: there is no such task, data or model, or the model has no head for the task.
    :raises LocalInputError: an example is damaged, or has more tokens than the model takes.
    """
    busy = results.load_now()
    chosen = choose(choice)
    with console.status("preparing the model") as status:
        found = checkpoint(options.model)
        check_head(options.model, found, chosen.task)
        tokens = encode(found.source, chosen.texts, found.shape.positions, found.preprocessing, found.shape)
        longest = tokens.ids.shape[1]
        prepared = prepare(
            options.model,
            options.suite,
            options.softmax,
            longest,
            options.calibration,
            options.embedding,
            status.update,
        )
    wanted_answer(prepared.config, options.answer)
    warn(prepared, console)
    outputs = _in_process(prepared, tokens, options.batch, console)
    sample = Tokens(*(x[chosen.private] for x in (tokens.ids, tokens.types, tokens.mask)))
    private = {way: values[chosen.private] for way, values in outputs.items()}
    grouped = groups(sample, options.batch)
    outcome = localhost.run(prepared, [sample.rows(group) for group in grouped], options, console)
    private["private"] = restore(grouped, outcome.private)
    out_of_range = sum(outcome.document["out_of_range"] or [])
    if out_of_range:
        warn_of(
            f"{out_of_range} of {len(chosen.private)} private examples: a value left its range", console, "bold red"
        )
    return Evaluation(
        task=chosen.task.name,
        headline=chosen.task.headline,
        model=results.display_name(options.model),
        suite=options.suite,
        softmax=prepared.config.formats.softmax,
        answer=options.answer,
        seed=choice.seed,
        available=chosen.available,
        n=len(chosen.texts),
        private_n=len(chosen.private),
        longest=longest,
        scores={way: score(chosen.task, values, chosen.labels) for way, values in outputs.items()},
        private_scores={
            way: score(chosen.task, values, chosen.labels[chosen.private]) for way, values in private.items()
        },
        differences=_differences(private, options.answer)
        | _published(prepared, tokens, outputs["float"], options.batch, console),
        **_cost(outcome, len(chosen.private), options),
        load=round(busy, 2),
        out_of_range=out_of_range if options.audit else None,
        labels=chosen.labels[chosen.private].tolist(),
        outputs={way: results.rows_of(values) for way, values in private.items()},
    )


def check_head(model: str, found: Checkpoint, task: Task) -> None:
    """:raises LocalConfigError: the model does not classify, or into something else than the task's labels."""
    shape = found.shape
    if shape.head != "classification":
        raise LocalConfigError(
            f"{model}: want a checkpoint with a classifier for {task.name}, got an embedding model; "
            "mpcnet bench embeddings and mpcnet bench similarity compare embeddings"
        )
    if shape.labels != task.outputs:
        raise LocalConfigError(f"{model}: want {task.outputs} outputs for {task.name}, got {shape.labels}")


def _in_process(prepared: Prepared, tokens: Tokens, batch: int, console: Console) -> dict[str, Tensor]:
    """The float model's outputs and the oracle's, [n, labels] each."""
    grouped = groups(tokens, batch)
    with torch.inference_mode():
        whole = oracle_trace.load_plain(prepared.config, prepared.folded)
        with progress(console) as bar:
            return {
                "float": in_order(
                    grouped, tokens, lambda rows: plain_answer(prepared, rows), step(bar, "float model", len(grouped))
                ),
                "oracle": in_order(
                    grouped,
                    tokens,
                    lambda rows: oracle_trace.answer(whole, prepared.folded, rows),
                    step(bar, "fixed-point oracle", len(grouped)),
                ),
            }


def _published(
    prepared: Prepared, tokens: Tokens, floats: Tensor, batch: int, console: Console
) -> dict[str, Difference]:
    """The float model beside transformers' modules, in float64."""
    softmax = prepared.config.formats.softmax
    from mpcnet.models.float_model.huggingface import (
        huggingface_classifier,  # transformers: only who compares waits for it
    )

    grouped, run = groups(tokens, batch), huggingface_classifier(prepared.checkpoint, softmax)
    with progress(console) as bar:
        theirs = in_order(grouped, tokens, run, step(bar, "transformers, as a check", len(grouped)))
    return {"transformers-float": Difference.of(theirs, floats)}


def _differences(outputs: dict[str, Tensor], answer: AnswerKind) -> dict[str, Difference]:
    """Only the private run answers with labels, if it is to."""
    found = {f"private-{way}": Difference.of(outputs["private"], outputs[way], answer) for way in ("float", "oracle")}
    return found | {"oracle-float": Difference.of(outputs["oracle"], outputs["float"])}


def _cost(outcome: Outcome, count: int, options: Options) -> dict[str, Any]:
    """A private example's share of all requests, and facts about the run."""
    document = outcome.document
    rounds = [request["rounds"] for request in document["requests"]]
    return {
        "batch": options.batch,
        "requests": len(rounds),
        "rounds": (min(rounds), max(rounds)),
        "sent_bytes": document["sent_bytes"] / count,
        "dealt_bytes": document["offline_bytes"] / count,
        "seconds": {phase: document[f"seconds_{phase}"] / count for phase in PHASES},
        **{key: document[key] for key in ("threads", "kernels", "machine", "commit")},
    }


def progress(console: Console) -> Progress:
    """Bars on standard error, gone when they are full."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn(), console=console, transient=True
    )


def step(bar: Progress, name: str, total: int) -> Callable[[], None]:
    """A new bar; what is returned moves it on by one."""
    task = bar.add_task(name, total=total)
    return lambda: bar.advance(task)
