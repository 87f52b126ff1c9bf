"""`mpcnet bench`: the figures this project claims, printed as JSON lines that name machine, commit and n."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from rich.table import Table
from torch import Tensor

from mpcnet.arrays import accelerator
from mpcnet.errors import LocalInputError
from mpcnet.launch.bench import families as family_rows
from mpcnet.launch.bench import kernels as kernel_bench
from mpcnet.launch.bench import suites as scaling
from mpcnet.launch.bench.load import measure as load
from mpcnet.launch.bench.soak import Soak, soak
from mpcnet.launch.netem import predict
from mpcnet.launch.options import DEMO, Batch, Device, Json, Model, Net, NoAudit, SoftmaxName, Streams, SuiteName
from mpcnet.launch.reporting import report
from mpcnet.launch.reporting.screen import console, screen
from mpcnet.launch.reporting.text_files import check_folder, write_text
from mpcnet.launch.simulate.localhost import Options, Outcome, simulate
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.inputs import read_lines
from mpcnet.models.texts.metrics import spearman
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.latency import parse_link

app = typer.Typer(no_args_is_help=True, help="Print the figures of the README: accuracy, time, latency.")


MemoryMib = Annotated[int, typer.Option(min=0, help="memory_mib of each party; 0: a third of this machine.")]
PHASES = ("upload", "offline", "online")


@app.command("embeddings")
def embeddings(
    data: Annotated[Path, typer.Option(help="A TSV file with a header; SST-2's dev.tsv, say.")],
    column: Annotated[str, typer.Option(help="Column of the sentence.")] = "sentence",
    sentences: Annotated[int, typer.Option(min=1)] = 64,
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    batch: Batch = 8,
    no_audit: NoAudit = False,
) -> None:
    """Cosine of private and plaintext embedding for each of the first sentences of a file."""
    texts = [row[column] for row in _rows(data, [column])[:sentences]]
    outcome = simulate(texts, Options(model, suite, softmax, batch=batch, audit=not no_audit), console)
    cosines = torch.cosine_similarity(outcome.private, outcome.plain, dim=1)
    keys = ("min_cosine", "mean_cosine", "max_abs_error", "seconds_total")
    _print("embeddings", outcome, n=len(cosines), data=data.parent.name, **{key: outcome.document[key] for key in keys})


@app.command("similarity")
def similarity(
    data: Annotated[Path, typer.Option(help="A TSV file with a header; STS-B's dev.tsv, say.")],
    pairs: Annotated[int, typer.Option(min=2)] = 200,
    first: Annotated[str, typer.Option(help="Column of the first sentence.")] = "sentence1",
    second: Annotated[str, typer.Option(help="Column of the second sentence.")] = "sentence2",
    score: Annotated[str, typer.Option(help="Column of the score.")] = "score",
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    batch: Batch = 8,
    no_audit: NoAudit = False,
) -> None:
    """Spearman correlation with people's scores of private and of plaintext cosine similarities."""
    rows = _rows(data, [first, second, score])[:pairs]
    texts = [row[name] for row in rows for name in (first, second)]
    outcome = simulate(texts, Options(model, suite, softmax, batch=batch, audit=not no_audit), console)
    scores = torch.tensor([float(row[score]) for row in rows], dtype=torch.float64)
    private, plain = (_similarities(x) for x in (outcome.private, outcome.plain))
    found = {"spearman_private": spearman(private, scores), "spearman_plain": spearman(plain, scores)}
    found["difference"] = found["spearman_private"] - found["spearman_plain"]
    keys = ("min_cosine", "seconds_total")
    _print("similarity", outcome, n=len(rows), **found, **{key: outcome.document[key] for key in keys})


@app.command("time")
def time_command(
    length: Annotated[int, typer.Option(min=1, help="Tokens.")] = 128,
    runs: Annotated[int, typer.Option(min=1, help="Requests in one deployment; the first warms up.")] = 5,
    net: Net = "none",
    model: Model = DEMO,
    suite: SuiteName = "fast",
    softmax: SoftmaxName = None,
    batch: Batch = 1,
    streams: Streams = 1,
    no_audit: NoAudit = False,
) -> None:
    """Seconds of a request, offline and online, and what rounds, bytes and compute predict for the link."""
    options = Options(model, suite, softmax, net=net, batch=batch, length=length, streams=streams, audit=not no_audit)
    outcome = simulate(["A man is playing a guitar on a small stage."] * (batch * (runs + 1)), options, console)
    document, timed = outcome.document, outcome.document["requests"][1:]
    rows: dict[str, Any] = {}
    for phase in PHASES:
        rows |= _spread(f"seconds_{phase}", [request[f"seconds_{phase}"] for request in timed])
    rows |= _spread("seconds_total", [sum(request[f"seconds_{phase}"] for phase in PHASES) for request in timed])
    terms = predict.online(predict.mean_counts(document), parse_link(net))
    predicted = terms.total_s if streams == 1 else terms.overlapped_s
    measured = rows["seconds_online_median"]
    count = len(document["requests"])
    cost = {key: document[key] / count for key in ("rounds", "sent_bytes", "offline_bytes")}
    _print(
        "time", outcome, n=len(timed), length=length, batch=batch, streams=streams, net=net, **rows, **cost,
        predicted_online=predicted,
        residual=measured / predicted - 1, peaks=document["peaks"],
    )  # fmt: skip


