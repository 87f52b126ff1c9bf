"""The relay without a device: what a train weighs, when it arrives, when it is dropped, where it goes."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from math import inf

import pytest
from limits import LIMIT_S

from mpcnet.launch.netem.namespace_supervisor import netem_arguments
from mpcnet.launch.netem.tun import LEAST_BYTES, MOST_BYTES, VNET, Path, Relay, capacity_bytes, wire_bytes
from mpcnet.transport.latency import Link

LINK = Link(rtt_s=0.040, bandwidth_bps=8e6)  # 1 MB/s: a byte is a microsecond
A, B, C = (bytes([10, 77, 0, last]) for last in (1, 2, 3))


def packet(nbytes: int, target: bytes = B, mark: int = 0) -> bytes:
    """An IPv4 packet of this size, with the header of a packet that is not to be cut."""
    return VNET.pack(0, 0, 0, 0, 0, 0) + bytes(16) + target + bytes([mark]) * (nbytes - 20)


def train(payload: int, segment: int, options: int = 12) -> bytes:
    """TCP's payload still in one piece."""
    headers = bytes(20) + bytes(12) + struct.pack("B", (20 + options) // 4 << 4) + bytes(7 + options)
    return VNET.pack(1, 1, len(headers), segment, 20, 16) + headers + bytes(payload)


@pytest.mark.parametrize(("payload", "segments"), [(1448, 1), (1449, 2), (2896, 2), (60_000, 42)])
def test_each_segment_of_a_train_has_headers(payload: int, segments: int) -> None:
    assert wire_bytes(train(payload, 1448)) == payload + 52 * segments
    assert wire_bytes(train(payload, 1448, options=0)) == payload + 40 * segments


def test_a_packet_weighs_what_it_is() -> None:
    assert wire_bytes(packet(84)) == 84


def test_arrival_is_serialisation_and_half_the_round_trip() -> None:
    path = Path(LINK)
    assert path.next_s == inf and not list(path.due(1e9))
    assert path.offer(5.0, packet(1000)) and path.offer(5.0, packet(500))
    assert path.next_s == pytest.approx(5.021)
    assert not list(path.due(5.0209))
    assert [len(each) for each in path.due(5.0211)] == [VNET.size + 1000]
    assert path.next_s == pytest.approx(5.0215)  # it waited for the first
    assert len(list(path.due(5.0216))) == 1 and path.next_s == inf
    assert path.offer(9.0, packet(1000)) and path.next_s == pytest.approx(9.021)  # an idle path owes nothing


def test_a_full_path_drops_and_forgets_what_it_dropped() -> None:
    path, size = Path(LINK), 1000
    fits = LEAST_BYTES // size
    assert capacity_bytes(LINK) == LEAST_BYTES
    assert [path.offer(0.0, packet(size)) for _ in range(fits + 3)] == [True] * fits + [False] * 3
    arrived_s = 0.0211
    assert len(list(path.due(arrived_s))) == 1
    assert path.offer(arrived_s, packet(size)) and not path.offer(arrived_s, packet(size))
    assert len(list(path.due(1e9))) == fits
    path.offer(0.0, packet(size))
    assert path.next_s == pytest.approx((fits + 2) * 0.001 + 0.020)  # the dropped ones took none of the link's time


def test_an_empty_path_takes_anything() -> None:
    path = Path(Link(rtt_s=0.001, bandwidth_bps=1e3))
    assert path.offer(0.0, train(65_000, 10)) and not path.offer(0.0, packet(20))


@pytest.mark.parametrize(
    ("link", "nbytes"),
    [
        (Link(0.040, 1e8), 750_000),  # half a round trip in flight, and one of buffer
        (Link(0.001, 1e9), 2_562_500),  # 20 ms of buffer
        (Link(0.001, 1e9, 0.010), 3_812_500),
        (Link(0.040, 1e6), LEAST_BYTES),
        (Link(0.200, 1e12), MOST_BYTES),
        (Link(), MOST_BYTES),
    ],
)
def test_capacity(link: Link, nbytes: int) -> None:
    assert capacity_bytes(link) == nbytes


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (Link(0.040, 1e8), "limit 500 delay 20000.000us rate 100000000bit"),
        (Link(0.001), "limit 44740 delay 500.000us"),
        (Link(0.0, 1e9), "limit 1667 rate 1000000000bit"),
        (Link(0.040, 1e8, 0.002), "limit 517 delay 21000.000us 1000.000us rate 100000000bit"),
    ],
)
def test_the_link_in_words_of_netem(link: Link, words: str) -> None:
    assert netem_arguments(link) == words


@contextlib.contextmanager
def hosts(link: Link) -> Iterator[tuple[Relay, dict[bytes, socket.socket]]]:
    """A relay between three sockets in place of devices, in a thread of its own."""
    pairs = {address: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for address in (A, B, C)}
    for inner, outer in pairs.values():
        inner.setblocking(False)
        outer.settimeout(LIMIT_S)
    relay = Relay({address: inner.fileno() for address, (inner, _) in pairs.items()}, link)
    control, stop = os.pipe()
    thread = threading.Thread(target=relay.run, args=(control, lambda: bool(os.read(control, 1))))
    thread.start()
    try:
        yield relay, {address: outer for address, (_, outer) in pairs.items()}
    finally:
        os.close(stop)
        thread.join(LIMIT_S)
        os.close(control)
        for pair in pairs.values():
            for end in pair:
                end.close()
        assert not thread.is_alive()


def test_packets_go_where_their_header_says_in_order() -> None:
    with hosts(Link(rtt_s=0.002, bandwidth_bps=1e9)) as (relay, ends):
        sent = [packet(100, (B, C)[mark % 2], mark) for mark in range(40)]
        for each in sent:
            ends[A].send(each)
        assert [ends[B].recv(200) for _ in range(20)] == sent[::2]
        assert [ends[C].recv(200) for _ in range(20)] == sent[1::2]
        ends[C].send(packet(50, A))
        assert ends[A].recv(200) == packet(50, A)
        assert relay.use["trains"] == 41 and relay.use["dropped"] == 0


def test_packets_for_nobody_go_nowhere() -> None:
    with hosts(Link()) as (relay, ends):
        for target in (A, bytes([8, 8, 8, 8]), B):  # itself, a stranger, a host
            ends[A].send(packet(60, target))
        ends[A].send(b"too short for a header")
        ends[A].send(packet(61))
        assert [len(ends[B].recv(200)) - VNET.size for _ in range(2)] == [60, 61]
        assert relay.use["trains"] == 2
