"""The dealer's side of a run: one thread makes the corrections, and the event loop sends them.

The thread does not wait for the loop between segments, which may be busy with a frame for longer than a segment takes
to make; only for room, when too much has been made for a server that has not left. `mpcnet.runtime.prefill` says why
the other server then has what it needs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from mpcnet.aio.tasks import group
from mpcnet.aio.threads import in_thread
from mpcnet.arrays import ring
from mpcnet.randomness.dealer import Corrections
from mpcnet.runtime.dealt_sum import DealtSum
from mpcnet.runtime.stream import DEAL, DEALT, SUMS, Stream, nbytes, turns
from mpcnet.transport.channel import CONTROL
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header, Scalar, Value

T = TypeVar("T")
Frame: TypeAlias = tuple[Stream, Header, Sequence[ring.Bytes]]
AHEAD_BYTES = 64 << 20  # of corrections to one server that have not left: a few large segments of a BERT-base


async def run_dealer(
    dealings: Sequence[Generator[Corrections, None, T]],
    streams: Sequence[Stream],
    peers: Sequence[Peer],
    facts: Callable[[], Mapping[str, Scalar]],
    sums: Sequence[Sequence[DealtSum]] = ((), ()),
) -> list[T]:
    """Send the corrections of every segment to both servers, as fast as they take them; returns the programs' results.

    Segments are made while those before them are sent. `facts` are public, and sent to each server behind its last one.
    `sums`, by server and stream, are taken of what a server gets, and sent to the other one; none of a server without.

    :raises MpcError: a server is gone.
    """
    lanes = [_Lane(peer, mine, theirs) for peer, mine, theirs in zip(peers, sums, reversed(sums), strict=True)]
    try:
        async with group() as tasks:
            sending = [tasks.create_task(lane.send_all(facts)) for lane in lanes]
            making = tasks.create_task(in_thread(_make, dealings, streams, lanes, asyncio.get_running_loop()))
            try:
                await asyncio.wait([making])  # `await making`, cancelled, would wait for the thread before `close`
                making.result()
                for lane in lanes:
                    lane.end()  # behind its last frame: the thread put that into the loop's queue before it ended
                await asyncio.wait(sending)
            finally:
                for lane in lanes:
                    lane.room.close()  # or the thread might wait for ever
        return [_result(dealing) for dealing in dealings]
    finally:
        for dealing in dealings:
            dealing.close()


class _Room:
    """For bytes that were made and have not left. The thread that makes them takes it, the loop gives it back."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._nbytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, nbytes: int) -> bool:
        """Wait until there is room, or nothing is there; False if nobody wants more."""

        def fits() -> bool:
            return self._closed or not self._nbytes or self._nbytes + nbytes <= self._limit_bytes

        with self._changed:
            self._changed.wait_for(fits)
            self._nbytes += nbytes
            return not self._closed

    def give(self, nbytes: int) -> None:
        """So many have left."""
        with self._changed:
            self._nbytes -= nbytes
            self._changed.notify()

    def close(self) -> None:
        """Nobody wants more."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class _Lane:
    """Our frames to one peer, in order. Used in the loop only, but for its room.

    Each has a room and an end of its own. A server that holds all it may reads no more until it needs to, and what is
    made for it must not take the room of the other, or keep back its last frame. We wait for it as long as it lives.
    """

    def __init__(self, peer: Peer, sums: Sequence[DealtSum], others: Sequence[DealtSum]) -> None:
        self.peer, self.room = peer, _Room(AHEAD_BYTES)
        self.sums, self._others = sums, others
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()  # None is the end

    def put(self, frame: Frame) -> None:
        """It will be sent when those before it have left."""
        self._frames.put_nowait(frame)

    def end(self) -> None:
        """No more will come."""
        self._frames.put_nowait(None)

    async def send_all(self, facts: Callable[[], Mapping[str, Scalar]]) -> None:
        """Until the end, and the facts."""
        while await self._send_next():
            pass
        fields: dict[str, Value] = dict(facts())
        if self._others:
            fields[SUMS] = [each.digest for each in self._others]
        await self._send(Header(CONTROL, self.peer.session, label=DEALT, fields=fields))

    async def _send_next(self) -> bool:
        if (frame := await self._frames.get()) is None:
            return False
        stream, header, payload = frame
        with stream.at(header.sequence):
            await self._send(header, *(raw.data for raw in payload))
        self.room.give(header.payload_bytes)
        return True

    async def _send(self, header: Header, *payload: memoryview) -> None:
        await self.peer.channel.send(header, *payload, patient=True)


def _make(
    dealings: Sequence[Generator[Corrections, None, Any]],
    streams: Sequence[Stream],
    lanes: Sequence[_Lane],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """All segments, in a thread, as long as anybody wants them."""
    for index, sequence in turns(streams):
        stream, corrections = streams[index], next(dealings[index], None)
        if corrections is None:
            raise AssertionError("the dealer's program ends before its plan")
        for lane, made, parts in zip(lanes, corrections, stream.plan.segments[sequence].dealt, strict=True):
            if [correction.part for correction in made] != list(parts):
                raise AssertionError(f"segment {sequence} deals otherwise than planned")
            if parts:
                if not lane.room.take(nbytes(parts)):
                    return
                if lane.sums:
                    lane.sums[index].add([correction.payload for correction in made])
                header = stream.header(DEAL, lane.peer.session, sequence, parts)
                loop.call_soon_threadsafe(lane.put, (stream, header, [correction.payload for correction in made]))


def _result(dealing: Generator[Corrections, None, T]) -> T:
    try:
        next(dealing)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the dealer's program goes on after its plan has ended")
