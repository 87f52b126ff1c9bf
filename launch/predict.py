"""How long a request takes over a link, from its counts: rounds x one-way delay + bytes / bandwidth + compute.

Both servers send their half of a round at once, so a round costs one flight of rtt/2 and its bytes one way. The
result's flight to the client is one more. Nothing is fitted: the compute is measured in the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.sharing import token_parts
from models.bert import Config
from models.program import Size
from mpcnet.latency import Link

ANSWER_FLIGHTS = 1
UPLOAD_FLIGHTS = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """One request: `rounds` and `sent_bytes` of one server, and the seconds it computed.

    `upload_bytes` is what the client sends to one server while the online clock runs; None if the tokens were there
    before the clock started.
    """

    rounds: float
    sent_bytes: float
    compute_s: float
    upload_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The seconds of one request online, by cause."""

    delay_s: float
    transfer_s: float
    compute_s: float

    @property
    def total_s(self) -> float:
        """One thing after the other."""
        return self.delay_s + self.transfer_s + self.compute_s

    @property
    def overlapped_s(self) -> float:
        """Micro-batches that compute whenever others wait: no schedule of them is shorter."""
        return max(self.delay_s + self.transfer_s, self.compute_s)


def online(counts: Counts, link: Link) -> Terms:
    """The terms of a request with `counts` over `link`."""
    flights, sent_bytes = counts.rounds + ANSWER_FLIGHTS, counts.sent_bytes
    if counts.upload_bytes is not None:
        flights, sent_bytes = flights + UPLOAD_FLIGHTS, sent_bytes + counts.upload_bytes
    return Terms(flights * link.rtt_s / 2, 8 * sent_bytes / link.bandwidth_bps, counts.compute_s)


def mean_counts(document: Mapping[str, Any], upload_bytes: float | None) -> Counts:
    """The mean request of a simulation's document; the compute is server0's."""
    count = len(document["requests"])
    rounds, sent_bytes, compute_s = (document[key] / count for key in ("rounds", "sent_bytes", "compute_s"))
    return Counts(rounds, sent_bytes, compute_s, upload_bytes)


def upload_bytes(config: Config, size: Size) -> int:
    """Payload bytes of the tokens that the client sends to the server which receives more."""
    return max(part.nbytes for part in token_parts(config, size))
