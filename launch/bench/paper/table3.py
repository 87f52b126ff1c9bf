"""Table 3: what one sentence costs in each suite, by operation, and how right each operation is.

A point is run as `mpcnet simulate` runs it, all parties as processes over TLS, with the dealer counted. Points that
deal more than a limit are planned only, and marked so. Links are modelled from the run over none
(:mod:`mpcnet.launch.netem.predict`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import torch
from rich.console import Console

from mpcnet.arrays import accelerator
from mpcnet.errors import LocalInputError
from mpcnet.launch.api.planning import plan_of
from mpcnet.launch.bench.suites import spread
from mpcnet.launch.netem import predict
from mpcnet.launch.reporting import report
from mpcnet.launch.simulate.localhost import DEFAULT_TEXTS, Options, simulate
from mpcnet.models.private.layer_errors import Size as Error
from mpcnet.models.private.layer_errors import measure as errors_of
from mpcnet.models.private.oracle_trace import load_plain
from mpcnet.models.private.prepare import Prepared, prepare
from mpcnet.models.private.program import Size
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import encode
from mpcnet.protocols.suites import SUITES
from mpcnet.transport.latency import parse_link

TEXT = "A man is playing a guitar on a small stage."
LINKS = {"none": "none", "lan": "rtt=0.5ms,bw=10gbps", "wan": "wan"}  # the paper's LAN; 40 ms and 100 Mbit/s
PUBLISHED_SOFTMAX = {"secformer": "2quad", "secformer-v1": "2quad"}  # of suites that have several
OPERATIONS = ("GeLU", "softmax", "LayerNorm", "others", "audit")
ERRORS: Mapping[str, tuple[str, ...]] = {  # of mpcnet.models.private.layer_errors
    "GeLU": ("activation",),
    "softmax": ("softmax",),
    "division": ("context",),
    "LayerNorm": ("norm", "out norm", "down norm"),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the table."""

    model: str
    length: int
    suite: str
    softmax: Softmax

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.model, self.length, self.suite, self.softmax


def points(models: Sequence[str], lengths: Sequence[int], suites: Sequence[str]) -> list[Point]:
    """Every combination; a suite is its name, or name/softmax.

    :raises LocalInputError: there is no such suite.
    """
    found = []
    for model, length, text in product(models, lengths, suites):
        name, _, softmax = text.partition("/")
        if name not in SUITES:
            raise LocalInputError(
                f"suites: want some of {', '.join(SUITES)}, as secformer or secformer/exact, got {text!r}"
            )
        chosen = softmax or SUITES[name].softmax or PUBLISHED_SOFTMAX.get(name, "exact")
        found.append(Point(model, length, name, cast(Softmax, chosen)))
    return found


def operation(name: str) -> str:
    """Of a label of the program; the product with V counts among the others, as the linear maps do."""
    parts = name.split("/")
    if "norm" in parts:
        return "LayerNorm"
    if "activation" in parts:
        return "GeLU"
    if "attention" in parts[:-1]:
        return "softmax"
    return "audit" if name == "audit" else "others"


def by_operation(rows: Sequence[Mapping[str, Any]], count: int) -> dict[str, dict[str, float]]:
    """Rounds, bytes and online seconds of one request by operation, of the operations of `count` requests."""
    found = {name: dict.fromkeys(("rounds", "sent_bytes", "dealt_bytes", "seconds"), 0.0) for name in OPERATIONS}
    for row in rows:
        known = found[operation(str(row["name"]))]
        known["rounds"] += row["rounds"] / count
        known["sent_bytes"] += row["sent_bytes"] / count
        known["dealt_bytes"] += sum(row["dealt_bytes"]) / count
        known["seconds"] += (row.get("compute_s", 0.0) + row.get("wait_s", 0.0)) / count
    return found


def planned(point: Point, prepared: Prepared) -> dict[str, Any]:
    """A row of what the plan says, which a run would measure."""
    plan = plan_of(prepared, point.model, Size(1, point.length, audit=True))
    rows = [
        {"name": o.name, "rounds": o.rounds, "sent_bytes": o.sent_bytes, "dealt_bytes": o.dealt_bytes}
        for o in plan.operations
    ]
    return {
        **_names(point, prepared),
        "how": "planned",
        "rounds": plan.rounds,
        "sent_bytes": plan.sent_bytes,
        "dealt_bytes": sum(plan.dealt_bytes),
        "operations": by_operation(rows, 1),
        "peak_bytes": plan.peak_bytes,
    }


