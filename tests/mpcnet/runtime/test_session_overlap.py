"""While a server computes one stream, the frames of the others are on their way; on invented time."""

import asyncio
import threading
from dataclasses import replace

import pytest
from bundles import HEAVY, Bundle, InventedTime, Shape, in_invented_time, peers, replaced, serve
from limits import LIMIT_S

from mpcnet.transport.latency import Link, ShapedChannel


def timed(streams: int, rounds: int, delay_s: float, step_s: float = 0.0) -> tuple[float, float, float]:
    """A bundle over a link with this one-way delay, where each step of server0's takes so long, and server1's no time:
    seconds in all, and those in which server0 waited and computed, of all streams together."""
    found: list[float] = []

    async def main(loop: InventedTime) -> None:
        def step(sequence: int) -> None:
            loop.now_s += step_s

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds or 1e-5)

        quick = [Shape(rounds, dealt=0)] * streams
        bundles = [Bundle(*(replace(shape, step=step) for shape in quick)), Bundle(*quick)]
        link = Link(rtt_s=2 * delay_s)
        ends = [
            replaced(peer, ShapedChannel(peer.channel, link, clock=loop.time, sleep=sleep))
            for peer in peers("server0", "server1")
        ]
        start = loop.time()
        slow, _ = await asyncio.gather(*(serve(bundles[party], party, ends[party], loop.time) for party in (0, 1)))
        costs = [ledger.total() for _, ledger in slow]
        found.extend([loop.time() - start, sum(cost.wait_s for cost in costs), sum(cost.compute_s for cost in costs)])

    in_invented_time(main)
    seconds, wait_s, compute_s = found
    return seconds, wait_s, compute_s


@pytest.mark.parametrize("streams", [1, 4])
def test_flights_of_streams_overlap(streams: int) -> None:
    """R rounds take R delays, however many streams there are; each of them waits for all of that time."""
    seconds, wait_s, compute_s = timed(streams, rounds=10, delay_s=0.1)
    assert seconds == pytest.approx(10 * 0.1, rel=0.02)
    assert wait_s == pytest.approx(streams * seconds, rel=0.02)
    assert compute_s == 0.0


def test_a_stream_computes_while_the_others_are_in_flight() -> None:
    """Steps of four streams, 50 ms each, hide a delay of 100 ms; one stream alone waits for it."""
    seconds, _, compute_s = timed(4, rounds=10, delay_s=0.1, step_s=0.05)
    assert compute_s == pytest.approx(4 * 11 * 0.05)
    assert seconds - compute_s < 0.35  # the first flights and the last
    _, alone_wait_s, alone_compute_s = timed(1, rounds=10, delay_s=0.1, step_s=0.05)
    assert alone_compute_s == pytest.approx(11 * 0.05)
    assert alone_wait_s > 10 * 0.05


async def test_frames_move_while_a_heavy_step_computes() -> None:
    """server0 receives the frame of its first stream in mid-step of the second."""
    ends, moved = peers("server0", "server1"), threading.Event()
    quick = Bundle(Shape(1, dealt=0), Shape(1, HEAVY, dealt=0))

    def step(sequence: int) -> None:
        assert moved.wait(LIMIT_S)

    slow = Bundle(quick.shapes[0], replace(quick.shapes[1], step=step))
    running = asyncio.gather(serve(slow, 0, ends[0]), serve(quick, 1, ends[1]))
    async with asyncio.timeout(LIMIT_S):
        while not ends[0].channel.received_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        moved.set()
        await running


async def test_a_stream_computes_while_a_large_frame_of_another_is_sent() -> None:
    ends, begun = peers("server0", "server1", high_water=1), asyncio.Event()
    shapes = Shape(1, HEAVY, dealt=0), Shape(1, dealt=0, step=lambda sequence: begun.set())
    running = asyncio.ensure_future(serve(Bundle(*shapes), 0, ends[0]))
    async with asyncio.timeout(LIMIT_S):
        await begun.wait()  # nobody reads
        assert not running.done()
        await asyncio.gather(running, serve(Bundle(*shapes), 1, ends[1]))
