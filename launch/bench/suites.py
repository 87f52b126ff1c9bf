"""`mpcnet bench suites`: what a request costs by suite, softmax, model and length, side by side in one run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from mpcnet.launch.reporting import jsonlines
from mpcnet.launch.reporting.screen import warn_of
from mpcnet.launch.simulate.localhost import Options, simulate
from mpcnet.models.shape import BertShape, Softmax

FILE = "suites.jsonl"
POINT = ("model", "suite", "softmax", "net", "audit", "length")  # what names a point
TIMED = ("offline", "online", "total")
PLAIN_RUNS = 5  # of the plaintext model; their median is the yardstick


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured: every combination, `runs` requests each after one that warms up."""

    models: tuple[str, ...]
    lengths: tuple[int, ...]
    suites: tuple[str, ...]
    softmaxes: tuple[str, ...]
    runs: int
    net: str = "none"
    streams: int = 1
    device: str = "cpu"
    audit: bool = True

    def points(self) -> Iterator[Options]:
        """One deployment each."""
        for model, length, suite, softmax in product(self.models, self.lengths, self.suites, self.softmaxes):
            yield Options(
                model, suite, cast(Softmax, softmax), net=self.net, batch=1, length=length, streams=self.streams,
                device=self.device, audit=self.audit,
            )  # fmt: skip


