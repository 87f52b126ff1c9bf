"""Where the processes of a simulation run and how they reach each other: this machine's loopback, or a made network."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from mpcnet.launch.deployment.certs import LISTENERS

# What starts a module of ours as a process: the installed one, which has its kernels, and not one of the folder that we
# are in, which may be a clone without them.
PYTHON = (sys.executable, "-P", "-m")


class Network(Protocol):
    """Hosts for the roles, and the link between any two of them."""

    @property
    def name(self) -> str:
        """How the link is made: loopback, inproc, netem or tun. Named in every result."""

    @property
    def net(self) -> str:
        """What the processes themselves do to their channels: the `net` of their settings."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """HOST:PORT of each of LISTENERS."""

    def command(self, role: str, line: Sequence[str]) -> list[str]:
        """The command line that runs `line` on the host of `role`."""

    def enter(self, role: str) -> None:
        """Move the calling thread to the host of `role`, for good."""


class Loopback:
    """One machine, free ports. With a link other than `none`, the processes shape their own channels (inproc)."""

    def __init__(self, net: str = "none") -> None:
        self.name = "loopback" if net == "none" else "inproc"
        self.net = net
        self.addresses: Mapping[str, str] = dict(zip(LISTENERS, free_addresses(len(LISTENERS)), strict=True))

    def command(self, role: str, line: Sequence[str]) -> list[str]:
        """See :class:`Network`."""
        return list(line)

    def enter(self, role: str) -> None:
        """See :class:`Network`: there is one host."""


def free_addresses(count: int) -> list[str]:
    """Ports that are free now; a listener that loses the race says so."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
