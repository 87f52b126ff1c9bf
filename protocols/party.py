"""The context a protocol runs in: the only object through which it can spend a round or draw a secret.

One class serves all four interpreters; they differ in the `Source` of their randomness and in who drives the
coroutine (see mpcnet.randomness.source): computing server, dealer, meter, fixed-point oracle.

Protocols tell the party's :class:`Auditor` what should hold of their values. By default nobody listens
(:class:`Unaudited`); :class:`mpcnet.protocols.audit.Audit` checks it. Protocols are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.share import Bits, Masked, MaskedBits, Shared
from mpcnet.randomness.fss import Cover, Points
from mpcnet.randomness.source import Function, PlainSource, Secret, Source
from mpcnet.rounds import Exchange, Part

Check: TypeAlias = Callable[[], Iterable[Bits]]


class Auditor(Protocol):
    """What protocols tell an audit: what should hold of their values, if the result is to be right.

    An audit checks these claims, or ignores them; whoever makes them does not know. What a check costs is the audit's.
    """

    def within(self, p: Party, x: Masked, limit: int, centre: int = 0, keep: Tensor | None = None) -> None:
        """|x - centre| < limit, as integers, where `keep` is 1."""

    def flag(self, check: Check, keep: Tensor | None = None) -> None:
        """The bits that `check` makes are 0, where `keep` is 1. An audit calls it at once; nothing is dealt for it if
        there is none.
        """

    def inverse(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        """x y = target, for positive x from `low` to `high`."""

    def root(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        """x y^2 = target, for positive x from `low` to `high`."""

    def norms(self, p: Party, limit: float, *values: Masked) -> None:
        """The squared norms of these values' rows are below `limit`."""

    def shown_bits(self, needed: int, possible: int) -> int:
        """How many bits to open of a value that should fit `needed`, where `possible` travel in as many bytes."""

    def tell(self, p: Party) -> None:
        """No more claims are expected: what was found may travel with the openings that follow."""

    async def exchange(self, parts: tuple[Part, ...], mine: tuple[Tensor, ...]) -> list[Tensor]:
        """The protocol's next exchange; openings of the audit's own may travel with it."""


