"""What a grid's results say: whether the model of time holds, why not where it does not, and what overlap gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mpcnet.launch.netem.results import Point, Result

TOLERANCE = 0.10  # the claim: the residual of every point in the range below is no larger
CLAIM_RTT_S = (0.001, 0.080)
CLAIM_BANDWIDTH_BPS = (50e6, 1e9)
BATCH_GOAL = 1.5  # times the seconds of one sentence that four may take where latency bounds both
LONG_RTT_S = 0.005
WINDOW_BYTES = 64_000  # TCP's window after a few round trips; links that hold more are not full at once


def is_claimed(point: Point) -> bool:
    """Whether the claim covers this point: one stream, and a link in the range."""
    ranges = ((point.rtt_s, CLAIM_RTT_S), (point.bandwidth_bps, CLAIM_BANDWIDTH_BPS))
    return point.streams == 1 and all(least <= value <= most for value, (least, most) in ranges)


def is_within(result: Result) -> bool:
    """Whether the prediction is as good as claimed."""
    return abs(result.residual) <= TOLERANCE


def residual_as_asked(result: Result) -> float:
    """The residual if the prediction took the link as asked for, of a point of one stream."""
    asked, probed = result.point.link, result.probed
    delay_s = result.delay_s * asked.rtt_s / probed.rtt_s
    transfer_s = result.transfer_s * probed.bandwidth_bps / asked.bandwidth_bps
    return result.seconds_online.median / (delay_s + transfer_s + result.compute_s + result.overhead_s) - 1


def residual_without_overhead(result: Result) -> float:
    """The residual of rounds, bytes and compute alone, of a point of one stream."""
    return result.seconds_online.median / (result.predicted_s - result.overhead_s) - 1


def gap_s(result: Result) -> float:
    """Measured less predicted."""
    return result.seconds_online.median - result.predicted_s


def reason(result: Result) -> str:
    """The likely reason for a residual, from what the result itself tells."""
    point, seconds = result.point, result.seconds_online
    if seconds.least <= result.predicted_s <= seconds.most:
        return "noise: the prediction lies between the least and the most of the timed requests"
    if gap_s(result) < 0:
        return "shorter than predicted: the run over no link, or the probes, saw a busier machine than this run"
    in_flight_bytes = point.rtt_s * point.bandwidth_bps / 8
    if point.how != "inproc" and point.rtt_s >= LONG_RTT_S and in_flight_bytes > WINDOW_BYTES:
        return "TCP: its window opens over several round trips before it fills a long link"
    relay = ", the network's relay among them," if result.relay else ""
    return f"more in each round than over no link: processes{relay} that wait for {result.cores} cores, or other work"


@dataclass(frozen=True, slots=True)
class Compared:
    """A result beside the one it is measured against, over the same link."""

    result: Result
    base: Result

    @property
    def ratio(self) -> float:
        """Online seconds, medians."""
        return self.result.seconds_online.median / self.base.seconds_online.median

    @property
    def latency_bound(self) -> bool:
        """Flights are at least half of the base's predicted time."""
        return self.base.delay_s >= self.base.predicted_s / 2


def overlaps(results: Sequence[Result]) -> list[Compared]:
    """Points of several streams beside the same work in one."""
    known = _by_point(results)
    pairs = ((result, known.get(replace(result.point, streams=1))) for result in results if result.point.streams > 1)
    return [Compared(result, base) for result, base in pairs if base is not None]


def batches(results: Sequence[Result]) -> list[Compared]:
    """Points of several sentences beside one sentence."""
    known = _by_point(results)
    pairs = (
        (result, known.get(replace(result.point, batch=1, streams=1))) for result in results if result.point.batch > 1
    )
    return [Compared(result, base) for result, base in pairs if base is not None]


def _by_point(results: Sequence[Result]) -> Mapping[Point, Result]:
    return {result.point: result for result in results}
