"""Pauses between attempts at what others must make possible: short at first, doubling, and never long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

FIRST_S, LONGEST_S = 0.1, 5.0  # a party that restarts is back within some; one that is away costs nobody much


@dataclass(slots=True)
class Backoff:
    """Those of one row of attempts."""

    next_s: float = field(default_factory=lambda: FIRST_S)
    longest_s: float = field(default_factory=lambda: LONGEST_S)

    async def take(self) -> None:
        """Wait for the next one; that behind it is twice as long."""
        pause_s, self.next_s = self.next_s, min(2 * self.next_s, self.longest_s)
        await asyncio.sleep(pause_s)
