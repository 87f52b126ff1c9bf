"""Two servers and a dealer of one process, in lock-step: what :mod:`mpcnet.protocols.lockstep` runs protocols on.

Nothing is simulated but the links: shares, masks and corrections are those of a deployment, and every opening and every
correction goes through its wire form.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from operator import add, xor
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.errors import LocalInputError, describe
from mpcnet.ledger import Cost, Ledger
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared
from mpcnet.randomness.dealer import Corrections, DealerSource, deal
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.meter import MeterSource, Plan, measure
from mpcnet.randomness.prg import SEED_BYTES, Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource, Tape
from mpcnet.rounds import Done, Exchange, Part, Program, advance

Build: TypeAlias = Callable[..., Program[Any]]  # a protocol: of a party, and its shares of the inputs
Watch: TypeAlias = Callable[[tuple[Part, ...], list[Tensor], list[Tensor]], None]
SESSION = bytes(16)  # its public id: the seed is its own
HINT = "a protocol may depend on shapes alone: not on shares, on which party runs it, or on earlier runs"


def nobody(parts: tuple[Part, ...], first: list[Tensor], second: list[Tensor]) -> None:
    """Watches nothing."""


@dataclass(slots=True, repr=False)
class Run:
    """What server 0, server 1 and the dealer returned, and the measured cost."""

    results: tuple[Any, Any, Any]
    ledger: Ledger

    def value(self) -> Tensor:
        """What both servers hold together: see :func:`reveal`."""
        return reveal(*self.results[:2])


class Session:
    """Two servers and a dealer that run programs one after the other, each under fresh masks.

    Their seed is the system's. A `seed` of one's own makes runs reproducible, and is for tests: whoever knows it knows
    every mask.
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            self._seed = secrets.token_bytes(SEED_BYTES)
        else:
            self._seed = hashlib.blake2b(str(seed).encode(), digest_size=SEED_BYTES).digest()
        self._inputs = self.keystream("inputs", 0, Guard())
        self._guards = Guard(), Guard()  # of either end of every keystream
        self._streams = count(1)

    def keystream(self, purpose: str, stream: int, guard: Guard) -> Keystream:
        """One end's words of a domain of this session."""
        return Keystream(self._seed, Domain(SESSION, stream, purpose), guard)

    def hashes(self, stream: int) -> Hashes:
        """Of point functions, which all three know."""
        return Hashes.of(SESSION, stream)

    def share(self, x: Tensor, bits: int = 64, frac: int = 16) -> list[Shared]:
        """Additive shares of real numbers: for server 0 and server 1, and shapes for the dealer."""
        return self.share_words(ring.encode(x, frac, bits), bits, frac)

    def share_words(self, word: Tensor, bits: int, frac: int) -> list[Shared]:
        """:meth:`share` of ring words."""
        word, first = ring.fit(word, bits), self._inputs.words(word.shape, bits)
        shape = ring.zeros(word.shape, bits, "meta")
        return [Shared(first, bits, frac, 0), Shared(word - first, bits, frac, 1), Shared(shape, bits, frac, 0)]

    def share_parameter(self, word: Tensor, shape: Sequence[int], bits: int, frac: int) -> list[Shared]:
        """Shares of a model's parameter as parties hold it: of bits packed, as `Shared` of a ring of one bit."""
        if bits > 1:
            return self.share_words(word, bits, frac)
        first, nothing = self._inputs.words(tuple(shape), 1), ring.zeros(tuple(shape), 1, "meta")
        return [Shared(first, 1, frac, 0), Shared(word ^ first, 1, frac, 1), Shared(nothing, 1, frac, 0)]

    def sources(self) -> tuple[tuple[ServerSource, ServerSource], DealerSource]:
        """The randomness of the next run: of server 0 and server 1, and of the dealer."""
        stream = next(self._streams)
        (a, b), (c, d) = (
            [self.keystream(f"server{party}", stream, guard) for party in (0, 1)] for guard in self._guards
        )
        e, f = (self.keystream("refresh", stream, guard) for guard in self._guards)  # of the servers alone
        hashes = self.hashes(stream)
        return (ServerSource(0, a, e, hashes), ServerSource(1, b, f, hashes)), DealerSource((c, d), hashes)

    def run(self, build: Build, *inputs: Any, watch: Watch = nobody) -> Run:
        """Run `build(party, *inputs)` on all three. Each input is server 0's, server 1's, and the dealer's.

        `watch(parts, first, second)` is given the words that server 0 and server 1 send in each round, out of their
        wire form. It may put others in these lists, which are opened instead, as if a server had sent a wrong share.

        :raises LocalInputError: the three do not open and deal alike.
        """
        servers, dealer = self.sources()
        dealing = deal(lambda: build(Party(dealer), *(x[2] for x in inputs)), dealer)
        programs = [build(Party(source), *(x[source.party] for x in inputs)) for source in servers]
        try:
            return _drive(programs, servers, dealing, watch)
        finally:
            for program in programs:
                program.close()


