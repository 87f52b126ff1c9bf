"""What is said of those who were refused or turned away: so many lines in a while; a flood of them fills no disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from mpcnet.errors import MpcError

MOST, PERIOD_S = 20, 10.0  # lines, and seconds: an operator reads no more, and a day of them is 20 MB


@dataclass(slots=True)
class Refusals:
    """Counts those of whom nothing is said; `clock` tells seconds."""

    clock: Callable[[], float] = time.monotonic
    _began_s: float = field(default=-inf, init=False)
    _said: int = field(default=0, init=False)
    _unsaid: int = field(default=0, init=False)

    def line(self, what: str, error: MpcError) -> str | None:
        """What to say of this one; None after too many; then the next line tells how many were left out."""
        now_s = self.clock()
        if now_s - self._began_s >= PERIOD_S:
            self._began_s, self._said = now_s, 0
        if self._said == MOST:
            self._unsaid += 1
            return None
        self._said += 1
        before, self._unsaid = self._unsaid, 0
        more = f"; {before} more before it, of which nothing was said" if before else ""
        return f"{what}: {error}{more}"
