"""The process that holds a made network: its namespaces are open files here, and its relay runs here.

It ends when its standard input does: on the maker's order, or because the maker is gone, even by SIGKILL. Then it kills
what still runs in the namespaces, and the kernel removes the rest. It has its own session, so that Ctrl-C reaches the
parties first. On its standard output it says, one JSON object a line, where the namespaces are or why there are none,
and then for each line of input what the relay used.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import json
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from math import inf

from mpcnet.launch.netem import namespaces, tun
from mpcnet.launch.netem.namespaces import NetworkFailed
from mpcnet.transport.latency import Link

ADDRESSES: Mapping[str, str] = {
    "server0": "10.77.0.1",
    "server1": "10.77.0.2",
    "dealer": "10.77.0.3",
    "owner": "10.77.0.4",
    "client": "10.77.0.5",
}
CONTROL = 0
MTU = 1500


def netem_arguments(link: Link) -> str:
    """The link as arguments of `tc qdisc add dev DEVICE root netem`."""
    delay_us = link.rtt_s / 2 * 1e6
    words = [f"limit {-(-tun.capacity_bytes(link) // MTU)}"]
    if link.jitter_s:  # netem's is around the delay, ours is added to it
        half_us = link.jitter_s / 2 * 1e6
        words.append(f"delay {delay_us + half_us:.3f}us {half_us:.3f}us")
    elif delay_us:
        words.append(f"delay {delay_us:.3f}us")
    if link.bandwidth_bps != inf:
        words.append(f"rate {link.bandwidth_bps:.0f}bit")
    return " ".join(words)


def join_by_veth(held: Mapping[str, int], link: Link | None) -> None:
    """One cable for each pair of hosts, so that each pair has its own link; with netem on both ends if asked."""
    for host, other in combinations(held, 2):
        namespaces.enter(held[host])
        far = f"/proc/{os.getpid()}/fd/{held[other]}"
        namespaces.configure("ip", f"link add to-{other} type veth peer name to-{host} netns {far}")
        for near, peer in ((host, other), (other, host)):
            namespaces.enter(held[near])
            route = f"route add {ADDRESSES[peer]} dev to-{peer} src {ADDRESSES[near]}"
            namespaces.configure("ip", f"link set to-{peer} up", route)
            if link is not None:
                namespaces.configure("tc", f"qdisc add dev to-{peer} root netem {netem_arguments(link)}")


def join_by_tun(held: Mapping[str, int], link: Link) -> tun.Relay:
    """One TUN device for each host, and the relay between them."""
    devices = {}
    for host, namespace in held.items():
        namespaces.enter(namespace)
        devices[ipaddress.IPv4Address(ADDRESSES[host]).packed] = tun.open_device("tun0")
        namespaces.configure("ip", "link set tun0 up", f"route add 10.77.0.0/24 dev tun0 src {ADDRESSES[host]}")
    return tun.Relay(devices, link)


def make_hosts(hosts: Iterable[str]) -> dict[str, int]:
    """A namespace for each host. Its address is on its loopback, as a router's is, whatever the cables are."""
    held = {}
    for host in hosts:
        held[host] = namespaces.enter_new()
        namespaces.configure("ip", f"address add {ADDRESSES[host]}/32 dev lo")
    return held


def say(**what: object) -> None:
    """One line to the maker."""
    print(json.dumps(what), flush=True)


def be_prompt() -> None:
    """A relay that waits for its turn delays more than its link."""
    with contextlib.suppress(PermissionError):  # in a container: then it waits its turn like the parties
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.disable()  # nothing here is cyclic


def keep(kind: str, link: Link) -> None:
    """Make the network, say so, and hold it until the input ends."""
    held: dict[str, int] = {}
    relay = None
    try:
        with namespaces.back_again():
            held = make_hosts(ADDRESSES)
            if kind == "tun":
                relay = join_by_tun(held, link)
            else:
                join_by_veth(held, link if kind == "netem" else None)
    except (NetworkFailed, OSError) as error:
        say(error=str(error))
        return
    say(namespaces={host: f"/proc/{os.getpid()}/fd/{namespace}" for host, namespace in held.items()})

    def answer() -> bool:
        asked = bool(os.read(CONTROL, 1))
        if asked:
            say(**(relay.use if relay else {}))
        return asked

    try:
        if relay:
            be_prompt()
            relay.run(CONTROL, answer)
        else:
            while answer():
                pass
    finally:
        namespaces.kill_all_in(held.values())


if __name__ == "__main__":
    keep(sys.argv[1], Link(**json.loads(sys.argv[2])))