def _drive(
    programs: Sequence[Program[Any]],
    servers: Sequence[ServerSource],
    dealing: Generator[Corrections, None, Any],
    watch: Watch,
) -> Run:
    ledger = Ledger()
    replies: list[Tensor] | None = None
    while True:
        corrections = _next(dealing)
        if isinstance(corrections, Done):
            raise LocalInputError(describe("lock-step", "the servers to end with the dealer", "one more round", HINT))
        _load(corrections, servers, ledger)
        first, second = (advance(program, replies and list(replies)) for program in programs)
        for source in servers:
            source.tape.finish()
        if isinstance(first, Exchange) and isinstance(second, Exchange):
            replies = _exchange(first, second, watch)
            ledger.exchange(first.parts)
            continue
        last = _next(dealing)
        if isinstance(first, Done) and isinstance(second, Done) and isinstance(last, Done):
            return Run((first.value, second.value, last.value), ledger)
        raise LocalInputError(describe("lock-step", "all three to end together", "another round of some", HINT))


def _next(dealing: Generator[Corrections, None, Any]) -> Corrections | Done[Any]:
    try:
        return next(dealing)
    except StopIteration as stop:
        return Done(stop.value)


def _load(corrections: Corrections, servers: Sequence[ServerSource], ledger: Ledger) -> None:
    """A segment's corrections, in their wire form."""
    for source, dealt in zip(servers, corrections, strict=True):
        for correction in dealt:
            ledger.dealt(correction.part, source.party)
        payload = np.concatenate([correction.payload for correction in dealt]) if dealt else None
        source.tape = Tape(tuple(correction.part for correction in dealt), payload)


def _exchange(first: Exchange, second: Exchange, watch: Watch) -> list[Tensor]:
    """What one round opens."""
    if first.parts != second.parts:
        raise LocalInputError(
            describe("lock-step, server1", f"to open {_sizes(first.parts)}", _sizes(second.parts), HINT)
        )
    sent = [
        [ring.unpack(ring.pack(value, part.bits), part) for value, part in zip(step.mine, step.parts, strict=True)]
        for step in (first, second)
    ]
    watch(first.parts, *sent)
    return [ring.add_opened(a, b, part.bits) for a, b, part in zip(*sent, first.parts, strict=True)]


def plan(build: Build, *inputs: Any) -> Plan:
    """The static cost of `build` on the shapes of inputs as :meth:`Session.run` takes them."""
    source = MeterSource()
    return measure(build(Party(source), *(x[2] for x in inputs)), source)


def check_cost(ledger: Ledger, planned: Plan) -> None:
    """The measured rounds and bytes, online and offline, are the plan's, operation by operation.

    :raises LocalInputError: they are not.
    """
    measured, expected = ledger.operations, planned.ledger.operations
    for label in expected | measured:
        want, got = expected.get(label, Cost()), measured.get(label, Cost())
        if want != got:
            raise LocalInputError(
                describe(f"lock-step, {label or 'cost'}", f"{_cost(want)} as planned", _cost(got), HINT)
            )


def reveal(*shares: object) -> Tensor:
    """What these parties' shares are together: real numbers, or bits as 0 and 1, in float64. One party holds it whole.

    :raises LocalInputError: they are no shares of one value.
    """
    check_form(*shares)
    bits = [share for share in shares if isinstance(share, Bits)]
    if bits:
        return ring.unpack_bits(reduce(xor, (share.packed for share in bits)), bits[0].shape).to(torch.float64)
    values = [share for share in shares if isinstance(share, Shared)]
    return ring.decode(reduce(add, (share.value for share in values)), values[0].frac, values[0].bits)


def check_form(*shares: object) -> None:
    """All are `Shared`, or all are `Bits`, of one shape and format.

    :raises LocalInputError: they are not.
    """
    first, *others = (_form(share) for share in shares)
    for other in others:
        if other != first:
            raise LocalInputError(describe("lock-step, results", first, other, HINT))


def _form(share: object) -> str:
    if isinstance(share, Bits):
        return f"bits {list(share.shape)}"
    if isinstance(share, Shared):
        return f"{list(share.shape)} in {share.bits} bits, {share.frac} of them fraction bits"
    raise LocalInputError(describe("lock-step", "a protocol to return a Shared or Bits", type(share).__name__))


def _sizes(parts: Sequence[Part]) -> str:
    return ", ".join(f"{part.bits} bits x {list(part.shape)}" for part in parts) or "nothing"


def _cost(cost: Cost) -> str:
    return f"{cost.rounds} rounds, {cost.sent_bytes} bytes each way, {cost.dealt_bytes} dealt"
