"""The relay: carries packets between the hosts' TUN devices, each delayed and paced as the link says.

Real kernel TCP on both ends, and no kernel module. Each ordered pair of hosts has its own :class:`Path`, so the model
holds as it is: a pair's bandwidth each way, whatever the other pairs do.

The devices have the usual MTU of 1500 bytes, so TCP's window, its start and its losses are those of a real network.
What would make that dear is two system calls a packet; instead the devices offer segmentation offload, as network
cards do. The kernel then hands over up to 64 KiB of segments at once, with a header that says how to cut them, and the
receiving kernel takes them as they are. A full direction of 1 Gbit/s takes a quarter of a core, without offload a whole
one. The relay counts the bytes that the cut segments would have, headers included (IP's, not Ethernet's), so TCP's
payload gets 96.5 % of the bandwidth; it delivers the train when its last byte would be there.

What differs from the model: waking the relay and the receiver adds 0.02 to 0.1 ms each way.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import inf

from mpcnet.transport.latency import Lane, Link

VNET = struct.Struct("=BBHHHH")  # virtio_net_hdr: flags, gso type, header length, gso size, checksum start and offset
TRAIN = VNET.size + 65535
DESTINATION = slice(VNET.size + 16, VNET.size + 20)  # of an IPv4 header

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 0x01, 0x02

BATCH = 16  # trains read from one device before what is due is delivered
SPIN_S = 50e-6  # a sleeper wakes up to this much late; so it sleeps short of the mark and polls until it
LEAST_WAIT_S = 0.020  # a router's buffer, in time at full rate, where the round trip is shorter
LEAST_BYTES = 2 * 65536  # two trains, on any link
MOST_BYTES = 64 << 20


def capacity_bytes(link: Link) -> int:
    """Most bytes on one path: what flies, and in front of it a router's buffer of one bandwidth-delay product.

    A packet that finds the path full is dropped, as by a router whose buffer is full; TCP slows down then.
    """
    if link.bandwidth_bps == inf:
        return MOST_BYTES
    seconds = link.rtt_s / 2 + link.jitter_s + max(link.rtt_s, LEAST_WAIT_S)
    return int(min(MOST_BYTES, max(LEAST_BYTES, link.bandwidth_bps / 8 * seconds)))


def wire_bytes(train: bytes) -> int:
    """IP bytes on the wire, headers included, of a packet or a train of TCP segments that is still to be cut."""
    _, kind, _, segment, tcp, _ = VNET.unpack_from(train)
    size = len(train) - VNET.size
    if not kind:
        return size
    headers = tcp + (train[VNET.size + tcp + 12] >> 4) * 4
    segments = -(-(size - headers) // segment)
    return int(size + (segments - 1) * headers)


class Path:
    """One direction between two hosts: what is on its way, in order. Pure: time is an argument."""

    def __init__(self, link: Link) -> None:
        self.next_s = inf  # when the first one arrives
        self._link, self._capacity = link, capacity_bytes(link)
        self._lane, self._bytes = Lane(), 0
        self._queue: deque[tuple[float, int, bytes]] = deque()

    def offer(self, now_s: float, train: bytes) -> bool:
        """Take a packet on its way; False if it is dropped."""
        nbytes = wire_bytes(train)
        if self._queue and self._bytes + nbytes > self._capacity:
            return False
        self._lane = self._link.arrival(self._lane, now_s, nbytes)
        self._queue.append((self._lane.arrival_s, nbytes, train))
        self._bytes += nbytes
        self.next_s = self._queue[0][0]
        return True

    def due(self, now_s: float) -> Iterator[bytes]:
        """What has arrived by now, the first first."""
        while self.next_s <= now_s:
            _, nbytes, train = self._queue.popleft()
            self._bytes -= nbytes
            self.next_s = self._queue[0][0] if self._queue else inf
            yield train


@dataclass(slots=True)
class Use:
    """What a relay has done. `cpu_s` holds the receiving kernel's work too, which is done in the relay's writes."""

    cpu_s: float = 0.0
    trains: int = 0
    dropped: int = 0


def open_device(name: str) -> int:
    """A TUN device in the calling thread's namespace. It is there until the file is closed."""
    device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    return device


class Relay:
    """Between all pairs of `devices`: a host's packed IPv4 address, and its TUN device."""

    def __init__(self, devices: Mapping[bytes, int], link: Link) -> None:
        self._paths = {
            source: {address: Path(link) for address, target in devices.items() if target != source}
            for source in devices.values()
        }
        self._targets = [(path, devices[address]) for paths in self._paths.values() for address, path in paths.items()]
        self._before_s = time.process_time()
        self._use = Use()

    @property
    def use(self) -> dict[str, float]:
        """The fields of :class:`Use`, until now."""
        self._use.cpu_s = time.process_time() - self._before_s
        return asdict(self._use)

    def run(self, control: int, on_control: Callable[[], bool]) -> None:
        """Carry packets until `on_control`, called when `control` can be read, returns False."""
        sources = [control, *self._paths]
        while True:
            wait_s = min(path.next_s for path, _ in self._targets) - time.monotonic() - SPIN_S
            ready, _, _ = select.select(sources, (), (), None if wait_s == inf else max(0.0, wait_s))
            if control in ready and not on_control():
                return
            for source in ready:
                if source != control:
                    self._take(source)
            self._deliver()

    def _take(self, source: int) -> None:
        paths = self._paths[source]
        for _ in range(BATCH):
            try:
                train = os.read(source, TRAIN)
            except BlockingIOError:
                return
            path = paths.get(train[DESTINATION])
            if path is not None and not path.offer(time.monotonic(), train):
                self._use.dropped += 1

    def _deliver(self) -> None:
        for path, target in self._targets:
            for train in path.due(time.monotonic()):
                self._use.trains += 1
                try:
                    os.write(target, train)
                except OSError:  # the kernel's own queue is full
                    self._use.dropped += 1
