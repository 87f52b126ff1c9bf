"""The link's arithmetic, and the channel around it, on an invented clock."""

import asyncio
import time
from itertools import pairwise
from math import inf

import pytest

from mpcnet.errors import LocalConfigError, RemoteAbort, RemoteProtocolError
from mpcnet.rounds import Part
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.latency import SPIN_S, Lane, Link, ShapedChannel, parse_link, shaped
from mpcnet.transport.wire import Header, encode

LINK = Link(rtt_s=0.040, bandwidth_bps=8e6)  # 1 MB/s: a byte is a microsecond


class Clock:
    """Time that passes only while somebody sleeps; concurrent sleepers wake in order."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds or 1e-5
        await asyncio.sleep(0)


def frame(nbytes: int) -> Header:
    return Header("round", bytes(16), label="x", parts=(Part(8, (nbytes,)),))


async def swallow(channel) -> Header:
    return await channel.receive(lambda header: memoryview(bytearray(header.payload_bytes)))


def test_one_frame_takes_serialisation_and_half_the_round_trip() -> None:
    assert LINK.arrival(Lane(), 5.0, 1000).arrival_s == pytest.approx(5.0 + 0.001 + 0.020)


def test_flights_overlap_serialisation_does_not() -> None:
    lane, arrivals = Lane(), []
    for _ in range(3):
        lane = LINK.arrival(lane, 5.0, 10_000)
        arrivals.append(lane.arrival_s)
    assert arrivals == pytest.approx([5.030, 5.040, 5.050])
    assert LINK.arrival(lane, 9.0, 10_000).arrival_s == pytest.approx(9.030)  # an idle lane owes nothing


def test_jitter_is_bounded_repeatable_and_keeps_the_order() -> None:
    def run(seed: int) -> list[float]:
        lane, arrivals = Lane(), []
        for index in range(200):
            lane = Link(rtt_s=0.02, jitter_s=0.005, seed=seed).arrival(lane, index * 1e-4, 10)
            arrivals.append(lane.arrival_s)
        return arrivals

    assert run(1) == run(1) != run(2)
    assert all(a <= b for a, b in pairwise(run(1)))
    spread = [Link(jitter_s=0.005, seed=3).arrival(Lane(frames=i), 0.0, 0).arrival_s for i in range(500)]
    assert 0 <= min(spread) < 0.0005 and 0.0045 < max(spread) < 0.005


def test_ideal_link_delays_nothing() -> None:
    assert Link().arrival(Lane(), 7.0, 10**9).arrival_s == 7.0


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("none", Link()),
        ("lan", Link(0.001, 1e9)),
        ("wan", Link(0.040, 1e8)),
        ("rtt=40ms,bw=100mbps", Link(0.040, 1e8)),
        ("rtt=0.5s,bw=2.5gbps,jitter=200us,seed=9", Link(0.5, 2.5e9, 0.0002, 9)),
        ("jitter=2ms", Link(0.0, inf, 0.002)),
    ],
)
def test_parse(text: str, link: Link) -> None:
    got = parse_link(text)
    assert (got.rtt_s, got.bandwidth_bps, got.jitter_s) == pytest.approx(
        (link.rtt_s, link.bandwidth_bps, link.jitter_s)
    )
    assert got.seed == link.seed


@pytest.mark.parametrize(
    "text", ["", "fast", "rtt=40", "rtt=-1ms", "bw=0mbps", "bw=1mb", "rtt=1ms,rtt=2ms", "seed=x", "rtt=1e3ms"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(LocalConfigError):
        parse_link(text)


async def test_delivery_at_the_arrival_time_and_counts_without_stamps() -> None:
    clock = Clock()
    ends = [ShapedChannel(end, LINK, clock=clock, sleep=clock.sleep) for end in memory_pair("server0", "server1")]
    header = frame(1000)
    started = clock.now_s
    await ends[0].send(header, memoryview(bytes(1000)))
    assert clock.now_s == started  # the sender is not held up
    assert await swallow(ends[1]) == header
    size = len(encode(header)) + 1000
    assert clock.now_s - started == pytest.approx(0.020 + size * 1e-6, abs=1e-4)
    coarse, *fine = (
        clock.sleeps
    )  # a timer is late by up to a millisecond: it ends before the mark, and yields lead there
    assert coarse == pytest.approx(0.020 + size * 1e-6 - SPIN_S) and set(fine) == {0}
    assert ends[0].sent_bytes == ends[1].received_bytes == size


async def test_time_already_spent_counts() -> None:
    clock = Clock()
    ends = [ShapedChannel(end, LINK, clock=clock, sleep=clock.sleep) for end in memory_pair("server0", "server1")]
    await ends[0].send(frame(0))
    clock.now_s += 0.5  # the receiver computed meanwhile
    before = clock.now_s
    await swallow(ends[1])
    assert clock.now_s == before and not clock.sleeps


async def test_frames_in_flight_overlap() -> None:
    clock = Clock()
    ends = [ShapedChannel(end, LINK, clock=clock, sleep=clock.sleep) for end in memory_pair("server0", "server1")]
    started = clock.now_s
    for _ in range(10):
        await ends[0].send(frame(0))
    for _ in range(10):
        await swallow(ends[1])
    assert clock.now_s - started < 0.025


async def test_the_other_end_must_be_shaped_and_share_the_clock() -> None:
    a, b = memory_pair("server0", "server1")
    await a.send(frame(0))
    with pytest.raises(RemoteProtocolError, match="no stamp"):
        await swallow(ShapedChannel(b, LINK))
    a, b = memory_pair("server0", "server1")
    await ShapedChannel(a, LINK, clock=lambda: 50.0).send(frame(0))
    with pytest.raises(RemoteProtocolError, match="clock"):
        await swallow(ShapedChannel(b, LINK, clock=lambda: 40.0))


async def test_abort_passes_and_an_ideal_link_is_no_wrapper() -> None:
    a, b = memory_pair("server0", "server1")
    assert shaped(a, Link()) is a
    ends = shaped(a, LINK), shaped(b, LINK)
    ends[0].abort("enough")
    with pytest.raises(RemoteAbort, match="enough"):
        await swallow(ends[1])


async def test_on_the_real_clock_nothing_arrives_early() -> None:
    """The one test here on real time; how late a frame is depends on what else the machine does."""
    a, b = (ShapedChannel(end, Link(rtt_s=0.040)) for end in memory_pair("server0", "server1"))
    for _ in range(3):
        started = time.monotonic()
        await a.send(frame(0))
        await swallow(b)
        assert time.monotonic() - started >= 0.020
