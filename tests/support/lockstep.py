"""Drive a program as S0, S1, dealer, meter and oracle in one process: no loop, no socket, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.ledger import Ledger
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.randomness.dealer import DealerSource, deal
from mpcnet.randomness.meter import MeterSource, Plan, measure
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import PlainSource, ServerSource, Tape
from mpcnet.rounds import Done, Exchange, Part, Program, advance

Build = Callable[..., Program[Any]]


@dataclass
class Run:
    """What both servers returned, and everything that was opened, for statistics."""

    results: list[Any]  # of server 0, server 1 and the dealer
    ledger: Ledger
    opened: list[tuple[Part, Tensor]] = field(default_factory=list)
    sent: list[Tensor] = field(default_factory=list)

    def value(self) -> Tensor:
        return combine(*self.results[:2])


def combine(first: Shared, second: Shared) -> Tensor:
    assert (first.bits, first.frac) == (second.bits, second.frac)
    return ring.decode(first.value + second.value, first.frac, first.bits)


class Session:
    """Two servers and a dealer that share seeds, over any number of programs."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        self.seed = seed
        self.stream = 0

    def _open_stream(self) -> None:
        """New parties with fresh keystreams, as every program gets them."""
        self.stream += 1
        ends = [[self._keystream(party) for party in (0, 1)] for _ in range(2)]
        self.dealer = Party(DealerSource((ends[0][0], ends[0][1])))
        self.servers = [Party(ServerSource(party, ends[1][party])) for party in (0, 1)]

    def _keystream(self, party: int) -> Keystream:
        return Keystream(bytes([party]) * 32, Domain(self.seed.to_bytes(16, "big"), self.stream, "test"), Guard())

    def share(self, x: Tensor, bits: int = 64, frac: int = 16) -> list[Shared]:
        """Random additive shares: for server 0, server 1, and shapes for the dealer."""
        word = ring.encode(x, frac, bits)
        first = ring.fit(torch.randint(-(2**63), 2**63 - 1, word.shape, generator=self.rng), bits)
        return [Shared(first, bits, frac, 0), Shared(word - first, bits, frac, 1), self.shape(x, bits, frac)]

    @staticmethod
    def shape(x: Tensor, bits: int, frac: int) -> Shared:
        return Shared(ring.zeros(x.shape, bits, "meta"), bits, frac, 0)

    def run(self, build: Build, *inputs: list[Any], tamper: Callable[[int, list[Tensor]], None] | None = None) -> Run:
        """Run `build(party, *inputs)` on all three, in lock-step."""
        self._open_stream()
        dealer = deal(lambda: build(self.dealer, *(x[2] for x in inputs)), self.dealer.source)
        programs = [build(p, *(x[index] for x in inputs)) for index, p in enumerate(self.servers)]
        run = Run([], Ledger())
        replies: list[list[Tensor] | None] = [None, None]
        while True:
            self._load(next(dealer), run.ledger)
            steps = [advance(program, reply) for program, reply in zip(programs, replies, strict=True)]
            for p in self.servers:
                p.source.tape.finish()
            if isinstance(steps[0], Done):
                run.results = [step.value for step in steps]
                try:
                    next(dealer)
                except StopIteration as stop:
                    run.results.append(stop.value)
                    return run
                raise AssertionError("the dealer has more segments than the servers")
            replies = self._exchange(run, steps, tamper)

    def _load(self, corrections: Any, ledger: Ledger) -> None:
        for receiver, sent in enumerate(corrections):
            for correction in sent:
                ledger.dealt(correction.part, receiver)
            payload = np.concatenate([c.payload for c in sent]) if sent else None
            self.servers[receiver].source.tape = Tape(tuple(c.part for c in sent), payload)

    def _exchange(self, run: Run, steps: list[Exchange], tamper: Any) -> list[list[Tensor]]:
        assert steps[0].parts == steps[1].parts
        run.ledger.exchange(steps[0].parts)
        wires = [
            [ring.unpack(ring.pack(value, part.bits), part) for value, part in zip(step.mine, step.parts, strict=True)]
            for step in steps
        ]
        run.sent.extend(wires[0])
        if tamper:
            tamper(len(run.opened), wires[0])
        opened = [ring.add_opened(a, b, part.bits) for a, b, part in zip(*wires, steps[0].parts, strict=True)]
        run.opened.extend(zip(steps[0].parts, opened, strict=True))
        return [list(opened), list(opened)]


def oracle(build: Build, *inputs: Any) -> Any:
    """The fixed-point oracle: the same program with zero masks on whole values."""
    program = build(Party(PlainSource()), *inputs)
    reply: list[Tensor] | None = None
    while True:
        step = advance(program, reply)
        if isinstance(step, Done):
            return step.value
        reply = [ring.reduce(value, part.bits) for value, part in zip(step.mine, step.parts, strict=True)]


def plain(x: Tensor, bits: int = 64, frac: int = 16) -> Shared:
    return Shared(ring.encode(x, frac, bits), bits, frac, 0)


def plan(build: Build, *inputs: list[Any]) -> Plan:
    """The static cost of `build` on the shapes of `inputs`."""
    source = MeterSource()
    return measure(build(Party(source), *(x[2] for x in inputs)), source)


def same_cost(run: Run, planned: Plan) -> None:
    """Measured rounds and bytes, online and offline, equal the plan, operation by operation."""
    measured, expected = run.ledger.operations, planned.ledger.operations
    assert measured.keys() == expected.keys()
    for label, cost in measured.items():
        assert cost == expected[label], label
