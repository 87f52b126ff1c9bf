"""Results of a grid as a run would write them, made from the model of time and a chosen residual."""

from dataclasses import replace
from typing import Any

import pytest

from mpcnet.launch.netem import predict
from mpcnet.launch.netem.experiment import base, result
from mpcnet.launch.netem.networks import why_not
from mpcnet.launch.netem.results import Base, Point, Result
from mpcnet.transport.latency import Link

POINT = Point("inproc", "demo", "fast", "exact", 128, 1, 1, 1e8, 0.010)
ROUNDS, SENT_BYTES, COMPUTE_S = 168, 5_000_000, 1.25
OVERHEAD_S, WAIT_S = 0.3, 0.5  # over no link
NO_LINK = {"network": "loopback", "rtt_s": 0.0001, "rtt_spread_s": 0.0, "goodput_bps": 1e10}
OPERATIONS = ("embedding", "layer0/qkv", "layer0/attention/exp", "layer0/activation", "layer0/out/norm", "pool")


def needs(kind: str, *values: object) -> object:
    """A parameter that is skipped, with the reason, where such a network cannot be made."""
    reason = why_not(kind)
    return pytest.param(kind, *values, marks=pytest.mark.skipif(reason is not None, reason=reason or ""))


def document(point: Point, online_s: list[float], warm_up_s: float = 9.0) -> dict[str, Any]:
    """A simulation's document: every request costs the same and offline takes one second."""
    count = len(online_s) + 1
    cost = {
        "rounds": ROUNDS, "sent_bytes": SENT_BYTES * point.batch, "compute_s": COMPUTE_S * point.batch,
        "wait_s": WAIT_S,
    }  # fmt: skip
    each = [
        {"seconds_upload": 0.1, "seconds_offline": 1.0, "seconds_online": seconds, **cost}
        for seconds in (warm_up_s, *online_s)
    ]
    part = count / len(OPERATIONS)
    operations = [
        {"name": name, "rounds": part * ROUNDS, "sent_bytes": 0, "compute_s": part * COMPUTE_S, "wait_s": part * 0.5}
        for name in OPERATIONS
    ]
    return {
        "requests": each, "sentences": count * point.batch, "rounds": count * ROUNDS,
        "sent_bytes": count * SENT_BYTES * point.batch, "compute_s": count * COMPUTE_S * point.batch,
        "wait_s": count * 0.5, "offline_bytes": count * 1_000_000, "operations": operations, "min_cosine": 0.9999,
        "commit": "0123abc", "machine": "a machine", "cores": 2,
    }  # fmt: skip


def expected_s(point: Point, link: Link) -> float:
    """What the model says of such a point over `link`."""
    counts = predict.Counts(ROUNDS, SENT_BYTES * point.batch, COMPUTE_S * point.batch)
    terms = predict.online(counts, link)
    return terms.total_s + OVERHEAD_S if point.streams == 1 else terms.overlapped_s


def made_base(**changes: Any) -> Base:
    """The base of such a point's work, with the overhead above."""
    point = replace(POINT, **changes)
    link = Link(rtt_s=NO_LINK["rtt_s"], bandwidth_bps=NO_LINK["goodput_bps"])
    return base(point.work, 3, NO_LINK, document(point, [expected_s(replace(point, streams=1), link)] * 3))


def made(residual: float = 0.0, spread: float = 0.0, probed: Link | None = None, **changes: Any) -> Result:
    """A result whose median lies `residual` above the prediction over the probed link."""
    point = replace(POINT, **changes)
    link = probed or point.link
    median = (1 + residual) * expected_s(point, link)
    probe = {"rtt_s": link.rtt_s, "rtt_spread_s": 0.0, "goodput_bps": link.bandwidth_bps}
    seconds = [median * (1 + spread), median, median * (1 - spread)]
    return result(point, 3, probe, document(point, seconds), made_base(**changes) if point.streams == 1 else None)
