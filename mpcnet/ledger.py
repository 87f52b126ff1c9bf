"""What an operation costs, planned and measured, in the same terms.

`sent` and `received` are payload bytes of one server's exchanges with the other; `dealt` are payload bytes from the
dealer to server 0 and server 1. Frame headers and TLS records come on top and are counted by the channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mpcnet.rounds import Part


@dataclass(slots=True)
class Cost:
    """Rounds, bytes and seconds of one operation."""

    rounds: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    dealt_bytes: list[int] = field(default_factory=lambda: [0, 0])
    compute_s: float = 0.0
    wait_s: float = 0.0

    @property
    def offline_bytes(self) -> int:
        """Dealer to the server that receives more."""
        return max(self.dealt_bytes)

    def add(self, other: Cost) -> None:
        self.rounds += other.rounds
        self.sent_bytes += other.sent_bytes
        self.received_bytes += other.received_bytes
        self.dealt_bytes = [a + b for a, b in zip(self.dealt_bytes, other.dealt_bytes, strict=True)]
        self.compute_s += other.compute_s
        self.wait_s += other.wait_s


@dataclass(slots=True)
class Ledger:
    """Costs by operation label, in the order of first use.

    A round shared by several operations is booked to the first of them; bytes go to each.
    """

    operations: dict[str, Cost] = field(default_factory=dict)

    def of(self, label: str) -> Cost:
        return self.operations.setdefault(label, Cost())

    def exchange(self, parts: Iterable[Part]) -> None:
        """Book one round: both servers send the same sizes."""
        for index, part in enumerate(parts):
            cost = self.of(part.label)
            cost.rounds += index == 0
            cost.sent_bytes += part.nbytes
            cost.received_bytes += part.nbytes

    def dealt(self, part: Part, receiver: int) -> None:
        self.of(part.label).dealt_bytes[receiver] += part.nbytes

    def total(self) -> Cost:
        total = Cost()
        for cost in self.operations.values():
            total.add(cost)
        return total

    def grouped(self, depth: int = 1) -> dict[str, Cost]:
        """Costs by operation with the leading `layerN/` removed, summed over layers."""
        groups: dict[str, Cost] = {}
        for label, cost in self.operations.items():
            name = "/".join(label.split("/")[-depth:]) if label.startswith("layer") else label
            groups.setdefault(name, Cost()).add(cost)
        return groups


def overlapped(ledgers: Iterable[Ledger]) -> Ledger:
    """What streams cost that ran side by side: the rounds of the one that has most, the sum of all else."""
    result = Ledger()
    for ledger in ledgers:
        for label, cost in ledger.operations.items():
            known = result.of(label)
            rounds = max(known.rounds, cost.rounds)
            known.add(cost)
            known.rounds = rounds
    return result
