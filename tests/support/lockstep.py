"""The shipped lock-step session, with seeds by default, everything that was opened for statistics, and servers that lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import lockstep_session
from mpcnet.protocols.lockstep_session import Build
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Part

Tamper = Callable[[int, list[Tensor]], None]


@dataclass(slots=True, repr=False)
class Run(lockstep_session.Run):
    """A run, and what was opened and what server 0 sent, in order."""

    opened: list[tuple[Part, Tensor]] = field(default_factory=list)
    sent: list[Tensor] = field(default_factory=list)


class Session(lockstep_session.Session):
    """A session with a seed, whose runs are recorded."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)

    def share_parameter(self, word: Tensor, shape: tuple[int, ...], bits: int, frac: int) -> list[Shared]:
        """Shares of a model's parameter as parties hold it: of bits packed, as `Shared` of a ring of one bit."""
        if bits > 1:
            return self.share_words(word, bits, frac)
        first = self._inputs.words(shape, 1)
        nothing = ring.zeros(shape, 1, "meta")
        return [Shared(first, 1, frac, 0), Shared(word ^ first, 1, frac, 1), Shared(nothing, 1, frac, 0)]

    def run(self, build: Build, *inputs: Any, tamper: Tamper | None = None) -> Run:
        """`tamper(count, words)` may change what server 0 sends in a round; `count` words were opened before."""
        opened: list[tuple[Part, Tensor]] = []
        sent: list[Tensor] = []

        def watch(parts: tuple[Part, ...], first: list[Tensor], second: list[Tensor]) -> None:
            if tamper:
                tamper(len(opened), first)
            sent.extend(first)
            opened.extend(
                (part, ring.add_opened(a, b, part.bits)) for part, a, b in zip(parts, first, second, strict=True)
            )

        done = super().run(build, *inputs, watch=watch)
        return Run(done.results, done.ledger, opened, sent)
