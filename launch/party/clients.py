"""Clients at a server: their requests wait in the queue, and each is told how its own went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from mpcnet.aio.tasks import Tasks, race
from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelError, MpcError, RemoteAbort, RemoteProtocolError
from mpcnet.launch.party import frames, upload
from mpcnet.launch.party.control_frames import QUEUED, READY, RESULT
from mpcnet.launch.party.node import Node, public
from mpcnet.launch.party.queue import Queue, Request
from mpcnet.models.private.inference import Response
from mpcnet.rounds import Part
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

KEPT_S = 300.0  # a client that has been answered may stay so long without asking again,
LASTS_S = 3600.0  # and so long in all: its certificate is looked at when it connects, and may have expired


class _Left(Exception):
    """A kept client is gone, in order."""


@dataclass(slots=True)
class Clients:
    """The queue holds the requests that are complete and wait.

    A client may stay when it has been answered, and ask again: one request at a time over each connection. Who stays
    without a request leaves after KEPT_S, or as soon as a newcomer needs the place.
    """

    node: Node
    tasks: Tasks  # what is sent while nobody waits for it
    queue: Queue = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: dict[Channel, None] = field(default_factory=dict)  # of clients that were answered; the longest idle first

    def __post_init__(self) -> None:
        self.queue = Queue(self.node.settings.queue_mib << 20)

    # --- for who runs requests --------------------------------------------------------------------------------

    async def waiting(self) -> None:
        """Return as soon as a request waits."""
        await self._until(lambda: len(self.queue) > 0)

    async def find(self, names: Sequence[bytes], grace_s: float) -> list[Request | None]:
        """The requests of these names; those that are not here get so much time to come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._until(lambda: all(self.queue.find(name) is not None for name in names))
        return [self.queue.find(name) for name in names]

    @contextmanager
    def taken(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """These leave the queue, and stay whole even if their clients leave. Who is in the list in the end failed, if
        the block did.
        """
        for request in requests:
            self.queue.remove(request)
        self.node.metrics.queue(len(self.queue))
        held = list(requests)
        try:
            yield held
        except asyncio.CancelledError:
            self.fail(held, "the session with the other parties ended")
            raise
        except BaseException as error:
            self.fail(held, public(error))
            raise

    def tell_ready(self, requests: Sequence[Request]) -> None:
        """Their run has begun."""
        for request in requests:
            self.tasks.start(self._send(request.peer, READY))

    def reply(self, request: Request, result: Response, report: bytes) -> None:
        """Send the answer's share and the audit's, if there is one. Nobody waits here for the client to take it."""
        values = result.values
        value = ring.pack_bits(values.value) if values.bits == 1 else values.value
        arrays = [(Part(values.bits, values.shape), ring.pack(value, values.bits))]
        if result.out_of_range is not None:
            arrays.append((Part(1, result.out_of_range.shape), ring.pack(result.out_of_range.packed, 1)))
        arrays.append((Part(8, (len(report),)), np.frombuffer(report, np.uint8)))
        request.reply.arrays = arrays
        request.reply.ready.set()

    def fail(self, requests: Sequence[Request], reason: str) -> None:
        """Their run has failed: each client is told why."""
        for request in requests:
            self.node.metrics.request_done("failed")
            request.peer.channel.abort(f"{self.node.role}: {reason}; ask again")

    # --- connections ------------------------------------------------------------------------------------------

    async def serve(self, peer: Peer) -> None:
        """One request after the other, as long as the client asks in time."""
        end_s = time.monotonic() + LASTS_S
        await self._attend(peer, upload.receive(self.node, peer, lambda: self.node.check_pinned(peer)))
        with suppress(_Left):
            while True:
                await self._attend(peer, self._next(peer, min(KEPT_S, end_s - time.monotonic())))

    async def _next(self, peer: Peer, limit_s: float) -> Request:
        """A kept client's next request.

        :raises _Left: it has no more, or does not begin one in time.
        """
        self._idle[peer.channel] = None
        try:
            async with asyncio.timeout(limit_s) as limit:

                def begun() -> None:
                    self.node.check_pinned(peer)
                    self._idle.pop(peer.channel, None)
                    limit.reschedule(None)  # what has begun has the time that a first request has

                return await upload.receive(self.node, peer, begun, patient=True)
        except TimeoutError:
            peer.channel.abort(f"{self.node.role}: no request in time; connect again")
            raise _Left from None
        except (ChannelError, RemoteAbort):
            raise _Left from None
        finally:
            self._idle.pop(peer.channel, None)

    def make_room(self) -> bool:
        """Part from the client that has been idle for longest; False if none is."""
        channel = next(iter(self._idle), None)
        if channel is None:
            return False
        del self._idle[channel]
        channel.abort(f"{self.node.role} needs the place for others; connect again")
        return True

    async def _attend(self, peer: Peer, coming: Coroutine[None, None, Request]) -> None:
        """Take the whole request, so that no run ever waits for a client; then keep it until it is answered or gone."""
        request = await coming
        if self.queue.find(request.name) is not None:
            raise RemoteProtocolError(f"{peer.name}: this request id has been used")
        self.queue.add(request)
        try:
            self.node.metrics.queue(len(self.queue))
            waits = self.node.metrics.waits_for or ""
            await frames.send(peer, QUEUED, ahead=len(self.queue) - 1, waits=waits)
            self._changed.set()
            with suppress(ChannelError, RemoteAbort):  # its end, whoever ends it
                await race(request.reply.ready.wait(), peer.channel.receive(_nothing, patient=True))
        finally:
            self.queue.remove(request)
            self.node.metrics.queue(len(self.queue))
            if request.reply.ready.is_set():  # and nobody receives any more: who is answered may ask again at once
                await asyncio.shield(self._send(peer, RESULT, request.reply.arrays))

    async def _send(self, peer: Peer, name: str, arrays: Sequence[tuple[Part, Bytes]] = ()) -> None:
        """What a client does not take is its own loss."""
        with suppress(MpcError):
            await frames.send(peer, name, arrays)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()


def _nothing(header: Header) -> memoryview:
    """A client that has asked has nothing more to say; a frame left unread would hide its end."""
    raise RemoteProtocolError(f"client: want nothing behind its request, got {header.kind} frame {header.label[:80]!r}")
