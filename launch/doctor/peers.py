"""The doctor's look at the parties that we dial: who answers, how fast, with which program, by which clock.

A look ends before our own hello: to the listener it is a visitor that left, and a running session is not touched.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

from mpcnet.errors import (
    ChannelClosed,
    MpcError,
    RemoteAbort,
    RemoteIdentityError,
    RemoteProtocolError,
)
from mpcnet.launch.doctor.findings import Finding, error, ok, warning
from mpcnet.models.families.config import Config
from mpcnet.models.private import program
from mpcnet.transport.handshake import COMPUTES, FORMAT_VERSION, UPGRADE, Look, Program, look, telling
from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.tls import dial
from mpcnet.transport.wire import Scalar

ROUND_TRIPS = 3  # of a greeting: TCP, TLS, the welcome
SKEW_WARNING_S = 5.0  # more than a slow link and a busy machine make
SKEW_ERROR_S = 300.0  # a certificate holds from five minutes before it was made
CLOCK = "let NTP set the clocks of both machines: certificates depend on them"


async def visit(
    role: str, address: str, identity: Identity, roster: Roster, config: Config | None, ours: str, timeout_s: float,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:  # fmt: skip
    """Dial the party `role` once; `ours` is our own role. Without a config the programs are not compared."""
    start_s = time.perf_counter()
    try:
        channel = await dial(address, identity, roster, role, timeout_s, channel_timeout_s=timeout_s, on_wait=_give_up)
        greeting_s = time.perf_counter() - start_s
        seen = await look(channel, ours)
        skew_s = seen.time_s - clock()
        with suppress(MpcError):
            await channel.close()
    except MpcError as failure:
        return [error(role, str(failure), _advice(role, failure))]
    trip_ms = greeting_s / ROUND_TRIPS * 1e3
    found = [ok(role, f"reached at {address}, is who it should be; a round trip takes at most {trip_ms:.1f} ms")]
    if config is not None:
        found.append(compare(role, program.agreement(config), seen))
    return [*found, check_clock(role, skew_s)]


def _give_up(role: str, address: str, reason: str) -> None:
    """Called by `dial` before it tries again; the doctor says at once what it saw."""
    raise ChannelClosed(f"{role} at {address}: {reason}")


def _advice(role: str, failure: MpcError) -> str:
    if isinstance(failure, RemoteAbort):
        return f"{role} refuses us and says why; its log says more"
    if isinstance(failure, RemoteIdentityError):
        return f"compare ca.pem, cert.pem and roster.json here and at {role}: they must be of one deployment"
    if isinstance(failure, RemoteProtocolError):
        return f"is addresses.{role} right, and is that mpcnet, of our format version?"
    return f"start {role}; if it runs, look at addresses.{role} and at the firewalls between us"


def compare(role: str, ours: Program, seen: Look) -> Finding:
    """Format version, settings and digest of a peer's program beside ours."""
    check = f"program of {role}"
    if seen.version != FORMAT_VERSION:
        return error(check, f"format version: ours {FORMAT_VERSION}, theirs {seen.version}", UPGRADE)
    wrong = _differences(ours, seen)
    if ours.digest != seen.digest and set(wrong) <= {COMPUTES}:
        wrong["digest"] = f"digest: ours {ours.digest.hex()[:16]}, theirs {seen.digest.hex()[:16]}"
    if not wrong:
        return ok(check, f"is ours, format version {seen.version}")
    reasons, advice = telling(wrong)
    return error(check, "; ".join(reasons), advice)


def _differences(ours: Program, seen: Look) -> dict[str, str]:
    found = {}
    for name in sorted(ours.settings.keys() | seen.settings.keys()):
        mine, theirs = ours.settings.get(name, "nothing"), seen.settings.get(name, "nothing")
        if mine != theirs:
            found[name] = f"{name}: ours {_shown(mine)}, theirs {_shown(theirs)}"
    return found


def _shown(value: Scalar) -> str:
    """A peer's words, which need not be short."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def check_clock(role: str, skew_s: float) -> Finding:
    """How far a peer's clock is ahead of ours, in seconds."""
    check = f"clock of {role}"
    if not math.isfinite(skew_s):
        return error(check, f"{role} tells no time", UPGRADE)
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} ours"
    if abs(skew_s) > SKEW_ERROR_S:
        return error(check, text, CLOCK)
    if abs(skew_s) > SKEW_WARNING_S:
        return warning(check, text, CLOCK)
    return ok(check, text)


async def visit_all(
    addresses: dict[str, str], identity: Identity, roster: Roster, config: Config | None, ours: str, timeout_s: float
) -> list[Finding]:
    """All of them at the same time, in order."""
    visits = [visit(role, where, identity, roster, config, ours, timeout_s) for role, where in addresses.items()]
    return [finding for found in await asyncio.gather(*visits) for finding in found]
