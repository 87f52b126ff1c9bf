"""Measure a network between the hosts of server0 and server1 before it is used, instead of believing what was asked.

A network of hosts is probed over plain TCP, in its namespaces, so what TCP makes of the link is in the figures. Where
the processes shape their own channels, those are what is probed.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpcnet.errors import MpcError
from mpcnet.launch.simulation.network import PYTHON, Loopback, Network
from mpcnet.transport.latency import Link
from mpcnet.transport.tls import parse_address

TCP = "mpcnet.launch.netem.tcp_probe"
LIMIT_S = 60.0  # beyond what the probes wait for on purpose


class ProbeFailed(MpcError):
    """A network could not be measured."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A link as it is. Goodput is payload, one direction at a time: server0 to server1, and back."""

    network: str
    rtt_s: float  # the median of `echoes` small messages and their answers
    rtt_spread_s: float  # between their quartiles
    rtt_most_s: float
    echoes: int
    goodput_bps: float
    goodput_back_bps: float
    congestion_control: str  # the machine's own: only one that it allows could be chosen
    slow_start_after_idle: bool  # see `mpcnet.launch.netem.namespaces`


def measure(network: Network, link: Link) -> Probed:
    """Probe `network`, which was made with `link`; that only says how long probes take: some 4 s + 70 round trips.

    :raises ProbeFailed: a probe's process failed.
    """
    limit_s = LIMIT_S + 200 * link.rtt_s
    if isinstance(network, Loopback):
        found = _run(network, "server1", ["mpcnet.launch.netem.channel_probe", network.net], limit_s)
    else:
        host, _ = parse_address(network.addresses["server0"])
        with _listener(network, host) as port:
            found = _run(network, "server1", [TCP, "dial", host, str(port), repr(link.rtt_s)], limit_s)
    trips = found.pop("round_trips_s")
    first, median, third = statistics.quantiles(trips, n=4)
    return Probed(network.name, median, third - first, max(trips), len(trips), **found)


def _run(network: Network, role: str, arguments: list[str], limit_s: float) -> dict[str, Any]:
    """What a probe's process prints."""
    line = network.command(role, [*PYTHON, *arguments])
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=limit_s)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ProbeFailed(f"probe on the host of {role}: nothing measured within {limit_s:g} s") from None
    return _said(role, done.stdout, done.stderr)


@contextlib.contextmanager
def _listener(network: Network, host: str) -> Iterator[int]:
    """The port on which a probe's process listens on the host of server0; it is ended afterwards."""
    line = network.command("server0", [*PYTHON, TCP, "listen", host])
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None and process.stderr is not None
        try:
            told = process.stdout.readline()
            yield _said("server0", told, "" if told else process.stderr.read())["port"]
        finally:
            process.kill()


def _said(role: str, line: str, error: str) -> dict[str, Any]:
    if not line:
        reason = error.strip().splitlines() or ["it said nothing"]
        raise ProbeFailed(f"probe on the host of {role}: {reason[-1]}")
    said: dict[str, Any] = json.loads(line)
    return said
