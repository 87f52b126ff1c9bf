"""Run programs over channels: both servers' side of several streams at once, and the dealer's side.

Streams take turns (`mpcnet.stream.turns`): while a server computes one, the frames of the others are on their way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from mpcnet import ring
from mpcnet.channel import CONTROL
from mpcnet.dealer import Corrections
from mpcnet.ledger import Ledger
from mpcnet.mesh import Peer
from mpcnet.meter import Segment
from mpcnet.randomness import ServerSource, Tape
from mpcnet.rounds import Done, Exchange, Program, advance
from mpcnet.stock import Stock
from mpcnet.stream import DEAL, DEALT, HEAVY_BYTES, ROUND, Awaited, Stream, nbytes, turns
from mpcnet.threads import in_thread
from mpcnet.wire import Header, Scalar

T = TypeVar("T")
Clock = Callable[[], float]


@asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first failure itself, not a group of failures."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__


class _Lane:
    """Our frames to one peer, in order: one may be on its way while the next is made."""

    def __init__(self, peer: Peer, tasks: asyncio.TaskGroup) -> None:
        self.peer, self._tasks = peer, tasks
        self._sending: asyncio.Task[None] | None = None

    async def send(self, stream: Stream, header: Header, payload: Sequence[ring.Bytes]) -> None:
        """Returns when the frame before this one has left; a small frame is sent at once, without a task."""
        await self.sent()
        if header.payload_bytes > HEAVY_BYTES:
            self._sending = self._tasks.create_task(self._send(stream, header, payload))
        else:
            await self._send(stream, header, payload)

    async def sent(self) -> None:
        """Every frame has left."""
        if self._sending is not None:
            await self._sending
            self._sending = None

    async def _send(self, stream: Stream, header: Header, payload: Sequence[ring.Bytes]) -> None:
        with stream.at(header.sequence):
            await self.peer.channel.send(header, *(raw.data for raw in payload))


@dataclass(slots=True, repr=False, eq=False)
class _Run(Generic[T]):
    """One stream of a server, and where it stands between two turns."""

    program: Program[T]
    source: ServerSource
    stream: Stream
    ledger: Ledger = field(default_factory=Ledger)
    step: Exchange | Done[T] | None = None
    theirs: ring.Bytes | None = None
    arrival: asyncio.Task[None] | None = None  # ends when `theirs` is here
    heavy: bool = False  # the last exchange

    def work(self, segment: Segment, clock: Clock) -> list[ring.Bytes]:
        """Open the last exchange, compute up to the next, and pack that."""
        reply = self._open(clock) if isinstance(self.step, Exchange) else None
        start = clock()
        step = self.step = advance(self.program, reply)
        self.source.tape.finish()
        self.source.tape = Tape()  # the next one is far, if there are many streams
        exchange = step.parts if isinstance(step, Exchange) else ()
        if exchange != segment.exchange:
            raise AssertionError(f"segment {segment.label} ends with {exchange}, planned {segment.exchange}")
        packed = []
        if isinstance(step, Exchange):
            packed = [ring.pack(value, part.bits) for value, part in zip(step.mine, step.parts, strict=True)]
        self.ledger.of(segment.label).compute_s += clock() - start
        return packed

    def _open(self, clock: Clock) -> list[Tensor]:
        start = clock()
        step, payload = self.step, self.theirs
        assert isinstance(step, Exchange) and payload is not None
        self.step = self.theirs = None  # their memory is free before the next step needs its own
        opened, offset = [], 0
        for mine, part in zip(step.mine, step.parts, strict=True):
            theirs = ring.unpack(payload[offset : offset + part.nbytes], part)
            opened.append(ring.add_opened(mine, theirs, part.bits))
            offset += part.nbytes
            self.ledger.of(part.label).received_bytes += part.nbytes
        self.ledger.of(step.parts[0].label).compute_s += clock() - start
        return opened

    def book(self, segment: Segment, packed: Sequence[ring.Bytes]) -> None:
        """What a segment cost, but for time."""
        for receiver, parts in enumerate(segment.dealt):
            for part in parts:
                self.ledger.dealt(part, receiver)
        for index, (part, raw) in enumerate(zip(segment.exchange, packed, strict=True)):
            cost = self.ledger.of(part.label)
            cost.rounds += index == 0
            cost.sent_bytes += raw.nbytes


class _Servers:
    """Exchanges with the other server: its frames arrive in the order in which we send ours."""

    def __init__(self, peer: Peer, tasks: asyncio.TaskGroup) -> None:
        self._peer, self._tasks = peer, tasks
        self._lane = _Lane(peer, tasks)
        self._last: asyncio.Task[None] | None = None

    async def exchange(self, run: _Run[T], sequence: int, packed: Sequence[ring.Bytes]) -> None:
        """Send our half of a round; theirs is received meanwhile.

        The receiver comes first: then whoever is behind can always be read by who is ahead, and both get on.
        It does not come sooner, or its deadline would run while both of us wait for the dealer.
        """
        want = run.stream.header(ROUND, self._peer.session, sequence, run.stream.plan.segments[sequence].exchange)
        self._last = run.arrival = self._tasks.create_task(self._receive(self._last, run, want))
        await self._lane.send(run.stream, want, packed)

    async def _receive(self, last: asyncio.Task[None] | None, run: _Run[T], want: Header) -> None:
        if last is not None:
            await last
        awaited = Awaited(want, self._peer.name)
        with run.stream.at(want.sequence):
            await self._peer.channel.receive(awaited)
        run.theirs = awaited.payload


async def run_streams(
    programs: Sequence[Program[T]],
    sources: Sequence[ServerSource],
    streams: Sequence[Stream],
    peer: Peer,
    stock: Stock,
    clock: Clock,
) -> list[tuple[T, Ledger]]:
    """Run programs side by side as a computing server against `peer`; returns the result and the cost of each.

    :raises RemoteProtocolError: a frame of the peer or the dealer is not the one the plan wants.
    :raises ChannelError: the peer or the dealer is gone, or too slow.
    """
    runs = [_Run(*row) for row in zip(programs, sources, streams, strict=True)]
    try:
        async with _tasks() as tasks:
            servers = _Servers(peer, tasks)
            for index, sequence in turns(streams):
                await _turn(runs[index], index, sequence, servers, stock, clock)
    finally:
        for program in programs:
            if inspect.getcoroutinestate(program) != inspect.CORO_RUNNING:  # in a thread that nobody waited for
                program.close()
    return [(run.step.value, run.ledger) for run in runs if isinstance(run.step, Done)]


async def _turn(run: _Run[T], index: int, sequence: int, servers: _Servers, stock: Stock, clock: Clock) -> None:
    """One segment of one stream."""
    segment = run.stream.plan.segments[sequence]
    start = clock()
    if run.arrival is not None:
        await run.arrival
        arrived = clock()
        run.ledger.of(run.stream.plan.segments[sequence - 1].label).wait_s += arrived - start
        start = arrived
    run.source.tape = await stock.next(index)
    cost = run.ledger.of(segment.label)
    cost.wait_s += clock() - start
    heavy, run.heavy = run.heavy, nbytes(segment.exchange) > HEAVY_BYTES
    if heavy or run.heavy or nbytes(segment.dealt[run.source.party]) > HEAVY_BYTES:
        packed = await in_thread(run.work, segment, clock)
    else:
        packed = run.work(segment, clock)
    run.book(segment, packed)
    if segment.exchange:
        start = clock()
        await servers.exchange(run, sequence, packed)
        cost.wait_s += clock() - start


async def run_dealer(
    dealings: Sequence[Generator[Corrections, None, T]],
    streams: Sequence[Stream],
    peers: Sequence[Peer],
    facts: Callable[[], Mapping[str, Scalar]],
) -> list[T]:
    """Send the corrections of every segment to both servers, as fast as they take them; returns the programs' results.

    One segment is computed while that before it is sent. `facts` are public, and sent behind the last segment.

    :raises MpcError: a server is gone.
    """
    try:
        async with _tasks() as tasks:
            lanes = [_Lane(peer, tasks) for peer in peers]
            for index, sequence in turns(streams):
                await _deal(streams[index], sequence, await in_thread(_compute, dealings[index]), lanes)
            for lane in lanes:
                await lane.sent()
            fields = dict(facts())
            for lane in lanes:
                await lane.peer.channel.send(Header(CONTROL, lane.peer.session, label=DEALT, fields=fields))
        return [_result(dealing) for dealing in dealings]
    finally:
        for dealing in dealings:
            dealing.close()


def _compute(dealing: Generator[Corrections, None, Any]) -> Corrections:
    """The next segment's. StopIteration cannot leave a thread."""
    corrections = next(dealing, None)
    if corrections is None:
        raise AssertionError("the dealer's program ends before its plan")
    return corrections


async def _deal(stream: Stream, sequence: int, corrections: Corrections, lanes: Sequence[_Lane]) -> None:
    for lane, sent, parts in zip(lanes, corrections, stream.plan.segments[sequence].dealt, strict=True):
        if [correction.part for correction in sent] != list(parts):
            raise AssertionError(f"segment {sequence} deals otherwise than planned")
        if parts:
            header = stream.header(DEAL, lane.peer.session, sequence, parts)
            await lane.send(stream, header, [correction.payload for correction in sent])


def _result(dealing: Generator[Corrections, None, T]) -> T:
    try:
        next(dealing)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the dealer's program goes on after its plan has ended")