def run(point: Point, runs: int, console: Console) -> dict[str, Any]:
    """A row of one deployment: `runs` requests after one that warms up."""
    options = Options(
        point.model, point.suite, None if SUITES[point.suite].softmax else point.softmax, batch=1, length=point.length,
        accept=True, timeout_s=600.0,
    )  # fmt: skip
    outcome = simulate([TEXT] * (runs + 1), options, console)
    document = outcome.document
    requests, counts = document["requests"][1:], predict.mean_counts(document)
    offline = statistics.median(request["seconds_offline"] for request in requests)
    online = statistics.median(request["seconds_online"] for request in requests)
    dealt = [total / (runs + 1) for total in document["dealt_bytes"]]
    return {
        **_names(point, outcome.prepared),
        "how": "run",
        "n": len(requests),
        "rounds": requests[0]["rounds"],
        "sent_bytes": requests[0]["sent_bytes"],
        "dealt_bytes": round(sum(dealt)),
        "operations": by_operation(outcome.operations, runs + 1),
        **spread("offline_s", [request["seconds_offline"] for request in requests]),
        **spread("online_s", [request["seconds_online"] for request in requests]),
        **spread("total_s", [request["seconds_offline"] + request["seconds_online"] for request in requests]),
        "server_cpu_s": statistics.median(request["cpu_offline_s"] + request["cpu_online_s"] for request in requests),
        "links": {name: _over(link, offline, online, counts, max(dealt)) for name, link in LINKS.items()},
        "cosine": document["min_cosine"],
        "compared_with": document["compared_with"],
        "out_of_range": sum(document["out_of_range"]),
        "peak_bytes": document["peak_bytes"],
        **{key: document[key] for key in ("machine", "threads", "kernels")},
    }


def _over(link: str, offline: float, online: float, counts: predict.Counts, dealt: float) -> float:
    """Seconds in all: as measured over none, and what delay and bandwidth add."""
    shape = parse_link(link)
    terms = predict.online(counts, shape)
    return offline + online + terms.delay_s + terms.transfer_s + shape.rtt_s / 2 + 8 * dealt / shape.bandwidth_bps


def _names(point: Point, prepared: Prepared) -> dict[str, Any]:
    return {
        "table": 3,
        "model": point.model,
        "random_weights": prepared.random,
        "length": point.length,
        "suite": point.suite,
        "softmax": point.softmax,
        "layers": prepared.config.shape.layers,
        "departures": list(prepared.departures),
        "commit": report.commit(),
        "device": accelerator.describe("cpu"),
    }


def errors(prepared: Prepared) -> dict[str, dict[str, float]]:
    """Largest and mean error of each operation by itself on real texts, against float64, by the oracle; of all layers.

    Of softmax, errors are those of its numerators as shares of their row; of the division, which comes after the
    product with V, those of attention's result.
    """
    found, config = prepared.checkpoint, prepared.config
    tokens = encode(found.source, [*DEFAULT_TEXTS], config.formats.longest, found.preprocessing, found.shape)
    with torch.inference_mode():
        measured = errors_of(load_plain(config, prepared.folded), prepared.folded, tokens)
    sizes: dict[str, list[Error]] = {name: [] for name in ERRORS}
    for block in measured.blocks:
        for name, parts in ERRORS.items():
            sizes[name] += [block.own[part] for part in parts if part in block.own]
    return {
        name: {"largest": max(size.largest for size in rows), "mean": statistics.fmean(size.mean for size in rows)}
        for name, rows in sizes.items()
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every point `turns` times, one after the other, so that a busy hour meets all of them."""

    points: Sequence[Point]
    runs: int
    turns: int
    most_dealt_bytes: float

    def rows(self, console: Console, keep: Callable[[dict[str, Any]], None]) -> Iterator[dict[str, Any]]:
        """Rows as they are there. Every point is planned first: what cannot be planned is refused, and told of."""
        done = {}
        for turn in range(self.turns):
            for number, point in enumerate(self.points, 1):
                what = (
                    f"{number} of {len(self.points)}, turn {turn + 1} of {self.turns}: {' '.join(map(str, point.key))}"
                )
                console.print(what, highlight=False)
                if turn == 0:
                    done[point] = self._first(point, console)
                    if done[point]["how"] != "run":
                        keep(done[point])
                        yield done[point]
                if done[point]["how"] == "run":
                    extra = {key: done[point][key] for key in ("errors",) if key in done[point]}
                    row = {**run(point, self.runs, console), "turn": turn, **extra}
                    keep(row)
                    yield row

    def _first(self, point: Point, console: Console) -> dict[str, Any]:
        """The plan, and whether the point is to be run; then, with real weights, errors."""
        softmax = None if SUITES[point.suite].softmax else point.softmax
        with console.status("preparing") as status:
            prepared = prepare(point.model, point.suite, softmax, point.length, say=status.update)
            row = planned(point, prepared)
            if row["dealt_bytes"] > self.most_dealt_bytes:
                return row
            if not prepared.random:
                status.update("errors by operation")
                row["errors"] = errors(prepared)
        return row | {"how": "run"}


def merged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each point: medians over turns of what was run, or the plan of what was not."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["length"], row["suite"], row["softmax"]), []).append(row)
    return [_median(same) for same in found.values()]


def _median(same: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [row for row in same if row["how"] == "run"]
    if not rows:
        return dict(same[-1])
    last = dict(rows[-1])
    for key in ("offline_s", "online_s", "total_s"):
        last[key] = statistics.median(row[key] for row in rows)
        last[f"{key}_min"], last[f"{key}_max"] = (
            end(row[f"{key}_{name}"] for row in rows) for end, name in ((min, "min"), (max, "max"))
        )
    last["server_cpu_s"] = statistics.median(row["server_cpu_s"] for row in rows)
    last["links"] = {name: statistics.median(row["links"][name] for row in rows) for name in last["links"]}
    last["operations"] = {
        name: {**cost, "seconds": statistics.median(row["operations"][name]["seconds"] for row in rows)}
        for name, cost in last["operations"].items()
    }
    last["n"] = sum(row["n"] for row in rows)
    return last
