"""Masks and dealt correlations, as each kind of party sees them.

A program asks its `Source` for four things, in program order:

* `mask(shape, bits)`: a fresh uniform value r = r_0 + r_1 mod 2^k. Server i and the dealer expand r_i from the seed
  they share; no bytes travel, and no server knows r.
* `deal(function, secrets, shape, bits)`: additive shares of a function of such values, for example r_x r_y. One
  server expands its share from the seed, the other receives the correction. The receiver alternates so that both
  dealer links carry the same load.
* `points(secret, payload, cover)`: keys of a point function, a function of such a value that stands at the value's own
  place (:mod:`mpcnet.randomness.fss`). Each server expands its seed, and both receive the same corrections.
* `common(shape, bits)`: fresh uniform words that both servers know and nobody else, not even the dealer: they expand a
  seed that they agreed with each other. They refresh what clients are sent, and weigh what is tested for zero.

| source | `Secret.share` | `Secret.plain` | `common` |
|---|---|---|---|
| server (here) | its additive share | unknown | the words |
| dealer (:mod:`mpcnet.randomness.dealer`) | shape only | the value | shape only |
| meter (:mod:`mpcnet.randomness.meter`) | shape only | unknown | shape only |
| oracle (here) | the value, with every mask zero | the value | zero |

A zero mask turns every masked formula into the plain one, so the oracle runs the same protocol code.

Source   docs/protocol.md, "Masked openings", "Dealt correlations"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.errors import RemoteProtocolError
from mpcnet.randomness import fss
from mpcnet.randomness.prg import Keystream
from mpcnet.rounds import Part

Function = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value of a k-bit ring that only the dealer knows."""

    bits: int
    share: Tensor
    plain: Tensor | None = None
    first: Tensor | None = None  # the dealer's copy of r_0; gives the carry of r_0 + r_1

    def map(self, function: Callable[[Tensor], Tensor]) -> Secret:
        """The same rearrangement (reshape, transpose, index) of every view of the secret."""
        plain = None if self.plain is None else function(self.plain)
        first = None if self.first is None else function(self.first)
        return Secret(self.bits, function(self.share), plain, first)

    def less(self, other: Secret, shift: int) -> Secret:
        """This secret less 2^shift times another one, in this one's ring."""

        def difference(a: Tensor, b: Tensor) -> Tensor:
            return a - (ring.fit(b, self.bits) << shift)

        plain = None
        if self.plain is not None and other.plain is not None:
            plain = ring.reduce(difference(self.plain, other.plain), self.bits)
        return Secret(self.bits, difference(self.share, other.share), plain)


class Source(Protocol):
    """Where a party's masks and correlations come from."""

    @property
    def party(self) -> int: ...

    def mask(self, shape: Sequence[int], bits: int) -> Secret: ...

    def deal(
        self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int, label: str
    ) -> Secret: ...

    def points(self, secret: Secret, payload: Function, cover: fss.Cover, label: str) -> fss.Points: ...

    def common(self, shape: Sequence[int], bits: int) -> Tensor: ...


class Balance:
    """Which server receives the next correction: the one that has received less so far."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = [0, 0]

    def receiver(self, nbytes: int) -> int:
        chosen = 0 if self._received[0] < self._received[1] else 1
        self._received[chosen] += nbytes
        return chosen


@dataclass(slots=True, repr=False)
class Tape:
    """The corrections of one segment (the stretch between two exchanges), consumed in order, once."""

    parts: tuple[Part, ...] = ()
    payload: ring.Bytes | None = None
    _next: int = 0
    _offset: int = 0

    def take(self, want: Part) -> Tensor:
        """:raises RemoteProtocolError: the dealer sent something else, or nothing, at this place."""
        got = self.parts[self._next] if self._next < len(self.parts) else None
        if self.payload is None or got is None or (got.bits, got.shape) != (want.bits, want.shape):
            shown = "nothing" if got is None else f"{got.bits} bits x {list(got.shape)}"
            raise RemoteProtocolError(
                f"{want.label}: want a correction of {want.bits} bits x {list(want.shape)} from the dealer, got {shown}"
            )
        raw = self.payload[self._offset : self._offset + want.nbytes]
        self._next += 1
        self._offset += want.nbytes
        return ring.unpack(raw, want)

    def finish(self) -> None:
        """:raises RemoteProtocolError: the dealer sent more than the segment used."""
        if self._next != len(self.parts):
            raise RemoteProtocolError(f"dealer sent {len(self.parts)} corrections for a segment that uses {self._next}")


@dataclass(slots=True, repr=False)
class ServerSource:
    """Server `party`: its shares of the masks, and its half of everything dealt.

    It has the keystream `stream` in common with the dealer, `pair` with the other server, and `hashes` with both.
    """

    party: int
    stream: Keystream
    pair: Keystream
    hashes: fss.Hashes
    tape: Tape = field(default_factory=Tape)
    balance: Balance = field(default_factory=Balance)

    def mask(self, shape: Sequence[int], bits: int) -> Secret:
        return Secret(bits, self.stream.words(shape, bits))

    def deal(
        self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int, label: str
    ) -> Secret:
        part = Part(bits, tuple(shape), label)
        if self.balance.receiver(part.nbytes) == self.party:
            return Secret(bits, self.tape.take(part))
        return Secret(bits, self.stream.words(shape, bits))

    def points(self, secret: Secret, payload: Function, cover: fss.Cover, label: str) -> fss.Points:
        shape = secret.share.shape
        seeds = self.stream.words((*shape, fss.BLOCK), 64)
        return fss.Key(self.party, seeds, self.tape.take(cover.part(shape, label)), self.hashes)

    def common(self, shape: Sequence[int], bits: int) -> Tensor:
        return self.pair.words(shape, bits)


@dataclass(slots=True)
class PlainSource:
    """The fixed-point oracle: one party that holds every value whole, and masks that are all zero."""

    party: int = 0

    def mask(self, shape: Sequence[int], bits: int) -> Secret:
        zero = ring.zeros(shape, bits)
        return Secret(bits, zero, zero, zero)

    def deal(
        self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int, label: str
    ) -> Secret:
        value = dealt_value(function, secrets, shape, bits)
        return Secret(bits, value, value)

    def points(self, secret: Secret, payload: Function, cover: fss.Cover, label: str) -> fss.Points:
        place = ring.zeros(secret.share.shape, secret.bits)
        return fss.Plain(place, payload(place))

    def common(self, shape: Sequence[int], bits: int) -> Tensor:
        return ring.zeros(shape, bits)


def dealt_value(function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int) -> Tensor:
    """`function` on the plain values (for the dealer and the oracle), as a ring holds values of `shape`."""
    plain = [secret.plain for secret in secrets]
    if any(value is None for value in plain):
        raise ValueError("only the dealer can evaluate a function of secrets")
    return ring.fit(function(*plain), bits).expand(ring.stored_shape(shape, bits))


def carry(total: Tensor, first: Tensor, bits: int) -> Tensor:
    """1 where r_0 + r_1 wrapped: the sum mod 2^k is then below r_0. Needs k <= 63."""
    return (ring.unsigned(total, bits) < ring.unsigned(first, bits)).to(torch.uint8)
