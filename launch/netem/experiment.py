"""One latency experiment: an inference over one link, beside what the model of time says of it.

Each has a deployment of its own: probes first, then a request that warms up, then the timed ones. The prediction
takes the link as probed, not as asked for: whether time follows rounds, bytes and compute is a question about the
protocol, and how well a network keeps to what it was told is another one. Both links are in the result.

What a round costs beside its flight, its bytes and compute is measured too, in a deployment over no link at all, once
for each work. There the same terms are taken off, so what the probes see there is not counted twice elsewhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from rich.console import Console

from mpcnet.errors import MpcError, describe
from mpcnet.launch.netem import networks, predict, probe
from mpcnet.launch.netem.results import Base, Failure, Point, Result, Spread, Work
from mpcnet.launch.reporting import report
from mpcnet.launch.simulate.localhost import Options, simulate
from mpcnet.launch.simulation.network import Network
from mpcnet.models.shape import Softmax
from mpcnet.transport.latency import Link

TEXT = "Hello"  # shorter than any length, so the rest is padding: cost and time depend on the shape alone
PHASES = ("upload", "offline", "online")
GROUP_KEYS = ("rounds", "sent_bytes", "compute_s", "wait_s")


class PointMissed(MpcError):
    """A run did other work than its point asks for: its figures must not be used."""


def attempt(point: Point, runs: int, base: Base | Failure | None) -> Result | Failure:
    """Measure a point; whatever goes wrong is its result. `base` is that of its work, if it is one stream."""
    if isinstance(base, Failure):
        return replace(base, point=point)
    try:
        return measure(point, runs, base)
    except Exception as error:  # one bad point must not end a grid that takes hours
        return failure(point, error)


def attempt_base(point: Point, runs: int) -> Base | Failure:
    """Measure the work of a point over no link; whatever goes wrong is the point's result."""
    try:
        return measure_base(point.work, runs)
    except Exception as error:
        failed = failure(point, error)
        return replace(failed, error=f"over no link: {failed.error}")


def failure(point: Point, error: Exception) -> Failure:
    """What an error says, in one line."""
    known = isinstance(error, (MpcError, OSError))
    said = " ".join(str(error).split()) if known else f"bug: {type(error).__name__}"  # its text may hold values
    return Failure(point, said, report.commit(), report.machine())


def measure(point: Point, runs: int, base: Base | None) -> Result:
    """One deployment on one network: probes, a request to warm up, and `runs` timed ones.

    :raises MpcError: the network cannot be made, a process failed, or the run did other work than asked for.
    """
    with networks.make(point.how, point.link) as network:
        probed, document = _run(network, point.work, point.link, point.streams, runs)
        relay = networks.relay_use(network)
    made = result(point, runs, probed, document, base)
    return replace(made, relay=asdict(relay)) if relay else made


def measure_base(work: Work, runs: int) -> Base:
    """Likewise of a work over no link, on the hosts that its networks have.

    :raises MpcError: as `measure`.
    """
    kind = "inproc" if work.how == "inproc" else "veth"
    with networks.make(kind, Link()) as network:
        probed, document = _run(network, work, Link(), 1, runs)
    return base(work, runs, probed, document)


def _run(network: Network, work: Work, link: Link, streams: int, runs: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the probes found, and the document of a simulation."""
    options = Options(
        work.model, work.suite, cast(Softmax, work.softmax), net=networks.link_text(link), batch=work.batch,
        length=work.length, streams=streams, audit=False,  # as all points so far: the links are compared, not this
    )  # fmt: skip
    probed = asdict(probe.measure(network, link))
    return probed, simulate([TEXT] * (work.batch * (runs + 1)), options, Console(quiet=True), network).document


def _check_work(work: Work, runs: int, document: Mapping[str, Any]) -> None:
    """:raises PointMissed: the document is of another number of requests or sentences."""
    want = {"requests": runs + 1, "sentences": work.batch * (runs + 1)}
    got = {"requests": len(document["requests"]), "sentences": document["sentences"]}
    if got != want:
        raise PointMissed(describe(work.name, want, got, "a model without a tokenizer has batches of 1 only"))


def _terms(probed: Mapping[str, Any], counts: predict.Counts) -> predict.Terms:
    """What the counts take over the link that the probes found."""
    return predict.online(counts, Link(rtt_s=probed["rtt_s"], bandwidth_bps=probed["goodput_bps"]))


def base(work: Work, runs: int, probed: dict[str, Any], document: Mapping[str, Any]) -> Base:
    """What a simulation's document over no link says of `work`. Its first request is the warm-up.

    :raises PointMissed: the document is of other work.
    """
    _check_work(work, runs, document)
    timed = document["requests"][1:]
    online = Spread.of([request["seconds_online"] for request in timed])
    waited_s = statistics.fmean(request["wait_s"] for request in timed)
    counts = predict.mean_counts(document)
    terms = _terms(probed, counts)
    return Base(
        work=work,
        n=len(timed),
        probe=probed,
        seconds_online=online,
        rounds=counts.rounds,
        compute_s=counts.compute_s,
        explained_s=terms.total_s,
        overhead_s=online.median - terms.total_s,
        between_rounds_s=waited_s - terms.delay_s - terms.transfer_s,
        commit=document["commit"],
        machine=document["machine"],
        cores=document["cores"],
    )


def result(point: Point, runs: int, probed: dict[str, Any], document: Mapping[str, Any], base: Base | None) -> Result:
    """What a simulation's document says of `point`. Its first request is the warm-up.

    :raises PointMissed: the document is of other work.
    """
    _check_work(point.work, runs, document)
    timed, count = document["requests"][1:], len(document["requests"])
    seconds = {phase: [request[f"seconds_{phase}"] for request in timed] for phase in PHASES}
    online = Spread.of(seconds["online"])
    counts = predict.mean_counts(document)
    terms = replace(_terms(probed, counts), overhead_s=base.overhead_s if base else 0.0)
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
        overhead_s=terms.overhead_s,
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
    kind = next((kind for kind in ("norm", "attention", "activation") if kind in parts), "linear")
    return f"layers/{kind}"
