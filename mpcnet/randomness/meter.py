"""Static cost: run a program on shapes, and write down every segment it will have.

A `Plan` is what both servers and the dealer agree on before any data moves: for each segment the corrections that
either server will receive, and the exchange that ends it. The servers check every frame against it before they
allocate, and its digest is part of the handshake's program digest. It must equal what a real run measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.memory import Memory
from mpcnet.ledger import Ledger
from mpcnet.randomness import fss
from mpcnet.randomness.source import Balance, Function, Secret
from mpcnet.rounds import Done, Part, Program, advance

CHAIN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """The corrections consumed before an exchange, by receiver, and the exchange (empty for the last segment)."""

    label: str
    dealt: tuple[tuple[Part, ...], tuple[Part, ...]]
    exchange: tuple[Part, ...]
    chain: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole public transcript of a program, before it runs, and the memory that its arrays take.

    `peak_bytes` are alive at most while it runs, beyond what was there before; `kept_bytes` are still alive at its end.
    """

    segments: tuple[Segment, ...]
    ledger: Ledger
    result: Any = None
    peak_bytes: int = 0
    kept_bytes: int = 0

    @property
    def digest(self) -> bytes:
        return self.segments[-1].chain


@dataclass(slots=True)
class MeterSource:
    """Hands out shapes, and counts what the dealer will have to send."""

    party: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    balance: Balance = field(default_factory=Balance)
    _pending: tuple[list[Part], list[Part]] = field(default_factory=lambda: ([], []))

    def mask(self, shape: Sequence[int], bits: int) -> Secret:
        return Secret(bits, ring.zeros(shape, bits, "meta"))

    def deal(
        self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int, label: str
    ) -> Secret:
        part = Part(bits, tuple(shape), label)
        receiver = self.balance.receiver(part.nbytes)
        self.ledger.dealt(part, receiver)
        self._pending[receiver].append(part)
        return Secret(bits, ring.zeros(shape, bits, "meta"))

    def points(self, secret: Secret, payload: Function, cover: fss.Cover, label: str) -> fss.Points:
        part = cover.part(secret.share.shape, label)
        for receiver, pending in enumerate(self._pending):
            self.ledger.dealt(part, receiver)
            pending.append(part)
        return fss.shape_only(part.shape[:-1], cover)

    def common(self, shape: Sequence[int], bits: int) -> Tensor:
        return ring.zeros(shape, bits, "meta")

    def take(self) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        first, second = self._pending
        self._pending = ([], [])
        return tuple(first), tuple(second)


def measure(program: Program[Any], source: MeterSource) -> Plan:
    """Run `program` on shapes: needs no data, no key and no peer."""
    segments: list[Segment] = []
    chain = bytes(CHAIN_BYTES)
    reply: list[Tensor] | None = None
    with Memory() as memory:
        while True:
            step = advance(program, reply)
            exchange = () if isinstance(step, Done) else step.parts
            dealt = source.take()
            label = exchange[0].label if exchange else "result"
            source.ledger.of(label)  # servers book the seconds of each segment, also of one that costs nothing else
            chain = _link(chain, label, dealt, exchange)
            segments.append(Segment(label, dealt, exchange, chain))
            if isinstance(step, Done):
                return Plan(tuple(segments), source.ledger, step.value, memory.peak, memory.live)
            source.ledger.exchange(exchange)
            reply = [ring.zeros(part.shape, part.bits, "meta") for part in step.parts]


def _link(
    chain: bytes, label: str, dealt: tuple[tuple[Part, ...], tuple[Part, ...]], exchange: tuple[Part, ...]
) -> bytes:
    """The running transcript: a hash of everything public so far, in one unambiguous encoding."""
    rows = [[[part.bits, list(part.shape)] for part in parts] for parts in (*dealt, exchange)]
    text = chain + msgpack.packb([label, rows])
    return hashlib.blake2b(text, digest_size=CHAIN_BYTES, person=b"mpcnet chain").digest()