@app.command("suites")
def suites_command(
    models: Annotated[str, typer.Option(help="Models, separated by commas.")] = "bert-base",
    lengths: Annotated[str, typer.Option(help="Tokens, separated by commas.")] = "128",
    suites: Annotated[str, typer.Option(help="Suites, separated by commas.")] = "fast,secformer",
    softmaxes: Annotated[str, typer.Option(help="Softmax variants, separated by commas.")] = "exact,2quad",
    runs: Annotated[int, typer.Option(min=1, help="Requests of each deployment, after one that warms up.")] = 3,
    net: Net = "none",
    streams: Streams = 1,
    device: Device = "cpu",
    no_audit: NoAudit = False,
    out: Annotated[Path | None, typer.Option(help="Folder for suites.jsonl, and a plot of all that it holds.")] = None,
) -> None:
    """What one sentence costs by suite, softmax, model and length: rounds, bytes, seconds, CPU against plaintext."""
    chosen = _among("suites", suites, SUITES), _among("softmaxes", softmaxes, get_args(Softmax))
    grid = scaling.Grid(tuple(models.split(",")), _whole(lengths), *chosen, runs, net, streams, device, not no_audit)
    rows = scaling.run(grid, out, console)
    for table in scaling.tables(rows):
        console.print(table)
    if out is not None:
        scaling.plot(scaling.kept(out), out)


def _among(what: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in known]:
        raise LocalInputError(f"{what}: want some of {', '.join(known)}, separated by commas, got {unknown[0]!r}")
    return names


def _whole(text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(word) for word in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1:
        raise LocalInputError(f"lengths: want whole numbers of tokens, separated by commas, got {text!r}")
    return values


@app.command("kernels")
def kernels_command(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each kernel, after one that warms up.")] = 30,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a kernel.")] = 1,
    only: Annotated[str, typer.Option(help="Kernels whose name has this in it.")] = "",
    device: Device = "cpu",
) -> None:
    """Each kernel at BERT-base's sizes: seconds, torch's seconds for the same, and the bound."""
    torch.set_num_threads(threads)
    kernel_bench.bench(runs, only, accelerator.on(device), accelerator.describe(device), console)


@app.command("soak")
def soak_command(
    requests: Annotated[int, typer.Option(min=1, help="Requests in a row.")] = 500,
    every: Annotated[float, typer.Option(min=0.0, help="Seconds between two restarts; 0: none.")] = 20.0,
    limit: Annotated[float, typer.Option(help="A request without answer or error for so many seconds hangs.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the choice of victims.")] = 1,
    batch: Annotated[int, typer.Option(min=0, max=256, help="Random rows to a request; 0: a short text each.")] = 0,
    tokens: Annotated[int, typer.Option(min=1, help="Of a random row of --batch.")] = 64,
    memory_mib: MemoryMib = 0,
    model: Model = DEMO,
) -> None:
    """Requests in a row while a random party is killed and started again now and then.

    Prints each process's peak of resident memory in each tenth of the run. Exit code 1 if an answer was wrong or a
    request hung.
    """
    found = soak(model, Soak(requests, every, limit, seed, batch, tokens, memory_mib), console)
    how = {"every_s": every, "seed": seed, "batch": batch, "tokens": tokens, "memory_mib": memory_mib}
    facts = {"model": model, "machine": report.machine(), "commit": report.commit()}
    print(json.dumps({"bench": "soak", **found, **how, **facts}))
    raise typer.Exit(1 if found["wrong"] or found["hung"] else 0)


