"""Options that several commands have: one name, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcnet.errors import LocalConfigError
from mpcnet.launch.reporting.screen import console, warn_of
from mpcnet.launch.requests.asked import Blank
from mpcnet.launch.requests.view import Aggregation
from mpcnet.models.families.config import AnswerKind, Embedding
from mpcnet.models.presets import PRESETS
from mpcnet.models.private.own_calibration import keep, with_texts
from mpcnet.models.private.prepare import BUILTIN, PACKAGED, checkpoint, folder_of_that_name
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.inputs import Format, given_at
from mpcnet.models.texts.tasks import TASKS
from mpcnet.protocols.suites import SUITES

Where = Annotated[
    Embedding, typer.Option(help="Who looks tokens up: the servers in a private table, or the client, unchecked.")
]
Config = Annotated[Path, typer.Option("--config", help="The party.toml of this process, beside its keys.")]
DEMO = f"{BUILTIN}demo"  # the default model, whatever folders there are


def _model(name: str | None) -> str | None:
    """Say which model a name means, if there are two."""
    if name and (note := folder_of_that_name(name)):
        warn_of(note, console)
    return name


MODELS = f"{', '.join(PACKAGED)}, a directory, a hub name, or one of {', '.join(PRESETS)} (random)"
Model = Annotated[
    str, typer.Option(help=f"{MODELS}. A directory of such a name comes first; {DEMO} is never one.", callback=_model)
]
SuiteName = Annotated[str, typer.Option("--suite", help=f"One of {', '.join(SUITES)}.")]
SoftmaxName = Annotated[
    Softmax | None,
    typer.Option(
        "--softmax",
        help="exact runs any checkpoint; 2quad is SecFormer's, 2relu MPCFormer's. Default: the checkpoint's own.",
    ),
]
AnswerName = Annotated[
    AnswerKind,
    typer.Option("--answer", help="label: a classifier's client learns which logit is the largest, no more."),
]
Question = Annotated[
    str | None,
    typer.Option("--question", help="For a model that answers questions: each text is a context of this."),
]
Query = Annotated[
    str | None,
    typer.Option("--query", help="For a cross-encoder: texts are documents, ranked by their scores for this."),
]
Paired = Annotated[bool, typer.Option("--pair", help="The texts of the command line are pairs, two by two.")]
AnswerLength = Annotated[
    int | None, typer.Option("--max-answer-len", min=1, help="Tokens that an answer in a context may have: 15.")
]
Impossible = Annotated[
    bool | None, typer.Option("--impossible", help="There may be no answer in a context: then it is empty.")
]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Words for each mask, the likeliest first: 5.")]
Dim = Annotated[
    int | None, typer.Option("--dim", min=1, help="Of an embedding, so many columns: servers compute and send no more.")
]
AggregationName = Annotated[
    Aggregation | None,
    typer.Option("--aggregation", help="How labels of tokens become entities, as transformers' pipeline does: simple."),
]
Json = Annotated[str, typer.Option("--json", help="Write the result as JSON to this file; - for standard output.")]
Calibration = Annotated[Path | None, typer.Option(help="Calibration file to read, made by mpcnet calibrate --out.")]
CalibrateOn = Annotated[
    Path | None,
    typer.Option(
        "--calibrate-on",
        help="Calibrate first, on a file's texts, as infer reads it, or a folder's images; kept.",
    ),
]
NoAudit = Annotated[
    bool, typer.Option("--no-audit", help="Do not have the servers check that all values kept to their ranges.")
]
Accept = Annotated[
    bool,
    typer.Option("--accept-out-of-range", help="Show answers that the audit found out of range all the same, marked."),
]
TextFile = Annotated[
    Path | None, typer.Option("--file", help="Read texts from this file: one a line; .jsonl and .tsv by their names.")
]
PairFile = Annotated[
    Path | None, typer.Option("--pairs", help="Read pairs of texts from this file: JSON lines, or .tsv.")
]
FormatName = Annotated[
    Format | None,
    typer.Option("--format", help='Of the file: lines, jsonl ("a text", ["a", "b"] or {"text": "a"}), or tsv (pairs).'),
]
BlankName = Annotated[
    Blank, typer.Option("--blank", help="What a blank line gets: an error in its place, or an empty answer.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N: where servers and dealer compute products by weights.")]
Batch = Annotated[int, typer.Option(min=1, max=256, help="Sentences to a request.")]
Streams = Annotated[
    int, typer.Option(min=1, max=16, help="Micro-batches of a request: some compute while others wait.")
]
Net = Annotated[str, typer.Option(help="none, lan, wan, or rtt=40ms,bw=100mbps[,jitter=2ms].")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each process's kernels.")]
PartyTimeout = Annotated[float, typer.Option("--timeout", help="Seconds that a party waits for another.")]
PrintJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TaskName = Annotated[str, typer.Option("--task", help=f"One of {', '.join(TASKS)}.")]
Images = Annotated[
    list[Path] | None,
    typer.Option("--image", help="For a model of images: an image's file, or a folder of them; repeatable."),
]


def calibrate_first(model: str, file: Path | None, calibration: Path | None) -> None:
    """What --calibrate-on asks for: ranges of these texts, or of a folder's images, too, kept in the cache, where the
    command then finds them.

    :raises LocalConfigError: a file of calibration is named too, or the model cannot be calibrated.
    :raises LocalInputError: the model cannot read one of the texts; the error says which.
    """
    if file is None:
        return
    if calibration is not None:
        raise LocalConfigError(f"--calibrate-on: want it or --calibration, got both: {file} and {calibration}")
    texts = given_at(file)
    with console.status(f"loading {model}") as status:
        found = checkpoint(model)
        keep(found, with_texts(found, texts, say=status.update))
