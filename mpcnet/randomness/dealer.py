"""The assistant T: it runs the servers' own program on shapes, knows every mask, and emits the corrections.

An opening is free for the dealer: it learns nothing from it and sends nothing for it. So it needs no answer from the
servers, and can run ahead of them as far as their buffers allow. It sees shapes and randomness only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.randomness import fss
from mpcnet.randomness.prg import Keystream
from mpcnet.randomness.source import Balance, Function, Secret, dealt_value
from mpcnet.rounds import Done, Part, Program, T, advance


@dataclass(frozen=True, slots=True, repr=False)
class Correction:
    """A share for the server that does not expand it from its seed, or what both need for their keys."""

    part: Part
    payload: ring.Bytes


Corrections = tuple[list[Correction], list[Correction]]  # by receiving server


@dataclass(slots=True, repr=False)
class DealerSource:
    """Both servers' keystreams, the hashes of their keys, and the corrections of the current segment."""

    streams: tuple[Keystream, Keystream]
    hashes: fss.Hashes
    party: int = 0
    balance: Balance = field(default_factory=Balance)
    _pending: tuple[list[Correction], list[Correction]] = field(default_factory=lambda: ([], []))

    def mask(self, shape: Sequence[int], bits: int) -> Secret:
        first, second = (stream.words(shape, bits) for stream in self.streams)
        return Secret(bits, ring.zeros(shape, bits, "meta"), ring.add(first, second, bits), first)

    def deal(
        self, function: Function, secrets: Sequence[Secret], shape: Sequence[int], bits: int, label: str
    ) -> Secret:
        value = dealt_value(function, secrets, shape, bits)
        part = Part(bits, tuple(shape), label)
        receiver = self.balance.receiver(part.nbytes)
        other = self.streams[1 - receiver].words(shape, bits)
        # Uniform: `other` is a fresh keystream word of the full ring, so value - other says nothing about value.
        self._pending[receiver].append(Correction(part, ring.pack_difference(value, other, bits)))
        return Secret(bits, ring.zeros(shape, bits, "meta"), value)

    def points(self, secret: Secret, payload: Function, cover: fss.Cover, label: str) -> fss.Points:
        shape = secret.share.shape
        place = dealt_value(lambda r: r, (secret,), shape, secret.bits)
        first, second = (stream.words((*shape, fss.BLOCK), 64) for stream in self.streams)
        part = cover.part(shape, label)
        # Pseudo-random to either server: each block is masked by the other's seeds, which it does not have.
        made = fss.generate(place, payload(place), (first, second), cover, self.hashes)
        correction = Correction(part, ring.pack(made, 64))
        for pending in self._pending:
            pending.append(correction)
        return fss.shape_only(shape, cover)

    def common(self, shape: Sequence[int], bits: int) -> Tensor:
        return ring.zeros(shape, bits, "meta")

    def take(self) -> Corrections:
        """The corrections since the last call, by receiver."""
        taken, self._pending = self._pending, ([], [])
        return taken


def deal(make: Callable[[], Program[T]], source: DealerSource) -> Generator[Corrections, None, T]:
    """Run a program as the dealer: yields the corrections of each segment; one segment ends at each exchange.

    The program is made when the first segment is asked for: a dealing that never starts leaves nothing behind.

    The generator returns what the program returned: for a load, the model as the dealer sees it (its masks).
    """
    program, reply = make(), None
    while True:
        step = advance(program, reply)
        yield source.take()
        if isinstance(step, Done):
            return step.value
        reply = [ring.zeros(part.shape, part.bits, "meta") for part in step.parts]
