"""Several streams over the same channels: values, costs, order, overlap, and every way in which a run can end."""

import asyncio
import gc
import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from bundles import (
    HEAVY,
    LIGHT,
    Bundle,
    Shape,
    Trio,
    check,
    nothing_left,
    peers,
    serve,
    wire,
)
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from limits import LIMIT_S

from mpcnet.errors import ChannelClosed, RemoteAbort, RemoteProtocolError
from mpcnet.randomness.source import Tape
from mpcnet.rounds import Part
from mpcnet.runtime.dealing import run_dealer
from mpcnet.runtime.session import run_streams
from mpcnet.runtime.stream import DEAL, DEALT, ROUND
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

UNEQUAL = (Shape(4), Shape(2, HEAVY), Shape(0), Shape(6, dealt=3), Shape(3, dealt=0))


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


async def test_frames_keep_the_order_of_their_stream_and_those_of_the_dealer_one_order() -> None:
    bundle, trio = Bundle(Shape(2), Shape(0), Shape(3, HEAVY)), Trio()
    await trio.run(bundle)
    for peer in trio.servers:
        sent = [(h.kind, h.stream, h.sequence) for h in wire(peer).sent]
        assert [row for row in sent if row[1] == 1] == [(ROUND, 1, 0), (ROUND, 1, 1)]
        assert [row for row in sent if row[1] != 1] == [(ROUND, 3, 0), (ROUND, 3, 1), (ROUND, 3, 2)]
    for party, peer in enumerate(trio.dealer):
        *frames, last = wire(peer).sent
        assert [(h.kind, h.stream, h.sequence) for h in frames] == [
            (DEAL, 1 + index, sequence) for index, sequence, corrections in bundle.corrections() if corrections[party]
        ]
        assert len(frames) < len(bundle.corrections())  # a segment without corrections has no frame
        assert (last.label, last.parts, last.fields) == (DEALT, (), {"seconds": 1.5})


async def test_dealer_returns_what_the_programs_return() -> None:
    bundle, trio = Bundle(Shape(1), Shape(3, HEAVY)), Trio()
    async with asyncio.timeout(LIMIT_S):
        first, second, dealt = await asyncio.gather(
            *(trio.server(party, bundle) for party in (0, 1)), trio.deal(bundle)
        )
    assert (
        [value.shape for value in dealt] == [value.shape for value, _ in first] == [value.shape for value, _ in second]
    )


# --- refused, failed, cancelled -------------------------------------------------------------------------------

FORGED: dict[str, tuple[Callable[[Header], list[Header]], str]] = {
    "of another stream": (lambda h: [replace(h, stream=7)], "stream 2, got 7"),
    "of another segment": (lambda h: [replace(h, sequence=2)], "sequence 1, got 2"),
    "of another program": (lambda h: [replace(h, chain=bytes(8))], "transcript [0-9a-f]{16}, got 0{16}"),
    "of another session": (lambda h: [replace(h, session=bytes(16))], "session ours, got another"),
    "of another kind": (lambda h: [replace(h, kind=DEAL)], "kind round, got deal"),
    "of another shape": (lambda h: [replace(h, parts=(Part(8, (24,)),))], "1 parts of 24 bytes .*, got 1 parts of 24"),
    "lost": (lambda h: [], "sequence 1, got 2"),
}


async def refused(change: Callable[[Header], list[Header]]) -> str:
    """What server0 says of server1's frames after this change, in the second of three streams, segment 1."""
    bundle, ends = Bundle(*[Shape(3, dealt=0)] * 3), peers("server0", "server1")
    wire(ends[1]).change = lambda header: change(header) if (header.stream, header.sequence) == (2, 1) else [header]
    other = asyncio.ensure_future(serve(bundle, 1, ends[1]))
    with pytest.raises(RemoteProtocolError) as caught:
        await serve(bundle, 0, ends[0])
    other.cancel()
    await asyncio.wait([other])
    await nothing_left()
    return str(caught.value)


@pytest.mark.parametrize("what", FORGED)
async def test_a_frame_that_is_not_planned_is_refused_with_its_place(what: str) -> None:
    forge, words = FORGED[what]
    assert re.fullmatch(rf"stream 2, segment 1 \(op1\): server1: want {words}.*", await refused(forge))


async def test_a_repeated_frame_is_refused_in_the_place_of_the_next() -> None:
    line = await refused(lambda header: [header, header])
    assert line == "stream 2, segment 2 (op2): server1: want sequence 2, got 1"


@dataclass(slots=True)
class Broken:
    """A buffer that fails, or keeps us waiting, from one segment on."""

    good: int
    error: Exception | None = None
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self, index: int) -> Tape:
        self.good -= 1
        if self.good < 0 and self.error is not None:
            raise self.error
        if self.good < 0:
            self.waits.set()
            await asyncio.Event().wait()
        return Tape()


def start(bundle: Bundle, peer: Peer, buffer: Broken) -> tuple[asyncio.Task[Any], list[Any]]:
    """server0 with this buffer, and its programs."""
    programs, sources = bundle.servers(0)
    running = run_streams(programs, sources, bundle.streams, peer, buffer, lambda: 0.0)  # type: ignore[arg-type]
    return asyncio.ensure_future(running), programs


