"""Several streams over the same channels: values, costs, order, overlap, and every way in which a run can end."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from bundles import (
    GUARD_S,
    HEAVY,
    Bundle,
    InventedTime,
    Shape,
    Trio,
    check,
    in_invented_time,
    nothing_left,
    peers,
    replaced,
    wire,
)
from checks import few
from hypothesis import given
from hypothesis import strategies as st

from mpcnet.channel import Channel
from mpcnet.errors import ChannelClosed, RemoteAbort, RemoteProtocolError
from mpcnet.latency import Link, ShapedChannel
from mpcnet.mesh import Peer
from mpcnet.session import run_dealer, run_streams
from mpcnet.stock import Intake, Stock
from mpcnet.stream import DEAL, DEALT, ROUND
from mpcnet.wire import Header

UNEQUAL = (Shape(4), Shape(2, HEAVY), Shape(0), Shape(6, dealt=3), Shape(3, dealt=0))


def stock_without_dealer(bundle: Bundle, party: int) -> Stock:
    """For programs for which nothing is dealt."""
    _, dealer = peers("dealer", f"server{party}")
    return Intake(dealer, party, 0, 1.0).expect(bundle.streams)


async def serve(bundle: Bundle, party: int, peer: Peer, clock: Callable[[], float] = lambda: 0.0) -> list[Any]:
    programs, sources = bundle.servers(party)
    return await run_streams(programs, sources, bundle.streams, peer, stock_without_dealer(bundle, party), clock)


# --- values, costs, order -------------------------------------------------------------------------------------


async def single(shapes: tuple[Shape, ...]) -> list[torch.Tensor]:
    """The same streams, one after the other."""
    bundles = [Bundle(shape, first=1 + index) for index, shape in enumerate(shapes)]
    return [check(await Trio().run(bundle), bundle)[0] for bundle in bundles]


@pytest.mark.parametrize("limit_bytes", [0, 100, 1 << 30])
@pytest.mark.parametrize("shapes", [(Shape(5),), (Shape(3, HEAVY),), (Shape(4), Shape(4), Shape(4)), UNEQUAL], ids=len)
async def test_streams_give_what_single_runs_give(shapes: tuple[Shape, ...], limit_bytes: int) -> None:
    bundle = Bundle(*shapes)
    values = check(await Trio(limit_bytes).run(bundle), bundle)
    assert all(torch.equal(a, b) for a, b in zip(values, await single(shapes), strict=True))
    await nothing_left()


shape = st.builds(Shape, st.integers(0, 5), st.sampled_from([0, 1, 7]), st.integers(0, 3))


@few
@given(st.lists(st.lists(shape, min_size=1, max_size=4), min_size=1, max_size=3), st.integers(0, 300))
def test_any_bundles_under_any_limit(drawn: list[list[Shape]], limit_bytes: int) -> None:
    async def main() -> None:
        starts = [1 + 10 * index for index in range(len(drawn))]
        bundles = [Bundle(*shapes, first=first) for shapes, first in zip(drawn, starts, strict=True)]
        check(await Trio(limit_bytes).run(*bundles), *bundles)

    asyncio.run(main())


async def test_frames_keep_one_order_on_every_channel() -> None:
    bundle, trio = Bundle(Shape(2), Shape(0), Shape(3, HEAVY)), Trio()
    await trio.run(bundle)
    rounds = [(ROUND, 1, 0), (ROUND, 3, 0), (ROUND, 1, 1), (ROUND, 3, 1), (ROUND, 3, 2)]
    for peer in trio.servers:
        assert [(h.kind, h.stream, h.sequence) for h in wire(peer).sent] == rounds
    for party, peer in enumerate(trio.dealer):
        *frames, last = wire(peer).sent
        assert [(h.kind, h.stream, h.sequence) for h in frames] == [
            (DEAL, 1 + index, sequence)
            for index, sequence, corrections in bundle.corrections()
            if corrections[party]
        ]
        assert len(frames) < len(bundle.corrections())  # a segment without corrections has no frame
        assert (last.label, last.parts, last.fields) == (DEALT, (), {"seconds": 1.5})


async def test_dealer_returns_what_the_programs_return() -> None:
    bundle, trio = Bundle(Shape(1), Shape(3, HEAVY)), Trio()
    async with asyncio.timeout(GUARD_S):
        first, second, dealt = await asyncio.gather(*(trio.server(party, bundle) for party in (0, 1)), trio.deal(bundle))
    assert [value.shape for value in dealt] == [value.shape for value, _ in first] == [value.shape for value, _ in second]


# --- overlap --------------------------------------------------------------------------------------------------


def timed(streams: int, rounds: int, delay_s: float, step_s: float = 0.0) -> tuple[float, float, float]:
    """Seconds that a bundle takes over a link with this one-way delay; server0's waiting and computing, all streams."""
    found: list[float] = []

    async def main(loop: InventedTime) -> None:
        def step(sequence: int) -> None:
            loop.now_s += step_s / 2  # two servers on one clock

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds or 1e-5)

        bundle = Bundle(*[Shape(rounds, dealt=0) for _ in range(streams)])
        bundle.shapes = tuple(replace(shape, step=step) for shape in bundle.shapes)
        link = Link(rtt_s=2 * delay_s)
        ends = [
            replaced(peer, ShapedChannel(peer.channel, link, clock=loop.time, sleep=sleep))
            for peer in peers("server0", "server1")
        ]
        start = loop.time()
        done, _ = await asyncio.gather(*(serve(bundle, party, peer, loop.time) for party, peer in enumerate(ends)))
        costs = [ledger.total() for _, ledger in done]
        found.extend([loop.time() - start, sum(cost.wait_s for cost in costs), sum(cost.compute_s for cost in costs)])

    in_invented_time(main)
    seconds, wait_s, compute_s = found
    return seconds, wait_s, compute_s


