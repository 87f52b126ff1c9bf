"""Three ways to make a network with a link's delay and bandwidth, and one without; each result names the one used.

======  =============================================  =======================================================
inproc  the processes shape their own channels         no privileges; TCP itself is not in the measurement
netem   a namespace a host, veth, `tc qdisc netem`     real TCP, shaped by the kernel; needs its module sch_netem
tun     a namespace a host, TUN devices and a relay    real TCP, shaped by a process of ours, which costs CPU time
veth    a namespace a host, veth                       hosts of their own, no shaping: for tests
======  =============================================  =======================================================

All follow one model: each pair of parties has a link of its own, with the whole bandwidth each way. So each role is a
host, owner and client too. Loopback devices are never shaped. One thing differs: jitter delays whole frames with inproc
and packets with netem and tun; netem may put these out of order.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from mpcnet.errors import LocalConfigError, describe
from mpcnet.launch.deployment.certs import LISTENERS
from mpcnet.launch.netem.namespace_supervisor import ADDRESSES
from mpcnet.launch.netem.namespaces import NetworkFailed, enter
from mpcnet.launch.netem.tun import DEVICE, Use
from mpcnet.launch.simulation.network import PYTHON, Loopback, Network
from mpcnet.transport.latency import Link

KINDS = ("inproc", "netem", "tun", "veth")
PORT = 4100
ENDED = "the network's supervisor has ended, and with it all links between the hosts; make the network again"
STOP_S = 10.0  # of a supervisor, which has at most a few processes to kill


class Supervisor:
    """The process that holds a network; see `mpcnet.launch.netem.namespace_supervisor`."""

    def __init__(self, kind: str, link: Link) -> None:
        line = [*PYTHON, "mpcnet.launch.netem.namespace_supervisor", kind, json.dumps(asdict(link))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(line, stdin=pipe, stdout=pipe, start_new_session=True)  # noqa: S603

    def read(self) -> dict[str, Any]:
        """What it says next.

        :raises NetworkFailed: it could not make the network, or has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NetworkFailed(ENDED)
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise NetworkFailed(f"the network cannot be made: {said['error']}")
        return said

    def ask(self) -> dict[str, Any]:
        """What its relay has used.

        :raises NetworkFailed: it has ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"?")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise NetworkFailed(ENDED) from None
        return self.read()

    def stop(self) -> None:
        """By the end of its input, so that it kills what still runs there."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@dataclass(frozen=True, slots=True)
class Hosts:
    """A network of namespaces; see :class:`mpcnet.launch.simulation.network.Network`."""

    name: str
    namespaces: Mapping[str, str]
    supervisor: Supervisor
    net: str = "none"

    @property
    def addresses(self) -> Mapping[str, str]:
        """See :class:`mpcnet.launch.simulation.network.Network`."""
        return {role: f"{ADDRESSES[role]}:{PORT}" for role in LISTENERS}

    def command(self, role: str, line: Sequence[str]) -> list[str]:
        """See the base class. The process is the line's own: its pid, signals and exit code."""
        return ["nsenter", f"--net={self._namespace(role)}", "--", *line]

    def enter(self, role: str) -> None:
        """See :class:`mpcnet.launch.simulation.network.Network`.

        :raises NetworkFailed: the kernel refuses.
        """
        namespace = os.open(self._namespace(role), os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(namespace)
        finally:
            os.close(namespace)

    def _namespace(self, role: str) -> str:
        return self.namespaces[role.partition(":")[0]]


def why_not(kind: str) -> str | None:
    """Why this machine cannot make a network of this kind, and what to do about it; None if it can.

    :raises LocalConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise LocalConfigError(describe("network", " or ".join(KINDS), repr(kind)))
    if kind == "inproc":
        return None
    if os.geteuid() != 0:
        return f"{kind} needs root for network namespaces: run it as root, or use inproc"
    for tool in ("ip", "nsenter", "unshare", *(["tc"] if kind == "netem" else [])):
        if shutil.which(tool) is None:
            return f"{kind} needs the command {tool}: install iproute2 and util-linux"
    if said := _fails("unshare", "--net", "ip", "link", "set", "lo", "up"):
        return f"{kind} needs network namespaces ({said}): run it with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    if kind == "tun":
        try:
            os.close(os.open(DEVICE, os.O_RDWR))
        except OSError as error:
            return (
                f"tun needs {DEVICE} ({error.strerror}): load the module (modprobe tun), or let the container have it"
            )
    if kind == "netem" and (said := _fails("unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem")):
        return f"netem needs the kernel's sch_netem ({said}): load it (modprobe sch_netem), or use tun"
    return None


def _fails(*line: str) -> str:
    """What a command says if it fails."""
    done = subprocess.run(line, capture_output=True, text=True)  # noqa: S603
    return " ".join(done.stderr.split()) or f"exit code {done.returncode}" if done.returncode else ""


@contextlib.contextmanager
def make(kind: str, link: Link) -> Iterator[Network]:
    """A network of this kind with this link, until the end of the context, or of this process.

    :raises LocalConfigError: there is no such kind, it cannot be made here, or it cannot have this link.
    :raises NetworkFailed: the kernel refused a part of it.
    """
    if reason := why_not(kind):
        raise LocalConfigError(reason)
    if kind == "veth" and not link.ideal:
        raise LocalConfigError("veth shapes nothing: want the link none; for another use inproc, netem or tun")
    if kind == "inproc":
        yield Loopback(link_text(link))
        return
    supervisor = Supervisor(kind, link)
    try:
        yield Hosts(kind, supervisor.read()["namespaces"], supervisor)
    finally:
        supervisor.stop()


def relay_use(network: Network) -> Use | None:
    """What the network's relay has used until now; None if it has none.

    :raises NetworkFailed: the network has ended.
    """
    if not isinstance(network, Hosts) or network.name != "tun":
        return None
    return Use(**network.supervisor.ask())


def link_text(link: Link) -> str:
    """The text that :func:`mpcnet.transport.latency.parse_link` reads as this link."""
    words = [f"rtt={link.rtt_s * 1e6:.3f}us"]
    if link.bandwidth_bps != inf:
        words.append(f"bw={link.bandwidth_bps / 1e3:.3f}kbps")
    if link.jitter_s:
        words += [f"jitter={link.jitter_s * 1e6:.3f}us", f"seed={link.seed}"]
    return "none" if link.ideal else ",".join(words)
