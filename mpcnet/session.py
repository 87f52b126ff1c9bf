"""Run a program over channels: the server's side of a stream, the stock of corrections, and the dealer's side.

The plan (mpcnet.meter) says what every frame must be before it comes: kind, stream, sequence number, running
transcript, parts. A frame that is lost, repeated, reordered, or of another program is refused when its header is seen,
before any memory is allocated for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from mpcnet import ring
from mpcnet.dealer import Corrections
from mpcnet.errors import ChannelError, RemoteProtocolError, describe
from mpcnet.ledger import Ledger
from mpcnet.mesh import Peer
from mpcnet.meter import Plan, Segment
from mpcnet.randomness import ServerSource, Tape
from mpcnet.rounds import Done, Exchange, Part, Program, advance
from mpcnet.wire import Header

T = TypeVar("T")
Clock = Callable[[], float]
ROUND, DEAL = "round", "deal"
HEAVY_BYTES = 1 << 16  # a step that handles more runs in a thread, so that the loop goes on moving frames


@dataclass(frozen=True, slots=True)
class Stream:
    """One run of one program: its number on the channels, and its plan."""

    number: int
    plan: Plan

    def header(self, kind: str, session: bytes, sequence: int, parts: Sequence[Part]) -> Header:
        segment = self.plan.segments[sequence]
        return Header(kind, session, self.number, sequence, segment.label, segment.chain, tuple(parts))

    @contextmanager
    def at(self, sequence: int) -> Iterator[None]:
        """An error of the wire or the peer says in which segment it happened."""
        try:
            yield
        except (ChannelError, RemoteProtocolError) as error:
            label = self.plan.segments[sequence].label
            raise type(error)(f"stream {self.number}, segment {sequence} ({label}): {error}") from error


def check(got: Header, want: Header, peer: str) -> None:
    """:raises RemoteProtocolError: the frame is not the one that the plan wants."""
    for name in ("kind", "session", "stream", "sequence", "label"):
        mine, theirs = getattr(want, name), getattr(got, name)
        if mine != theirs:
            shown = ("ours", "another") if name == "session" else (mine, theirs)
            raise RemoteProtocolError(describe(peer, f"{name} {shown[0]}", shown[1]))
    if sizes(got.parts) != sizes(want.parts):
        raise RemoteProtocolError(describe(peer, _shown(want.parts), _shown(got.parts)))
    if got.chain != want.chain:
        raise RemoteProtocolError(describe(peer, f"transcript {want.chain.hex()}", got.chain.hex()))


def sizes(parts: Sequence[Part]) -> list[tuple[int, tuple[int, ...]]]:
    """What of the parts is on the wire."""
    return [(part.bits, part.shape) for part in parts]


def _shown(parts: Sequence[Part]) -> str:
    total = sum(part.nbytes for part in parts)
    first = f"{parts[0].bits} bits x {list(parts[0].shape)}" if parts else "none"
    return f"{len(parts)} parts of {total} bytes (first: {first})"


@dataclass(slots=True, repr=False)
class Stock:
    """Corrections that the dealer has sent ahead, bounded in bytes; filled by a task of its own."""

    stream: Stream
    dealer: Peer
    party: int
    limit_bytes: int
    _tapes: deque[Tape] = field(default_factory=deque)
    _held_bytes: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _filled: bool = False
    _failure: Exception | None = None
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._fill(), name="stock")

    async def ready(self) -> None:
        """Wait until every correction is here, or as many as the stock may hold.

        :raises MpcError: the dealer failed.
        """
        await self._until(lambda: self._filled or self._held_bytes >= self.limit_bytes)

    async def next(self) -> Tape:
        """The corrections of the next segment."""
        await self._until(lambda: bool(self._tapes))
        tape = self._tapes.popleft()
        self._held_bytes -= sum(part.nbytes for part in tape.parts)
        self._changed.set()
        return tape

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()

    async def _fill(self) -> None:
        try:
            for sequence, segment in enumerate(self.stream.plan.segments):
                tape = await self._receive(sequence, segment)
                while self._held_bytes >= self.limit_bytes and self._tapes:
                    self._changed.clear()
                    await self._changed.wait()
                self._tapes.append(tape)
                self._held_bytes += sum(part.nbytes for part in tape.parts)
                self._changed.set()
            self._filled = True
        except Exception as error:  # whatever it is, who waits for the stock must not wait for ever
            self._failure = error
        self._changed.set()

    async def _receive(self, sequence: int, segment: Segment) -> Tape:
        """A segment without corrections has no frame."""
        parts = segment.dealt[self.party]
        if not parts:
            return Tape()
        want = self.stream.header(DEAL, self.dealer.session, sequence, parts)
        with self.stream.at(sequence):
            payload = await _receive(self.dealer, want)
        return Tape(parts, payload)


async def _receive(peer: Peer, want: Header) -> ring.Bytes:
    """The payload of exactly the frame `want`."""
    buffers: list[ring.Bytes] = []

    def expect(got: Header) -> memoryview:
        check(got, want, peer.name)
        buffers.append(np.empty(want.payload_bytes, np.uint8))
        return buffers[0].data

    await peer.channel.receive(expect)
    return buffers[0]


async def run_server(
    program: Program[T], source: ServerSource, stream: Stream, peer: Peer, stock: Stock, clock: Clock
) -> tuple[T, Ledger]:
    """Run `program` as a computing server against `peer`; returns its result and what it cost.

    :raises RemoteProtocolError: a frame of the peer or the dealer is not the one the plan wants.
    :raises ChannelError: the peer or the dealer is gone, or too slow.
    """
    try:
        return await _run_server(program, source, stream, peer, stock, clock)
    finally:
        if inspect.getcoroutinestate(program) == inspect.CORO_CREATED:
            program.close()  # never begun: Python would warn of it


async def _run_server(
    program: Program[T], source: ServerSource, stream: Stream, peer: Peer, stock: Stock, clock: Clock
) -> tuple[T, Ledger]:
    ledger = Ledger()
    reply: list[Tensor] | None = None
    heavy = False
    for sequence, segment in enumerate(stream.plan.segments):
        before = clock()
        source.tape = await stock.next()
        start = clock()
        step = await _step(program, reply, heavy or _nbytes(segment.dealt[source.party]) > HEAVY_BYTES)
        source.tape.finish()
        cost = ledger.of(segment.label)
        cost.wait_s += start - before
        cost.compute_s += clock() - start
        for receiver, parts in enumerate(segment.dealt):
            for part in parts:
                ledger.dealt(part, receiver)
        if isinstance(step, Done):
            return step.value, ledger
        if step.parts != segment.exchange:
            raise AssertionError(f"segment {sequence} is {step.parts}, planned {segment.exchange}")
        heavy = _nbytes(step.parts) > HEAVY_BYTES
        reply = await _exchange(step, stream, sequence, peer, ledger, clock, heavy)
    raise AssertionError("the program goes on after its plan has ended")


def _nbytes(parts: Sequence[Part]) -> int:
    return sum(part.nbytes for part in parts)


async def _step(program: Program[T], reply: list[Tensor] | None, heavy: bool) -> Exchange | Done[T]:
    if heavy:
        return await asyncio.to_thread(advance, program, reply)
    return advance(program, reply)


async def _exchange(
    step: Exchange, stream: Stream, sequence: int, peer: Peer, ledger: Ledger, clock: Clock, heavy: bool
) -> list[Tensor]:
    """One round: send our masked shares, receive theirs, add."""
    start = clock()
    packed = await asyncio.to_thread(_pack, step) if heavy else _pack(step)
    want = stream.header(ROUND, peer.session, sequence, step.parts)
    sent = clock()
    with stream.at(sequence):
        _, payload = await asyncio.gather(peer.channel.send(want, *(raw.data for raw in packed)), _receive(peer, want))
    received = clock()
    opened = await asyncio.to_thread(_open, step, payload) if heavy else _open(step, payload)
    for index, (part, raw) in enumerate(zip(step.parts, packed, strict=True)):
        cost = ledger.of(part.label)
        cost.rounds += index == 0
        cost.sent_bytes += raw.nbytes
        cost.received_bytes += part.nbytes
    cost = ledger.of(step.parts[0].label)
    cost.wait_s += received - sent
    cost.compute_s += sent - start + clock() - received
    return opened


def _pack(step: Exchange) -> list[ring.Bytes]:
    return [ring.pack(value, part.bits) for value, part in zip(step.mine, step.parts, strict=True)]


def _open(step: Exchange, payload: ring.Bytes) -> list[Tensor]:
    opened, offset = [], 0
    for mine, part in zip(step.mine, step.parts, strict=True):
        theirs = ring.unpack(payload[offset : offset + part.nbytes], part)
        opened.append(ring.add_opened(mine, theirs, part.bits))
        offset += part.nbytes
    return opened


async def run_dealer(dealing: Generator[Corrections, None, T], stream: Stream, peers: Sequence[Peer]) -> T:
    """Send the corrections of every segment to both servers, as fast as they take them; returns the program's result.

    :raises MpcError: a server is gone.
    """
    for sequence, segment in enumerate(stream.plan.segments):
        corrections: Any = await asyncio.to_thread(next, dealing)
        for peer, sent, parts in zip(peers, corrections, segment.dealt, strict=True):
            if not parts:
                continue
            if [correction.part for correction in sent] != list(parts):
                raise AssertionError(f"segment {sequence} deals otherwise than planned")
            header = stream.header(DEAL, peer.session, sequence, parts)
            with stream.at(sequence):
                await peer.channel.send(header, *(correction.payload.data for correction in sent))
    try:
        next(dealing)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the dealer's program goes on after its plan has ended")