def measure(options: Options, runs: int, console: Console) -> dict[str, Any]:
    """One row: counts, seconds and CPU seconds of a request, and the plaintext model's CPU seconds in the same run."""
    outcome = simulate(["A man is playing a guitar on a small stage."] * (runs + 1), options, console)
    requests = outcome.document["requests"][1:]
    layers = outcome.prepared.config.shape.layers
    inner = sum(row["rounds"] for row in outcome.operations if str(row["name"]).startswith("layer"))
    with console.status("timing the plaintext model"):
        plain_s = plain_cpu_s(outcome.prepared.config.shape, options.length)
    cpu = [request["cpu_offline_s"] + request["cpu_online_s"] for request in requests]
    row = {
        "bench": "suites",
        **{key: outcome.document[key] for key in ("model", "random_weights", "suite", "softmax", "net", "audit")},
        "length": options.length,
        "n": len(requests),
        "rounds": requests[0]["rounds"],
        "rounds_a_layer": inner / (runs + 1) / layers,
        "sent_bytes": requests[0]["sent_bytes"],
        "dealt_bytes": [total // (runs + 1) for total in outcome.document["dealt_bytes"]],
        **spread("offline_s", [request["seconds_offline"] for request in requests]),
        **spread("online_s", [request["seconds_online"] for request in requests]),
        **spread("total_s", [request["seconds_offline"] + request["seconds_online"] for request in requests]),
        **spread("server_cpu_s", cpu),
        "plain_cpu_s": plain_s,
        "cpu_ratio": statistics.median(cpu) / plain_s,
        "peaks": outcome.document["peaks"],
        "least_cosine": outcome.document["min_cosine"],
        "wrong": len(outcome.document["wrong"]),
        "out_of_range": sum(outcome.document["out_of_range"] or []),
        **{key: outcome.document[key] for key in ("commit", "machine", "threads", "kernels", "device")},
    }
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def plain_cpu_s(shape: BertShape, length: int) -> float:
    """Median CPU seconds of one sentence through transformers' float32 BERT of this shape, on one thread.

    Its weights are random: what they are makes no difference to the time.
    """
    from transformers import BertConfig, BertModel  # 120 MB, which no party must hold because of this command

    model = BertModel(
        BertConfig(
            vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, intermediate_size=shape.ffn, max_position_embeddings=shape.positions,
        )
    ).eval()  # fmt: skip
    ids = torch.zeros(1, length, dtype=torch.int64)
    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(PLAIN_RUNS + 1):
                start = time.process_time()
                model(ids)
                seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(seconds[1:])


def tables(rows: Sequence[Mapping[str, Any]]) -> tuple[Table, Table]:
    """The rows for people: what is exchanged, and what it takes."""
    facts = "{machine}, commit {commit}, kernels {kernels}, device {device}, n = {n}".format(**rows[0])
    cost = Table(title="one sentence: rounds, MB each way and to each server, accuracy", title_justify="left")
    time_ = Table(title=f"seconds (least, most) and memory; {facts}", title_justify="left")
    for column in ("model", "tokens", "suite", "rounds", "a layer", "online", "dealt", "least cosine"):
        cost.add_column(column, justify="left" if column in ("model", "suite") else "right")
    for column in ("model", "tokens", "suite", "offline", "online", "total", "server CPU", "server GB"):
        time_.add_column(column, justify="left" if column in ("model", "suite") else "right")
    for row in rows:
        name = (row["model"], str(row["length"]), f"{row['suite']}, {row['softmax']}")
        cost.add_row(*name, *_costs(row))
        time_.add_row(*name, *_times(row))
    return cost, time_


def _costs(row: Mapping[str, Any]) -> list[str]:
    return [
        str(row["rounds"]),
        f"{row['rounds_a_layer']:.1f}",
        f"{row['sent_bytes'] / 1e6:.1f}",
        f"{max(row['dealt_bytes']) / 1e6:.0f}",
        "-" if row["least_cosine"] is None else f"{row['least_cosine']:.6f}",
    ]


def _times(row: Mapping[str, Any]) -> list[str]:
    seconds = [f"{row[f'{what}_s']:.2f}\n({row[f'{what}_s_min']:.2f}, {row[f'{what}_s_max']:.2f})" for what in TIMED]
    server = max(row["peaks"]["server0"], row["peaks"]["server1"]) / 1e9
    return [*seconds, f"{row['server_cpu_s']:.2f}\n{row['cpu_ratio']:.1f} x plain", f"{server:.2f}"]


def run(grid: Grid, out: Path | None, console: Console) -> list[dict[str, Any]]:
    """Measure every point; each row is printed as a JSON line as soon as it is there, and kept in `out`."""
    rows = []
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for options in grid.points():
        rows.append(measure(options, grid.runs, console))
        print(json.dumps(rows[-1]), flush=True)
        if rows[-1]["wrong"] or rows[-1]["out_of_range"]:
            what = "{model}, {suite}, {softmax}, {length} tokens: least cosine {least_cosine}".format(**rows[-1])
            warn_of("{0}: {wrong} wrong and {out_of_range} out of range".format(what, **rows[-1]), console)
        if out is not None:
            jsonlines.append(out / FILE, rows[-1])
    return rows


def kept(folder: Path) -> list[dict[str, Any]]:
    """The newest row of each point that was ever measured into a folder."""
    rows = jsonlines.load(folder / FILE, lambda row: (tuple(row.get(key) for key in POINT), row))
    return list(dict(rows).values())


def _label(name: tuple[Any, ...]) -> str:
    *words, audit = name
    return ", ".join([*(word for word in words if word != "none"), *([] if audit else ["no audit"])])


def plot(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """growth.png and growth.svg: seconds and online bytes against length, a line for each model, suite and softmax."""
    from matplotlib import rc_context  # plots are no business of parties, which start from the same command
    from matplotlib.figure import Figure

    from mpcnet.launch.reporting.drawing import COLOURS, MARKERS, STYLE, save

    names = list(dict.fromkeys(tuple(row[key] for key in POINT[:-1]) for row in rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        panels = figure.subplots(1, 2)
        for name, colour, marker in zip(names, cycle(COLOURS), cycle(MARKERS), strict=False):
            chosen = [row for row in rows if tuple(row[key] for key in POINT[:-1]) == name]
            chosen.sort(key=lambda row: row["length"])
            lengths = [row["length"] for row in chosen]
            values = [row["total_s"] for row in chosen], [row["sent_bytes"] / 1e6 for row in chosen]
            for axes, ordinates in zip(panels, values, strict=True):
                axes.plot(lengths, ordinates, color=colour, marker=marker, label=_label(name))
        for axes, what in zip(panels, ("seconds, offline and online", "MB online, each way"), strict=True):
            axes.set(xlabel="tokens", ylabel=what, ylim=(0, None), xlim=(0, None))
        panels[0].legend(fontsize="small")
        figure.suptitle(f"{rows[-1]['machine']}, commit {rows[-1]['commit']}", fontsize="small")
        save(figure, folder, "growth")
