"""The doctor's look at our own party: whether it runs here, and if not, whether it could listen."""

from __future__ import annotations

import asyncio
import errno
import socket
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from typing import Any

from mpcnet import checked_json
from mpcnet.errors import MpcError, RemoteAbort
from mpcnet.launch.doctor.findings import Finding, error, ok, warning
from mpcnet.launch.doctor.keys import DAY_S
from mpcnet.launch.party.monitor import HOST
from mpcnet.transport.identity import Identity, Roster, read_certificate
from mpcnet.transport.tls import dial, parse_address


async def check_port(role: str, address: str, identity: Identity, roster: Roster, timeout_s: float) -> Finding:
    """Whether we could listen; a port in use is well if it is our own party that uses it."""
    try:
        await _bind(address)
    except OSError as failure:
        if failure.errno == errno.EADDRINUSE:
            return await _owner_of_port(role, address, identity, roster, timeout_s)
        return error("own port", f"{address}: {failure.strerror}", f"run this on the host of {role}, or set `listen`")
    return ok("own port", f"{address} is free; {role} does not run")


async def _bind(address: str) -> None:
    """:raises OSError: nobody can listen there."""
    host, port = parse_address(address)
    family, kind, protocol, _, place = (
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
        probe.listen()


async def _owner_of_port(role: str, address: str, identity: Identity, roster: Roster, timeout_s: float) -> Finding:
    """Our own party refuses a peer of its own role, but only after it has shown its certificate."""
    try:
        channel = await dial(address, identity, roster, role, timeout_s)
        channel.abort("a look by the doctor")
    except RemoteAbort:
        pass
    except MpcError as failure:
        return error(
            "own port", f"{address} is in use, and by nobody who proves to be {role}: {failure}", "end its owner"
        )
    return ok("own port", f"{address} is in use by {role}, which is running")


async def check_monitor(role: str, port: int, identity: Identity, now: datetime, timeout_s: float) -> Finding:
    """What /healthz says, if our party answers there."""
    try:
        health = await asyncio.to_thread(_health, port, timeout_s)
    except ConnectionRefusedError:
        return ok("health", f"port {port} is free; {role} does not run, or without this port")
    except (OSError, HTTPException, ValueError) as failure:
        found = f"port {port} is in use, and not by {role}: {type(failure).__name__}"
        return error("health", found, "end its owner, or take another monitor_port")
    if health.get("role") != role:
        return error("health", f"port {port} is in use by another party", "give each party a monitor_port of its own")
    if health.get("reason") is not None:
        found = f"{role} runs and waits: {health['reason']}"
        return warning("health", found, "look at the party that it waits for")
    days = (read_certificate(identity.certificate).not_valid_after_utc - now).total_seconds() / DAY_S
    left = health.get("certificate_days_left")
    if isinstance(left, int) and abs(days - left) > 2:  # whole days, rounded down, by a clock that is not `now`
        return warning("health", f"{role} is ready, with another certificate than cert.pem is now", f"restart {role}")
    return ok("health", f"{role} is ready")


def _health(port: int, timeout_s: float) -> dict[str, Any]:
    """:raises OSError: nobody answers. :raises HTTPException, ValueError: it is not a party's health."""
    connection = HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", "/healthz")
        return checked_json.mapping(connection.getresponse().read(1 << 16))
    finally:
        connection.close()
