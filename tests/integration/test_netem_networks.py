"""Made networks: the link is what was asked for, every pair of hosts has one, and nothing is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundles import InventedTime, in_invented_time
from limits import LIMIT_S
from netem_points import needs

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.certs import LISTENERS
from mpcnet.launch.netem import channel_probe, networks
from mpcnet.launch.netem.namespace_supervisor import ADDRESSES
from mpcnet.launch.netem.namespaces import NetworkFailed
from mpcnet.launch.netem.networks import KINDS, Hosts, link_text, make, relay_use, why_not
from mpcnet.launch.netem.probe import ProbeFailed, measure
from mpcnet.launch.netem.tcp_probe import ECHOES, flood_for
from mpcnet.launch.simulation.network import Network
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.latency import Link, ShapedChannel, parse_link

LINK = Link(rtt_s=0.020, bandwidth_bps=1e8)


def until(ready: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    end_s = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """The process has ended; whether its parent has asked for its exit code is not our business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def holders(namespaces: list[str]) -> set[str]:
    """Processes that live in one of these namespaces, or keep one open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        for link in (process / "ns/net", *Path(process / "fd").glob("*")):
            try:
                if os.readlink(link) in namespaces:
                    found.add(process.name)
            except OSError:  # it has ended, or closed it
                continue
    return found


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def run(network: Network, role: str, code: str, *arguments: str) -> str:
    """What a line of Python prints on a host."""
    line = network.command(role, [sys.executable, "-c", code, *arguments])
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_cannot_be_made_says_why(kind: str) -> None:
    reason = why_not(kind)
    if reason is None:
        with make(kind, Link()) as network:
            assert set(network.addresses) == set(LISTENERS)
    else:
        assert kind in reason and "\n" not in reason and ("run it" in reason or "load" in reason or "install" in reason)
        with pytest.raises(LocalConfigError) as caught, make(kind, LINK):
            pass
        assert str(caught.value) == reason


def test_a_kernel_without_netem_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tc` says there is passed on, with a way out."""
    said = "Error: Specified qdisc kind is unknown."
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(networks.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(networks, "_fails", lambda *line: said if "netem" in line else "")
    assert why_not("netem") == f"netem needs the kernel's sch_netem ({said}): load it (modprobe sch_netem), or use tun"


def test_without_root_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not("tun") == "tun needs root for network namespaces: run it as root, or use inproc"
    assert why_not("inproc") is None


def test_there_is_no_such_network() -> None:
    with pytest.raises(LocalConfigError, match="want inproc or netem or tun or veth, got 'carrier pigeon'"):
        why_not("carrier pigeon")


def test_inproc_shapes_in_the_processes() -> None:
    with make("inproc", LINK) as network:
        assert network.name == "inproc" and parse_link(network.net) == LINK
        assert network.command("client", ["true"]) == ["true"] and relay_use(network) is None


@pytest.mark.parametrize("link", [Link(), LINK, Link(0.0005), Link(0.0, 2.5e9), Link(0.1, inf, 0.003, 7)])
def test_a_link_as_text(link: Link) -> None:
    assert astuple(parse_link(link_text(link))) == pytest.approx(astuple(link))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inproc", needs("netem"), needs("tun")])
def test_a_probe_measures_the_link(kind: str) -> None:
    """No answer comes early. How late it is, and what gets through, depends on what else the machine does."""
    with make(kind, LINK) as network:
        found = measure(network, LINK)
        assert found.network == network.name == kind
        assert found.rtt_most_s >= found.rtt_s >= 0.99 * LINK.rtt_s and found.echoes >= 20
        assert found.rtt_spread_s >= 0 and found.goodput_bps > 0 and found.goodput_back_bps > 0
        assert kind == "inproc" or not found.slow_start_after_idle
        use = relay_use(network)
        assert (use is not None) == (kind == "tun")
        assert use is None or (use.trains > 100 and use.cpu_s > 0.01)


def test_the_processes_own_link_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In invented time: the probe's own code on channels that have no other delay."""

    async def probe(loop: InventedTime) -> None:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds or 1e-4)

        def ends() -> list[ShapedChannel]:
            pair = memory_pair("server0", "server1", high_water=1 << 24)
            return [ShapedChannel(end, LINK, clock=loop.time, sleep=sleep) for end in pair]

        monkeypatch.setattr(channel_probe, "time", SimpleNamespace(perf_counter=loop.time))
        trips = await channel_probe._echoes(*ends())
        assert trips == pytest.approx([LINK.rtt_s] * ECHOES, rel=2e-2)
        for source, target in (ends(), reversed(ends())):
            goodput = await channel_probe._goodput(source, target, 125_000, flood_for(LINK.rtt_s))
            assert goodput == pytest.approx(LINK.bandwidth_bps, rel=1e-2)

    in_invented_time(probe)


SINK = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    left = int(sys.argv[2])
    while left:
        left -= len(connection.recv(min(left, 1 << 20)))
    connection.sendall(b"1")
    connection.recv(1)
