"""How long a request takes over a link: rounds x one-way delay + bytes / bandwidth + compute, and what is known beside.

Both servers send their half of a round at once, so a round costs one flight of rtt/2 and its bytes one way. Nothing is
added for the client: its clock starts when it hears that the run has begun and ends when it has the answer, and both
pieces of news took one flight. The upload is before that. Nothing is fitted: the compute is measured in the same run,
and the overhead, if it is given, in one over no link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpcnet.transport.latency import Link


@dataclass(frozen=True, slots=True)
class Counts:
    """One request online: `rounds` and `sent_bytes` of one server, and the seconds it computed."""

    rounds: float
    sent_bytes: float
    compute_s: float


@dataclass(frozen=True, slots=True)
class Terms:
    """The seconds of one request online, by cause."""

    delay_s: float
    transfer_s: float
    compute_s: float
    overhead_s: float = 0.0  # event loops, TLS, threads, and waiting for a server that computes longer

    @property
    def total_s(self) -> float:
        """One thing after the other."""
        return self.delay_s + self.transfer_s + self.compute_s + self.overhead_s

    @property
    def overlapped_s(self) -> float:
        """Micro-batches that compute whenever others wait: no schedule of them is shorter."""
        return max(self.delay_s + self.transfer_s, self.compute_s)


def online(counts: Counts, link: Link) -> Terms:
    """The terms of a request with `counts` over `link`."""
    return Terms(counts.rounds * link.rtt_s / 2, 8 * counts.sent_bytes / link.bandwidth_bps, counts.compute_s)


def mean_counts(document: Mapping[str, Any]) -> Counts:
    """The mean request of a simulation's document, as server0 measured it, without the first, which warmed up."""
    requests = document["requests"][1:] or document["requests"]
    means = (sum(request[key] for request in requests) / len(requests) for key in ("rounds", "sent_bytes", "compute_s"))
    return Counts(*means)