@pytest.mark.parametrize("streams", [1, 4])
def test_flights_of_streams_overlap(streams: int) -> None:
    """R rounds take R delays, however many streams there are; and a delay is waited for once."""
    seconds, wait_s, compute_s = timed(streams, rounds=10, delay_s=0.1)
    assert seconds == pytest.approx(10 * 0.1, rel=0.02)
    assert wait_s == pytest.approx(seconds, rel=0.02)
    assert compute_s == 0.0


def test_a_stream_computes_while_the_others_are_in_flight() -> None:
    """Four steps of 50 ms hide a delay of 100 ms, which one stream alone would wait for."""
    alone_s, alone_wait_s, _ = timed(1, rounds=10, delay_s=0.1, step_s=0.05)
    seconds, wait_s, compute_s = timed(4, rounds=10, delay_s=0.1, step_s=0.05)
    assert alone_s == pytest.approx(10 * 0.1 + 11 * 0.05, rel=0.05)
    assert alone_wait_s == pytest.approx(10 * 0.1, rel=0.1)
    assert seconds == pytest.approx(4 * 11 * 0.05, rel=0.05)
    assert compute_s + wait_s == pytest.approx(seconds, rel=0.05)
    assert wait_s < 4 * 11 * 0.05 / 2 + 0.1


async def test_frames_move_while_a_heavy_step_computes() -> None:
    """server1's stream 2 sends its frame only when server0's stream 1 has been received, in mid-step of stream 2."""
    computing, moved = threading.Event(), threading.Event()

    def step(sequence: int) -> None:
        if sequence == 0 and threading.current_thread() is not threading.main_thread() and not computing.is_set():
            computing.set()
            assert moved.wait(GUARD_S)

    bundle = Bundle(Shape(1, dealt=0), Shape(1, HEAVY, dealt=0))
    slow = Bundle(*bundle.shapes)
    slow.shapes = (bundle.shapes[0], replace(bundle.shapes[1], step=step))
    ends = peers("server0", "server1")
    running = asyncio.gather(serve(slow, 0, ends[0]), serve(bundle, 1, ends[1]))
    async with asyncio.timeout(GUARD_S):
        while not (computing.is_set() and ends[0].channel.received_bytes):  # noqa: ASYNC110
            await asyncio.sleep(0)
        moved.set()
        await running


# --- refused, failed, cancelled -------------------------------------------------------------------------------

FORGED: dict[str, tuple[Callable[[Header], list[Header]], str]] = {
    "of another stream": (lambda h: [replace(h, stream=7)], "want stream 2, got 7"),
    "of another segment": (lambda h: [replace(h, sequence=h.sequence + 1)], "want sequence 1, got 2"),
    "of another program": (lambda h: [replace(h, chain=bytes(8))], "want transcript [0-9a-f]{16}, got 0{16}"),
    "of another session": (lambda h: [replace(h, session=bytes(16))], "want session ours, got another"),
    "longer": (lambda h: [replace(h, parts=h.parts * 2)], "want 1 parts of 24 bytes"),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_frame_that_is_not_planned_is_refused_with_its_place(what: str) -> None:
    forge, words = FORGED[what]
    bundle, ends = Bundle(*[Shape(3, dealt=0)] * 3), peers("server0", "server1")

    def change(header: Header) -> list[Header]:
        return forge(header) if (header.stream, header.sequence) == (2, 1) else [header]

    wire(ends[1]).change = change
    other = asyncio.ensure_future(serve(bundle, 1, ends[1]))
    with pytest.raises((RemoteProtocolError, Exception)) as caught:
        wire(ends[1]).inner.send = padded(wire(ends[1]).inner.send)  # type: ignore[method-assign]
        await serve(bundle, 0, ends[0])
    assert isinstance(caught.value, RemoteProtocolError)
    assert caught.match(rf"stream 2, segment 1 \(op1\): server1: {words}")
    other.cancel()
    await asyncio.wait([other])
    await nothing_left()


def padded(send: Any) -> Any:
    """Payloads as long as a forged header says."""

    async def sending(header: Header, *payload: memoryview) -> None:
        await send(header, memoryview(b"".join(payload).ljust(header.payload_bytes, b"\0")))

    return sending
