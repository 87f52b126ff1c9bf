"""Corrections that the dealer has sent ahead of their use: bounded in bytes in memory, or on sealed tapes on disk.

The channel from the dealer has one reader, the receiver. Bundles arrive in the order in which they were asked for, each
with its segments in the order of `mpcnet.runtime.stream.turns`, and behind the last of them the dealer's public facts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelTimeout, LocalStateError, LocalStorageError, RemoteProtocolError
from mpcnet.randomness.source import Tape
from mpcnet.runtime.correction_store import CorrectionStore, MemoryStore, TapeStore
from mpcnet.runtime.sealed_tape import SealedTapes
from mpcnet.runtime.stream import DEAL, DEALT, SUMS, Awaited, Stream, in_heap, nbytes, turns
from mpcnet.transport.channel import Expect, check_control
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header, Value


def planned_bytes(streams: Sequence[Stream], party: int) -> int:
    """All corrections of a bundle for this server."""
    return sum(stream.plan.ledger.total().dealt_bytes[party] for stream in streams)


class CorrectionBuffer:
    """The corrections of one bundle, in dealing order; made by `CorrectionReceiver.expect`."""

    def __init__(self, streams: Sequence[Stream], receiver: CorrectionReceiver, store: CorrectionStore) -> None:
        self.streams = tuple(streams)
        self.nbytes = 0  # held in memory now
        self.facts: Mapping[str, Value] = {}  # the dealer's, once the bundle is complete
        self.sums: Value = None  # and digests of what the other server got, if it has a replica
        self.complete = False
        self.arrived: int | None = None  # segments, in dealing order; None: bundles before this one still come
        self.failed: str | None = None  # why the disk failed, a public line; the bundle can not be used then
        self._receiver, self._store = receiver, store
        self._due = deque(turns(streams))  # segments still in the store, or to come
        self._aside: tuple[deque[Tape], ...] = tuple(deque() for _ in streams)
        self._taking = asyncio.Lock()
        self._discarded = False
        self._storing = False

    async def ready(self, segments: int) -> None:
        """Wait until so many segments have arrived, and all bundles before this one; from a tape, until it is finished.

        They are received whatever the limit says: see `mpcnet.runtime.prefill`, which chooses as many as fit.

        :raises ChannelTimeout: nothing came from the dealer for the receiver's patience.
        :raises MpcError: the dealer failed.
        :raises LocalStorageError: the disk did.
        """

        def enough() -> bool:
            return self.complete or (self.limited and self.arrived is not None and self.arrived >= segments)

        await self._until(enough, starving=True)

    async def check(self) -> None:
        """Of a complete bundle, before its run: read its tape once, if it is on one. `failed` says if that is bad: the
        bundle is of no use, and another can be dealt."""
        if self.complete and not self._dropped:
            await self._stored(self._store.check())

    async def settled(self) -> None:
        """Wait until the bundle is complete, or will never be; for who has time.

        :raises MpcError: the dealer failed.
        """

        def settled() -> bool:
            if not self.complete:
                self._receiver.check()
            return self.complete or self._dropped

        await self._receiver.until(settled)

    async def next(self, index: int) -> Tape:
        """The corrections of the next segment of stream `index`. Streams need not keep step with each other: what comes
        before it for others is put aside for them.

        :raises MpcError: as `ready`.
        """
        self._check()
        aside = self._aside[index]
        if not aside:
            async with self._taking:
                while not aside:
                    await self._put_aside()
        tape = aside.popleft()
        self._settle()
        return tape

    async def _put_aside(self) -> None:
        if not self._due:
            raise LocalStateError(f"corrections of {self}: more is wanted than was dealt")
        owner, sequence = self._due[0]
        parts = self.streams[owner].plan.segments[sequence].dealt[self._receiver.party]
        tape = Tape(parts, await self._take()) if parts else Tape()
        self._due.popleft()
        self._aside[owner].append(tape)

    def discard(self) -> None:
        """Not wanted any more: memory and tape are released; frames still to come are received and dropped."""
        self._discarded = True
        self._settle()

    def __str__(self) -> str:
        return "streams " + ", ".join(str(stream.number) for stream in self.streams)

    async def _take(self) -> Bytes:
        await self._until(lambda: self._store.readable, starving=True)
        try:
            return await self._store.take()
        except LocalStorageError as error:
            self.failed = str(error)
            raise
        except BaseException:
            self._discarded = True  # a payload may be lost, and the others would follow out of order
            raise
        finally:
            self._settle()

    async def _until(self, ready: Callable[[], bool], *, starving: bool = False) -> None:
        def settled() -> bool:
            self._check()
            return ready()

        await self._receiver.until(settled, ready if starving else None)

    def _check(self) -> None:
        if not self.complete or self._discarded:  # else the dealer is not needed any more
            self._receiver.check()
        if self.failed is not None:
            raise LocalStorageError(self.failed)
        if self._discarded:
            raise LocalStateError(f"corrections of {self}: it was discarded")

    @property
    def _dropped(self) -> bool:
        return self._discarded or self.failed is not None

    # --- the receiver's side -------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """It may still be used."""
        return (bool(self._due) or any(self._aside)) and not self._dropped

    @property
    def limited(self) -> bool:
        """Its frames take memory."""
        return isinstance(self._store, MemoryStore) and not self._dropped

    async def put(self, payload: Bytes) -> None:
        """Keep the payload of the next frame."""
        if not self._dropped:
            await self._stored(self._store.put(payload))

    async def finish(self, facts: Mapping[str, Value]) -> None:
        """Every frame was put."""
        self.facts = {name: fact for name, fact in facts.items() if name != SUMS}
        self.sums = facts.get(SUMS)
        if not self._dropped:
            await self._stored(self._store.finish())
        self.complete = not self._dropped
        self._settle()

    async def _stored(self, storing: Coroutine[Any, Any, None]) -> None:
        self._storing = True
        try:
            await storing
        except LocalStorageError as error:
            self.failed = str(error)
        finally:
            self._storing = False
            self._settle()

    def _settle(self) -> None:
        """After any change: release what is dropped, count what is held, tell those who wait."""
        if self._dropped and not self._storing:
            self._store.discard()
        held = self._store.nbytes + sum(nbytes(tape.parts) for aside in self._aside for tape in aside)
        self._receiver.count(held - self.nbytes)
        self.nbytes = held


class CorrectionReceiver:
    """The only reader of the channel from the dealer; its buffers share `limit_bytes` of memory.

    At the limit it stops reading, and the dealer soon stops sending. It reads on if nothing is held at all, or if
    somebody waits for a frame that is still to come: so it holds one frame at least, and nobody waits for ever
    (`mpcnet.runtime.prefill` says why).
    """

    def __init__(
        self,
        dealer: Peer,
        party: int,
        limit_bytes: int,
        patience_s: float,
        tapes: SealedTapes | None = None,
        make: Callable[[int], Bytes] = in_heap,
    ) -> None:
        """`make` gives the memory of a payload: of the heap, or apart from it (:mod:`mpcnet.arrays.buffers`)."""
        self.party = party
        self.nbytes = 0  # held in memory by all buffers
        self._dealer, self._limit_bytes, self._patience_s, self._tapes = dealer, limit_bytes, patience_s, tapes
        self._make = make
        self._buffers: list[CorrectionBuffer] = []  # at least all that are alive
        self._expected: deque[CorrectionBuffer] = deque()  # not yet complete
        self._starving: list[Callable[[], bool]] = []  # what somebody needs to go on, when it is there
        self._listening: tuple[float, Stream, int] | None = None  # since when the dealer owes us which segment
        self._changed = asyncio.Event()
        self._failure: Exception | None = None

    def expect(self, streams: Sequence[Stream], *, to_disk: bool = False) -> CorrectionBuffer:
        """The dealer has been told to deal for these next. Streams of one bundle, and bundles, are used in this order.

        :raises LocalStateError: tapes are wanted, and there is no folder for them.
        """
        store: CorrectionStore = self._tape(streams) if to_disk else MemoryStore()
        buffer = CorrectionBuffer(streams, self, store)
        self._buffers = [*(other for other in self._buffers if other.alive), buffer]
        self._expected.append(buffer)
        self._changed.set()
        return buffer

    async def run(self) -> None:
        """Receive until cancelled. Then all buffers are discarded, and whoever asks one raises what ended this. If the
        dealer is gone, those that are complete can be used until `close`.

        :raises RemoteProtocolError: a frame is not the next one that the plans want.
        :raises ChannelError: the dealer is gone.
        """
        try:
            while True:
                await self._until_changed(lambda: bool(self._expected))
                await self._fill(self._expected[0])
                self._expected.popleft()
        except asyncio.CancelledError:
            self.close()
            raise
        except Exception as error:  # whatever it is, who waits for a buffer must not wait for ever
            self._failure = error
            raise
        finally:
            for buffer in self._buffers:
                if not buffer.complete:
                    buffer.discard()
            self._changed.set()

    def close(self) -> None:
        """Nothing is used any more."""
        self._failure = self._failure or LocalStateError("the channel from the dealer is not read any more")
        for buffer in self._buffers:
            buffer.discard()
        self._changed.set()

    def room(self, but: CorrectionBuffer | None) -> int:
        """Bytes that a bundle may hold in memory beside all others that may still be used; `but` is its own buffer.

        :returns: what is left of the limit, at least 0.
        """
        others = [buffer for buffer in self._buffers if buffer is not but and buffer.alive and buffer.limited]
        return max(0, self._limit_bytes - sum(planned_bytes(buffer.streams, self.party) for buffer in others))

    # --- the buffers' side --------------------------------------------------------------------------------------

    def count(self, nbytes: int) -> None:
        """A buffer holds so much more in memory, or less, or changed otherwise."""
        self.nbytes += nbytes
        self._changed.set()

    def check(self) -> None:
        """:raises MpcError: this has ended, for that reason."""
        if self._failure is not None:
            raise self._failure

    async def until(self, ready: Callable[[], bool], starving: Callable[[], bool] | None = None) -> None:
        """Wait for what the dealer sends; as long as `starving` is given and not true, the limit does not hold."""
        if ready():
            return
        if starving is not None:
            self._starving.append(starving)
            self._changed.set()
        began_s = asyncio.get_running_loop().time()
        try:
            while not ready():
                await self._patiently(began_s)
        finally:
            if starving is not None:
                self._starving.remove(starving)

    async def _patiently(self, began_s: float) -> None:
        """Until something changes; not longer than patience lasts for a dealer who sends nothing while we wait."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        owed_s = now_s if self._listening is None else max(began_s, self._listening[0])
        if self._listening is not None and now_s >= owed_s + self._patience_s:
            _, stream, sequence = self._listening
            with stream.at(sequence):
                raise ChannelTimeout(f"waited {self._patience_s:g} s for {self._dealer.name} to send a frame")
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(owed_s + self._patience_s):
                await self._changed.wait()

    # --- receiving ----------------------------------------------------------------------------------------------

    async def _fill(self, buffer: CorrectionBuffer) -> None:
        stream, sequence = buffer.streams[0], 0
        for arrived, (index, sequence) in enumerate(turns(buffer.streams)):
            buffer.arrived = arrived
            self._changed.set()
            stream = buffer.streams[index]
            if parts := stream.plan.segments[sequence].dealt[self.party]:
                await self._room(buffer, nbytes(parts))
                header = stream.header(DEAL, self._dealer.session, sequence, parts)
                awaited = Awaited(header, self._dealer.name, self._make)
                await self._listen(stream, sequence, awaited)
                await buffer.put(awaited.payload)
        await buffer.finish((await self._listen(stream, sequence, self._dealt)).fields)

    async def _room(self, buffer: CorrectionBuffer, wanted: int) -> None:
        """Wait until `wanted` bytes more may be held."""

        def fits() -> bool:
            return (
                not buffer.limited
                or self.nbytes == 0
                or self.nbytes + wanted <= self._limit_bytes
                or not all(there() for there in self._starving)
            )

        await self._until_changed(fits)

    async def _listen(self, stream: Stream, sequence: int, expect: Expect) -> Header:
        def heard(header: Header) -> memoryview:
            self._listening = None
            return expect(header)

        self._listening = asyncio.get_running_loop().time(), stream, sequence
        with stream.at(sequence):
            return await self._dealer.channel.receive(heard, patient=True)

    def _dealt(self, header: Header) -> memoryview:
        check_control(header, DEALT, self._dealer.session, self._dealer.name)
        if header.parts:
            raise RemoteProtocolError(f"{self._dealer.name}: control frame {DEALT!r} has a payload")
        facts = [fact for name, fact in header.fields.items() if name != SUMS]
        if any(isinstance(fact, (bytes, list)) for fact in facts):  # they go into reports, as JSON
            raise RemoteProtocolError(f"{self._dealer.name}: want facts that are numbers and texts, got bytes or lists")
        return memoryview(b"")

    async def _until_changed(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def _tape(self, streams: Sequence[Stream]) -> TapeStore:
        if self._tapes is None:
            raise LocalStateError("corrections are to go to disk, and there is no folder for them")
        frames = (streams[index].plan.segments[sequence].dealt[self.party] for index, sequence in turns(streams))
        name = f"{self._dealer.session[:8].hex()}-{streams[0].number}"  # no two sessions of a process share a name
        return TapeStore(self._tapes, name, [nbytes(parts) for parts in frames if parts])
