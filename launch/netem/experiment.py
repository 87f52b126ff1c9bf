"""One latency experiment: an inference over one link, beside what the model of time says of it.

Each has a deployment of its own: probes first, then a request that warms up, then the timed ones. The prediction
takes the link as probed, not as asked for: whether time follows rounds, bytes and compute is a question about the
protocol, and how well a network keeps to what it was told is another one. Both links are in the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from rich.console import Console

from launch import predict, report
from launch.netem import networks, probe
from launch.netem.results import Failure, Point, Result, Row, Spread
from launch.simulate import Options, simulate
from models.reference import Softmax
from mpcnet.errors import MpcError, describe
from mpcnet.latency import Link

TEXT = "Hello"  # shorter than any length, so the rest is padding: cost and time depend on the shape alone
PHASES = ("upload", "offline", "online")
GROUP_KEYS = ("rounds", "sent_bytes", "compute_s", "wait_s")


class PointMissed(MpcError):
    """A run did other work than its point asks for: its figures must not be used."""


def attempt(point: Point, runs: int) -> Row:
    """Measure a point; whatever goes wrong is its result."""
    try:
        return measure(point, runs)
    except Exception as error:  # one bad point must not end a grid that takes hours
        known = isinstance(error, (MpcError, OSError))
        said = " ".join(str(error).split()) if known else f"bug: {type(error).__name__}"  # its text may hold values
        return Failure(point, said, report.commit(), report.machine())


def measure(point: Point, runs: int) -> Result:
    """One deployment on one network: probes, a request to warm up, and `runs` timed ones.

    :raises MpcError: the network cannot be made, a process failed, or the run did other work than asked for.
    """
    options = Options(
        point.model, point.suite, cast(Softmax, point.softmax), net=networks.link_text(point.link), batch=point.batch,
        length=point.length, streams=point.streams,
    )  # fmt: skip
    with networks.make(point.how, point.link) as network:
        probed = asdict(probe.measure(network, point.link))
        outcome = simulate([TEXT] * (point.batch * (runs + 1)), options, Console(quiet=True), network)
        relay = networks.relay_use(network)
    made = result(point, runs, probed, outcome.document)
    return replace(made, relay=asdict(relay)) if relay else made


def result(point: Point, runs: int, probed: dict[str, Any], document: Mapping[str, Any]) -> Result:
    """What a simulation's document says of `point`. Its first request is the warm-up.

    :raises PointMissed: the document is of another number of requests or sentences.
    """
    want = {"requests": runs + 1, "sentences": point.batch * (runs + 1)}
    got = {"requests": len(document["requests"]), "sentences": document["sentences"]}
    if got != want:
        raise PointMissed(describe(point.work_name, want, got, "a model without a tokenizer has batches of 1 only"))
    timed, count = document["requests"][1:], len(document["requests"])
    seconds = {phase: [request[f"seconds_{phase}"] for request in timed] for phase in PHASES}
    online = Spread.of(seconds["online"])
    counts = predict.mean_counts(document)
    link = Link(rtt_s=probed["rtt_s"], bandwidth_bps=probed["goodput_bps"])
    terms = predict.online(counts, link)
    predicted_s = terms.total_s if point.streams == 1 else terms.overlapped_s
    return Result(
        point=point,
        n=len(timed),
        probe=probed,
        seconds_upload=Spread.of(seconds["upload"]),
        seconds_offline=Spread.of(seconds["offline"]),
        seconds_online=online,
        seconds_total=Spread.of([sum(each) for each in zip(*seconds.values(), strict=True)]),
        rounds=counts.rounds,
        sent_bytes=counts.sent_bytes,
        offline_bytes=document["offline_bytes"] / count,
        compute_s=counts.compute_s,
        wait_s=document["wait_s"] / count,
        delay_s=terms.delay_s,
        transfer_s=terms.transfer_s,
        predicted_s=predicted_s,
        residual=online.median / predicted_s - 1,
        operations=grouped(document["operations"], count),
        min_cosine=document["min_cosine"],
        commit=document["commit"],
        machine=document["machine"],
        cores=document["cores"],
    )


def grouped(operations: Sequence[Mapping[str, Any]], requests: int) -> list[dict[str, Any]]:
    """Costs of the mean request by group of operations, in the order of first use."""
    groups: dict[str, dict[str, Any]] = {}
    for row in operations:
        name = group(row["name"])
        known = groups.setdefault(name, {"name": name, **dict.fromkeys(GROUP_KEYS, 0.0)})
        for key in GROUP_KEYS:
            known[key] += row[key] / requests
    return list(groups.values())


def group(name: str) -> str:
    """`layer3/out/norm/rsqrt` is of layers/norm, `layer3/attention/exp` of layers/attention, and so on."""
    head, _, rest = name.partition("/")
    if not head.startswith("layer"):
        return "embedding" if head == "embedding" else "answer"
    parts = rest.split("/")
    kind = next((kind for kind in ("norm", "attention", "gelu") if kind in parts), "linear")
    return f"layers/{kind}"
