"""The shipped lock-step session, with seeds by default, everything that was opened for statistics, and servers that lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import lockstep_session
from mpcnet.protocols.lockstep_session import Build
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