@app.command("load")
def load_command(
    clients: Annotated[str, typer.Option(help="How many clients at once, step by step.")] = "1,4,16,64",
    seconds: Annotated[float, typer.Option(min=1.0, help="Of each step.")] = 20.0,
    batch: Batch = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a sentence.")] = 16,
    memory_mib: MemoryMib = 0,
    model: Model = DEMO,
    json_file: Json = "",
) -> None:
    """Sentences a second, and seconds of an answer, with many clients at once; and a lone client's beside them.

    Each client asks one request after the other. The lone client has a certificate of its own, and asks one sentence at
    a time. Prints the servers' resident memory after each step, which must not grow with the number of requests.
    """
    check_folder(json_file)
    try:
        steps = [int(step) for step in clients.split(",")]
    except ValueError:
        steps = [0]
    if min(steps) < 1:
        raise LocalInputError(f"clients: want whole numbers from 1 on, as 1,4,16, got {clients[:40]!r}")
    with console.status("preparing the model") as status:
        rows = load(model, steps, seconds, batch, tokens, memory_mib, status.update)
    facts = {"bench": "load", "model": model, "machine": report.machine(), "commit": report.commit()}
    lines = "\n".join(json.dumps({**facts, **row}) for row in rows)
    if json_file == "-":
        print(lines)
        return
    if json_file:
        write_text(json_file, lines)
    table = Table(title=f"{model}, {batch} x {tokens} tokens a request, {facts['machine']}", title_justify="left")
    for column in ("clients", "sentences/s", "p50 s", "p99 s", "lone p50 s", "answered", "failed", "server0 MB"):
        table.add_column(column, justify="right")
    for row in rows:
        times = [f"{row[name]:.2f}" for name in ("sentences_per_s", "p50_s", "p99_s", "lone_p50_s")]
        counts = [str(row["answered"]), str(row["failed"]), f"{row['resident_bytes']['server0'] / 1e6:.0f}"]
        table.add_row(str(row["clients"]), *times, *counts)
    screen().print(table)


@app.command("models")
def models_command(
    family: Annotated[
        list[str] | None, typer.Option(help="A family's model_type; again for more. All by default.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="A model's directory or name, in the place of seeded ones; again for more.")
    ] = None,
    json_file: Json = "",
) -> None:
    """Private answers beside transformers', for every family: small seeded models, or checkpoints at hand.

    Seeded models run in one process in lock-step; checkpoints in five, as `mpcnet simulate` does. A row is of three
    texts, audited: the least cosine of an embedding, the texts whose label, or likeliest word for a mask, is the same,
    the largest error, the cost.
    """
    check_folder(json_file)
    if unknown := sorted(set(family or ()) - set(FAMILIES)):
        raise LocalInputError(f"--family: want {', '.join(FAMILIES)}, got {', '.join(unknown)}")
    rows = list(family_rows.rows(family or [], checkpoint or [], console))
    if json_file == "-":
        print(json.dumps(rows, indent=1))
        return
    if json_file:
        write_text(json_file, json.dumps(rows, indent=1))
    table = Table(title=f"three texts, {rows[0]['machine']}", title_justify="left")
    for name in (
        "family",
        "head",
        "checkpoint",
        "cosine",
        "same answer",
        "largest error",
        "rounds",
        "MB each way",
        "MB dealt",
    ):
        table.add_column(name)
    for row in rows:
        cosine = "" if row["cosine"] is None else f"{row['cosine']:.6f}"
        sizes = (f"{row[key] / 1e6:.2f}" for key in ("sent_bytes", "offline_bytes"))
        table.add_row(
            row["family"], row["head"], row["checkpoint"], cosine, row["agreement"] or "",
            f"{row['max_abs_error']:.5f}", str(row["rounds"]), *sizes,
        )  # fmt: skip
    screen().print(table)


def _similarities(embeddings: Tensor) -> Tensor:
    return torch.cosine_similarity(embeddings[0::2], embeddings[1::2], dim=1)


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {f"{name}_median": statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a TSV file as dictionaries. GLUE does not quote, so a quote is a character like any other.

    :raises LocalConfigError: the file is missing or no text.
    :raises LocalInputError: a column is not there, or missing in a row.
    """
    lines = read_lines(path)
    header = lines[0].split("\t") if lines else []
    if missing := [name for name in columns if name not in header]:
        raise LocalInputError(f"{path}: want columns {', '.join(columns)}, got no {', '.join(missing)} in {header}")
    rows = [(number, line.split("\t")) for number, line in enumerate(lines[1:], 2) if line.strip()]
    for number, row in rows:
        if len(row) < len(header):
            raise LocalInputError(f"{path}: line {number}: want {len(header)} columns, got {len(row)}")
    return [dict(zip(header, row, strict=False)) for _, row in rows]


def _print(what: str, outcome: Outcome, **figures: Any) -> None:
    """One JSON line."""
    keys = ("model", "suite", "softmax", "audit", "commit", "machine", "kernels", "threads")
    facts = {key: outcome.document[key] for key in keys} | {"out_of_range": sum(outcome.document["out_of_range"] or [])}
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"bench": what, **rounded, **facts}))
