"""A long-running party says in time that its certificate expires, and what follows once it has.

TLS looks at certificates only when a connection begins. So connections outlive a certificate, and a session goes on;
but whoever connects anew is refused by the other side, or refuses us.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from mpcnet.launch.party.log import Level
from mpcnet.launch.party.node import Node
from mpcnet.transport.identity import read_certificate

DAY_S = 86400.0
MARKS_DAYS = (30, 7, 1, 0)  # something is said when fewer are left
LOOK_S = 600.0  # between two looks at the clock


@dataclass(slots=True)
class Expiry:
    """What was said of a certificate that ends at `end`."""

    end: datetime
    _passed: int = field(default=0, init=False)  # how many of the marks

    def line(self, now_s: float) -> tuple[str, Level] | None:
        """What to say now, a unix time; None if it was said already, or there is time."""
        left_s = self.end.timestamp() - now_s
        passed = sum(left_s <= days * DAY_S for days in MARKS_DAYS)
        news, self._passed = passed > self._passed, passed
        if not news:
            return None
        day = f"{self.end:%Y-%m-%d %H:%M} UTC"
        if left_s > 0:
            return (
                f"our certificate expires in {left_s / DAY_S:.1f} days, on {day}; mpcnet renew makes another",
                "warning",
            )
        what = "who is connected stays, but nobody connects anew"
        return f"our certificate has expired on {day}: {what}; take one from mpcnet renew and restart", "error"


async def tell_expiry(node: Node) -> None:
    """Look at our certificate for as long as the party lives."""
    expiry = Expiry(read_certificate(node.identity.certificate).not_valid_after_utc)
    while True:
        if said := expiry.line(node.clock()):
            node.say(*said)
        await asyncio.sleep(LOOK_S)