@dataclass(frozen=True, slots=True)
class Unaudited:
    """Nobody looks: no claim costs anything."""

    def within(self, p: Party, x: Masked, limit: int, centre: int = 0, keep: Tensor | None = None) -> None:
        pass

    def flag(self, check: Check, keep: Tensor | None = None) -> None:
        pass

    def inverse(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        pass

    def root(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        pass

    def norms(self, p: Party, limit: float, *values: Masked) -> None:
        pass

    def shown_bits(self, needed: int, possible: int) -> int:
        return needed

    def tell(self, p: Party) -> None:
        pass

    async def exchange(self, parts: tuple[Part, ...], mine: tuple[Tensor, ...]) -> list[Tensor]:
        return await Exchange(parts, mine)


UNAUDITED = Unaudited()


@dataclass(frozen=True, slots=True)
class Party:
    """A party at one place of the program; `label` names the place in the ledger and in errors.

    The `audit` is told what should hold of values (:mod:`mpcnet.protocols.audit`); its openings travel with the
    protocols'. `combine` multiplies by weights: here, or on an accelerator (:mod:`mpcnet.arrays.accelerator`).
    """

    source: Source
    label: str = ""
    audit: Auditor = UNAUDITED
    combine: ring.Combine = ring.combine

    def at(self, name: str) -> Party:
        """The same party at a named place below this one."""
        return replace(self, label=f"{self.label}/{name}" if self.label else name)

    async def open(self, *values: Shared) -> list[Masked]:
        """Open each value under a fresh mask. Single bits are opened by :meth:`open_bits`.

        Rounds   1, for all values together
        Sends    ceil(bits / 8) bytes an element each way
        Hiding   x^ = x + r mod 2^bits with r fresh and uniform over exactly the bits that are sent: x^ is uniform
        Source   docs/protocol.md, "Masked openings"; [ABY2], [BGI19]
        """
        if any(value.bits == 1 for value in values):
            raise ValueError(f"{self.label}: a ring of 1 bit is held packed: open it by open_bits")
        secrets = [self.source.mask(value.shape, value.bits) for value in values]
        parts = tuple(Part(value.bits, value.shape, self.label) for value in values)
        mine = tuple(value.value + secret.share for value, secret in zip(values, secrets, strict=True))
        opened = await self.audit.exchange(parts, mine)
        return [
            Masked(x, secret, value.frac, value.party) for x, secret, value in zip(opened, secrets, values, strict=True)
        ]

    async def open_bits(self, *values: Bits) -> list[MaskedBits]:
        """:meth:`open` for bits.

        Rounds   1, for all values together
        Sends    1 bit an element each way, each value in whole bytes
        Hiding   b^ = b xor r with r fresh and uniform: b^ is uniform
        """
        secrets = [self.source.mask(value.shape, 1) for value in values]
        parts = tuple(Part(1, value.shape, self.label) for value in values)
        mine = tuple(value.packed ^ secret.share for value, secret in zip(values, secrets, strict=True))
        opened = await self.audit.exchange(parts, mine)
        return [
            MaskedBits(b, secret, value.shape, value.party)
            for b, secret, value in zip(opened, secrets, values, strict=True)
        ]

    async def open_one(self, value: Shared) -> Masked:
        """:meth:`open` for a single value."""
        (masked,) = await self.open(value)
        return masked

    def deal(self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int) -> Secret:
        """Shares of a function of secrets from the dealer; no round. Offline: ceil(bits/8) bytes an element."""
        return self.source.deal(function, secrets, shape, bits, self.label)

    def points(self, secret: Secret, payload: Function, cover: Cover) -> Points:
        """Keys of a point function from the dealer: payload(r) at the place r, 0 elsewhere (mpcnet.randomness.fss); no
        round.

        Offline: 16 bytes an element and level of the tree and 32 a size of cells, to each server.
        """
        return self.source.points(secret, payload, cover, self.label)

    def rescale(self, x: Shared, frac: int) -> Shared:
        """Bring x to fewer fraction bits, exactly: no wrap error is possible.

        Each share, read as an unsigned integer, is shifted right; the wrap of the shares contributes 2^(k-t), which is
        0 in the smaller ring. Two floors lose up to 1 ulp each, so party 0 adds one ulp: what remains is stochastic
        rounding: 1 ulp at most, 2^-t ulp on average.

        Rounds   0;  price: the ring loses as many bits as the fraction
        Source   docs/protocol.md, "Exact rescaling"; [SiRnn], truncate-and-reduce
        """
        count = x.frac - frac
        if count == 0:
            return x
        if count < 0:
            return replace(x, value=x.value << -count, frac=frac)
        half = 1 << (count - 1)
        value = x.value
        if isinstance(self.source, PlainSource):
            value = ring.shift_right(value + half, x.bits, count)  # one share: round to nearest
        else:
            value = ring.shift_right(value, x.bits, count)
            value = value + 1 if x.party == 0 else value
        return Shared(value, x.bits - count, frac, x.party)

    def zero(self, shape: Sequence[int], bits: int, frac: int) -> Shared:
        """A fresh sharing of zero: what makes the shares of a result independent of how it was computed.

        The servers add and subtract words that only they know, so whoever sees both shares of the result learns their
        sum and nothing else, though it knew all that the dealer does.

        Rounds   0;  nothing is dealt
        Source   docs/protocol.md, "Masked openings"
        """
        words, party = self.source.common(shape, bits), self.source.party
        return Shared(-words if party else words, bits, frac, party)

    def zero_bits(self, shape: Sequence[int]) -> Bits:
        """:meth:`zero` for bits."""
        return Bits(self.source.common(shape, 1), tuple(shape), self.source.party)