def closed(programs: list[Any]) -> bool:
    return all(inspect.getcoroutinestate(program) == inspect.CORO_CLOSED for program in programs)


@pytest.mark.parametrize("good", [0, 2, 4])
async def test_when_the_buffer_fails_all_programs_are_closed(good: int) -> None:
    """Those that had begun, and those that had not; Python would warn of these."""
    bundle, ends = Bundle(*[Shape(3, dealt=0)] * 3), peers("server0", "server1")
    other = asyncio.ensure_future(serve(bundle, 1, ends[1]))
    running, programs = start(bundle, ends[0], Broken(good, ChannelClosed("dealer closed the channel")))
    with pytest.raises(ChannelClosed, match="dealer closed"):
        await running
    assert closed(programs)
    other.cancel()
    await asyncio.wait([other])
    await nothing_left()


@pytest.mark.parametrize("good", [0, 2, 4])
async def test_cancelled(good: int) -> None:
    bundle, ends, buffer = Bundle(*[Shape(3, dealt=0)] * 3), peers("server0", "server1"), Broken(good)
    other = asyncio.ensure_future(serve(bundle, 1, ends[1]))
    running, programs = start(bundle, ends[0], buffer)
    await buffer.waits.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed(programs)
    other.cancel()
    await asyncio.wait([other])
    await nothing_left()


async def test_cancelled_in_a_heavy_step_it_ends_with_the_step() -> None:
    ends, begun, on = peers("server0", "server1"), threading.Event(), threading.Event()

    def step(sequence: int) -> None:
        begun.set()
        assert on.wait(LIMIT_S)

    running, programs = start(Bundle(Shape(1, HEAVY, 0, step), Shape(1, dealt=0)), ends[0], Broken(9))
    assert await asyncio.to_thread(begun.wait, LIMIT_S)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed(programs)
    await nothing_left()


async def test_a_peer_that_gives_up_is_noticed_while_the_dealer_is_waited_for() -> None:
    bundle, ends, buffer = Bundle(Shape(3, dealt=0), Shape(3, dealt=0)), peers("server0", "server1"), Broken(1)
    running, programs = start(bundle, ends[0], buffer)
    await buffer.waits.wait()
    ends[1].channel.abort("out of memory")
    with pytest.raises(RemoteAbort, match="server1 aborted: out of memory"):
        await running
    assert closed(programs)
    await nothing_left()


async def test_a_program_that_is_not_the_planned_one() -> None:
    for shape in (Shape(2, dealt=0), Shape(4, dealt=0), Shape(3, 4, 0)):
        bundle, ends = Bundle(Shape(3, dealt=0)), peers("server0", "server1")
        other = asyncio.ensure_future(serve(bundle, 1, ends[1]))
        bundle.shapes = (shape,)
        with pytest.raises(AssertionError, match="planned"):
            await serve(bundle, 0, ends[0])
        other.cancel()
        await asyncio.wait([other])


# --- the dealer's side ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [LIGHT, HEAVY])
async def test_dealer_whose_server_is_gone(words: int) -> None:
    bundle, trio = Bundle(Shape(9, words), Shape(9, words)), Trio()
    dealings = bundle.dealings()
    running = asyncio.ensure_future(run_dealer(dealings, bundle.streams, trio.dealer, dict))
    _, buffers = zip(*[(i.run, i.expect(bundle.streams)) for i in trio.receivers], strict=True)
    receiving = [asyncio.ensure_future(receiver.run()) for receiver in trio.receivers]
    await buffers[1].next(0)
    wire(trio.dealer[1]).inner.abort("the server is gone")
    with pytest.raises(ChannelClosed, match=r"stream [12], segment \d \(op\d\): channel to server1: aborted here"):
        await running
    assert all(inspect.getgeneratorstate(dealing) == inspect.GEN_CLOSED for dealing in dealings)
    for task in receiving:
        task.cancel()
    await asyncio.wait(receiving)
    await nothing_left()


def test_a_dealing_that_never_starts_leaves_no_coroutine(recwarn: pytest.WarningsRecorder) -> None:
    for dealing in Bundle(Shape(2)).dealings():
        dealing.close()
    gc.collect()
    assert not recwarn.list


async def test_dealer_whose_program_is_not_the_planned_one() -> None:
    for shape, words in ((Shape(1), "ends before"), (Shape(3), "goes on"), (Shape(2, 4), "otherwise")):
        bundle, trio = Bundle(Shape(2)), Trio()
        bundle.shapes = (shape,)
        for receiver in trio.receivers:
            receiver.expect(bundle.streams)
        receiving = [asyncio.ensure_future(receiver.run()) for receiver in trio.receivers]
        with pytest.raises(AssertionError, match=words):
            await run_dealer(bundle.dealings(), bundle.streams, trio.dealer, dict)
        for task in receiving:
            task.cancel()
        await asyncio.wait(receiving)
