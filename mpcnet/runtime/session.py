"""Run programs over channels: a server's side of several streams at once. The dealer's is in `mpcnet.runtime.dealing`.

The dealer deals for streams in turn (`mpcnet.runtime.stream.turns`). The servers let each go on at its own pace: while
one computes, another waits for its frame, which may be in flight for longer than many small steps take.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from mpcnet.aio.tasks import group
from mpcnet.aio.threads import in_thread
from mpcnet.arrays import ring
from mpcnet.errors import ChannelError, RemoteProtocolError
from mpcnet.ledger import Ledger
from mpcnet.randomness.meter import Segment
from mpcnet.randomness.source import ServerSource, Tape
from mpcnet.rounds import Done, Exchange, Program, advance
from mpcnet.runtime.correction_buffer import CorrectionBuffer
from mpcnet.runtime.record import Frames
from mpcnet.runtime.stream import HEAVY_BYTES, ROUND, Awaited, Stream, nbytes
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(slots=True, repr=False, eq=False)
class _Run(Generic[T]):
    """One stream of a server, and where it stands between two exchanges.

    The peer is at most two frames ahead of us: that of our last exchange, and, as it has our half of that, the next.
    """

    program: Program[T]
    source: ServerSource
    stream: Stream
    ledger: Ledger = field(default_factory=Ledger)
    step: Exchange | Done[T] | None = None
    waiting: bool = False  # for a frame that is not here
    heavy: bool = False  # the last exchange
    _inbox: deque[ring.Bytes] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _due: Iterator[int] = field(init=False)
    due: int | None = field(init=False)  # the segment whose frame comes next

    def __post_init__(self) -> None:
        self._due = (number for number, segment in enumerate(self.stream.plan.segments) if segment.exchange)
        self.due = next(self._due, None)

    @property
    def open(self) -> bool:
        """Another frame of the peer may come now."""
        return self.due is not None and len(self._inbox) < 2

    def deliver(self, payload: ring.Bytes) -> None:
        """The frame that was due is here."""
        self._inbox.append(payload)
        self.due = next(self._due, None)
        self.waiting = False
        self._arrived.set()

    def await_reply(self) -> None:
        """Our half is about to leave; theirs may be here already."""
        self.waiting = not self._inbox

    async def replied(self) -> None:
        """Wait for the reply to the last exchange."""
        while not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()

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
        step, payload = self.step, self._inbox.popleft()
        assert isinstance(step, Exchange)
        self.step = None  # its memory is free before the next step needs its own
        opened, offset = [], 0
        for mine, part in zip(step.mine, step.parts, strict=True):
            opened.append(ring.unpack_opened(mine, payload[offset : offset + part.nbytes], part))
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
    """Exchanges with the other server. A stream's frames come in order; which stream's comes next is the peer's choice.

    There is one reader, and only while somebody waits: then its deadline runs for frames that should come now, not
    while both servers wait for the dealer. It takes what comes for other streams too, so none holds up another.
    """

    def __init__(self, runs: Sequence[_Run[Any]], peer: Peer, tasks: asyncio.TaskGroup, watch: Frames | None) -> None:
        self._runs = {run.stream.number: run for run in runs}
        self._places = {run.stream.number: index for index, run in enumerate(runs)}
        self._watch = watch
        self._peer, self._tasks = peer, tasks
        self._reader: asyncio.Task[None] | None = None

    async def exchange(self, run: _Run[Any], sequence: int, packed: Sequence[ring.Bytes]) -> None:
        """Send our half of a round; theirs is received meanwhile."""
        header = self._header(run, sequence)
        run.await_reply()
        if run.waiting and (self._reader is None or self._reader.done()):
            self._reader = self._tasks.create_task(self._read())
        with run.stream.at(sequence):
            await self._peer.channel.send(header, *(raw.data for raw in packed))

    async def _read(self) -> None:
        while waiting := next((run for run in self._runs.values() if run.waiting), None):
            frame = _Frame(self, waiting)
            try:
                await self._peer.channel.receive(frame)
            except (ChannelError, RemoteProtocolError):
                with frame.run.stream.at(frame.run.due or 0):  # of the frame that came, or should have
                    raise
            due = frame.run.due
            assert due is not None
            frame.run.deliver(frame.awaited.payload)
            if self._watch is not None:
                await self._watch.received(self._places[frame.run.stream.number], due, frame.awaited.payload)

    def awaited(self, number: int, instead: _Run[Any]) -> tuple[_Run[Any], Awaited]:
        """The run of this stream and the frame that it may get now; of `instead`, if there is none."""
        run = self._runs.get(number, instead)
        run = run if run.open else instead
        assert run.due is not None
        return run, Awaited(self._header(run, run.due), self._peer.name)

    def _header(self, run: _Run[Any], sequence: int) -> Header:
        return run.stream.header(ROUND, self._peer.session, sequence, run.stream.plan.segments[sequence].exchange)


class _Frame:
    """An `Expect` for the next frame of any stream; of `waiting` if the header names none that is open."""

    def __init__(self, servers: _Servers, waiting: _Run[Any]) -> None:
        self._servers, self.run = servers, waiting
        self.awaited: Awaited

    def __call__(self, got: Header) -> memoryview:
        self.run, self.awaited = self._servers.awaited(got.stream, self.run)
        return self.awaited(got)


async def run_streams(
    programs: Sequence[Program[T]],
    sources: Sequence[ServerSource],
    streams: Sequence[Stream],
    peer: Peer,
    buffer: CorrectionBuffer,
    clock: Clock,
    watch: Frames | None = None,
) -> list[tuple[T, Ledger]]:
    """Run programs side by side as a computing server against `peer`; returns the result and the cost of each.

    `watch` is told the contents of every frame.

    Each goes on as soon as its own frames are here. Heavy steps take turns, since each has all of `torch`'s threads; a
    stream's `wait_s` is what it waits for the peer, the dealer, and the heavy steps of others.

    :raises RemoteProtocolError: a frame of the peer or the dealer is not the one the plan wants.
    :raises ChannelError: the peer or the dealer is gone, or too slow.
    """
    runs = [_Run(*row) for row in zip(programs, sources, streams, strict=True)]
    heavy = asyncio.Lock()
    try:
        async with group() as tasks:
            servers = _Servers(runs, peer, tasks, watch)
            drives = [_drive(run, index, servers, buffer, clock, heavy, watch) for index, run in enumerate(runs)]
            for drive in drives[1:]:
                tasks.create_task(drive)
            await drives[0]
    finally:
        for program in programs:
            if inspect.getcoroutinestate(program) != inspect.CORO_RUNNING:  # in a thread that nobody waited for
                program.close()
    return [(run.step.value, run.ledger) for run in runs if isinstance(run.step, Done)]


def compute_again(
    program: Program[T], source: ServerSource, stream: Stream, dealt: Callable[[int], ring.Bytes],
    received: Callable[[int], ring.Bytes], compare: Callable[[int, list[ring.Bytes]], None],
) -> T:  # fmt: skip
    """A stream once more, from what a server received, by segment; `compare` is told every frame that it sends.

    :raises RemoteProtocolError: the corrections are not those of the plan.
    """
    run: _Run[T] = _Run(program, source, stream)
    for sequence, segment in enumerate(stream.plan.segments):
        parts = segment.dealt[source.party]
        source.tape = Tape(parts, dealt(sequence)) if parts else Tape()
        packed = run.work(segment, time.perf_counter)
        if segment.exchange:
            compare(sequence, packed)
            run.deliver(received(sequence))
    assert isinstance(run.step, Done)
    return run.step.value


async def _drive(
    run: _Run[T], index: int, servers: _Servers, buffer: CorrectionBuffer, clock: Clock, heavy: asyncio.Lock,
    watch: Frames | None,
) -> None:  # fmt: skip
    """All segments of one stream."""
    for sequence, segment in enumerate(run.stream.plan.segments):
        start = clock()
        if sequence:
            await run.replied()
            arrived = clock()
            run.ledger.of(run.stream.plan.segments[sequence - 1].label).wait_s += arrived - start
            start = arrived
        tape = run.source.tape = await buffer.next(index)
        if watch is not None and tape.payload is not None:
            await watch.dealt(index, sequence, tape.payload)
        cost = run.ledger.of(segment.label)
        was_heavy, run.heavy = run.heavy, nbytes(segment.exchange) > HEAVY_BYTES
        if was_heavy or run.heavy or nbytes(segment.dealt[run.source.party]) > HEAVY_BYTES:
            async with heavy:
                cost.wait_s += clock() - start
                packed = await in_thread(run.work, segment, clock)
        else:
            cost.wait_s += clock() - start
            packed = run.work(segment, clock)
        run.book(segment, packed)
        if segment.exchange:
            if watch is not None:
                await watch.sent(index, sequence, packed)
            start = clock()
            await servers.exchange(run, sequence, packed)
            cost.wait_s += clock() - start