"""
SOURCE = """
import socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
began = time.monotonic()
with socket.create_connection((host, port)) as connection:
    connection.sendall(bytes(count))
    connection.recv(1)
    print(time.monotonic() - began)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [needs("netem"), needs("tun")])
@pytest.mark.parametrize(("source", "sink"), [("server1", "server0"), ("server0", "server1")])
def test_nothing_gets_through_a_link_faster_than_it_may(kind: str, source: str, sink: str) -> None:
    """Two round trips and the time that the bytes take at the link's bandwidth, at least."""
    count = 2_500_000
    with make(kind, LINK) as network:
        host = ADDRESSES[sink]
        line = network.command(sink, [sys.executable, "-c", SINK, host, str(count)])
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as listening:
            assert listening.stdout is not None
            port = listening.stdout.readline().strip()
            seconds = float(run(network, source, SOURCE, host, port, str(count)))
    assert seconds >= 2 * LINK.rtt_s + 8 * count / LINK.bandwidth_bps


@pytest.mark.slow
def test_a_probe_that_fails_says_why() -> None:
    address = {"server0": "203.0.113.1:4100"}  # of no machine: for documentation
    network = SimpleNamespace(name="hosts", net="none", addresses=address, command=lambda role, line: line)
    with pytest.raises(ProbeFailed, match=r"probe on the host of server0: .*Cannot assign requested address"):
        measure(network, Link())


REFUSED = """
import socket, sys
for host in sys.argv[1:]:
    try:
        socket.create_connection((host, 9), 5)
    except ConnectionRefusedError:  # so both directions work
        print(host)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [needs("veth"), needs("tun")])
def test_every_pair_of_hosts_has_a_link_and_nobody_else_has(kind: str) -> None:
    before = interfaces()
    with make(kind, Link()) as network:
        for role in ADDRESSES:
            assert run(network, role, REFUSED, *ADDRESSES.values()).split() == list(ADDRESSES.values())
        assert run(network, "client:alice", "print(1)") == "1\n"
        assert interfaces() == before
        with pytest.raises(subprocess.CalledProcessError):
            run(network, "server0", "import socket; socket.create_connection(('192.0.2.1', 9), 5)")  # no way out


@pytest.mark.skipif(why_not("veth") is not None, reason=why_not("veth") or "")
def test_veth_has_no_link_but_none() -> None:
    with pytest.raises(LocalConfigError, match="veth shapes nothing"), make("veth", LINK):
        pass


MAKER = """
import json, os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from mpcnet.launch.netem.networks import make
from mpcnet.transport.latency import Link
with make(sys.argv[1], Link()) as network:
    party = subprocess.Popen(network.command("server0", ["sleep", "600"]), start_new_session=True)
    inside = [os.readlink(place) for place in network.namespaces.values()]
    print(json.dumps([network.supervisor.process.pid, party.pid, inside]), flush=True)
    party.wait()
"""


@pytest.fixture
def maker(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", MAKER, request.param]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("maker", "number"),
    [
        needs("tun", signal.SIGKILL),
        needs("tun", signal.SIGTERM),
        needs("tun", signal.SIGINT),
        needs("veth", signal.SIGKILL),
    ],
    indirect=["maker"],
)
def test_nothing_outlives_its_maker(maker: subprocess.Popen[str], number: signal.Signals) -> None:
    """Supervisor, relay, parties, namespaces: and with these their devices."""
    before = interfaces()
    supervisor, party, inside = json.loads(maker.stdout.readline())
    assert str(supervisor) in holders(inside) and not gone(supervisor) and not gone(party)
    maker.send_signal(number)
    assert maker.wait(LIMIT_S) != 0
    until(lambda: gone(supervisor) and gone(party) and not holders(inside))
    assert interfaces() == before


@pytest.mark.slow
@pytest.mark.skipif(why_not("tun") is not None, reason=why_not("tun") or "")
async def test_what_still_runs_at_the_end_is_ended() -> None:
    """Even what was started in the last moment, and is not there yet."""
    with make("tun", Link()) as network:
        assert isinstance(network, Hosts)
        inside = [os.readlink(place) for place in network.namespaces.values()]
        runs, starts = network.command("dealer", ["sh", "-c", "echo here; sleep 600"]), ["sleep", "600"]
        running = await asyncio.create_subprocess_exec(*runs, stdout=asyncio.subprocess.PIPE)
        assert running.stdout is not None and await running.stdout.readline() == b"here\n"
        others = [await asyncio.create_subprocess_exec(*network.command(role, starts)) for role in ADDRESSES]
    assert not holders(inside)
    async with asyncio.timeout(LIMIT_S):
        assert await running.wait() == -signal.SIGKILL
        for each in others:
            assert await each.wait() != 0


@pytest.mark.slow
@pytest.mark.skipif(why_not("tun") is not None, reason=why_not("tun") or "")
def test_a_network_that_has_ended_says_so() -> None:
    with make("tun", Link()) as network:
        assert isinstance(network, Hosts)
        network.supervisor.process.kill()
        network.supervisor.process.wait()
        with pytest.raises(NetworkFailed, match="supervisor has ended"):
            relay_use(network)
