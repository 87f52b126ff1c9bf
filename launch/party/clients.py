"""Clients at a server: their requests wait in the queue, and each is told how its own went.

::

    client                                     server (each of the two)
    request (size, kind, how long it waits) -> admitted by what its run takes, or refused: for now, or for ever
    shares, at once behind it               -> taken; the request is whole
                                            <- queued
                                            <- ready, when its run begins
                                            <- result, when the run has ended
    taken                                   -> the answer is forgotten; another request may follow

A client whose connection breaks dials again and says `fetch` in the place of `request`: a request outlives its
connection, and an answer is kept until it is taken, or for PICKUP_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from mpcnet.aio.tasks import race
from mpcnet.errors import ChannelError, ChannelParted, RemoteAbort, RemoteError, RemoteProtocolError
from mpcnet.launch.party import frames, outputs, upload
from mpcnet.launch.party.budget import Budget
from mpcnet.launch.party.control_frames import FETCH, QUEUED, READY, REQUEST, RESULT, TAG, TAKEN
from mpcnet.launch.party.node import Node, public
from mpcnet.launch.party.queue import Queue
from mpcnet.launch.party.request import PICKUP_S, Request
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Plans
from mpcnet.rounds import Part
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

KEPT_S = 300.0  # a client may stay so long without asking,
LASTS_S = 3600.0  # and so long in all: its certificate is looked at when it connects, and may have expired


class _Left(Exception):
    """A client is gone, in order."""


@dataclass(slots=True)
class Clients:
    """The queue holds the requests that are here; a client has one at a time over each connection."""

    node: Node
    plans: Plans
    budget: Budget
    queue: Queue = field(init=False)
    version: int = field(default=0, init=False)  # of the queue: grows whenever a request is whole, or ends
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: dict[Channel, None] = field(default_factory=dict)  # of clients that have asked nothing; longest idle first
    _attended: dict[bytes, Channel] = field(default_factory=dict)  # who waits for which request

    def __post_init__(self) -> None:
        self.queue = Queue(self.budget.queue_bytes)

    # --- for who runs requests --------------------------------------------------------------------------------

    async def waiting(self) -> None:
        """Return as soon as a request waits."""
        while not len(self.queue):
            await self.beyond(self.version)

    async def beyond(self, version: int) -> None:
        """Return when the queue is not as it was."""
        while self.version == version:
            self._changed.clear()
            await self._changed.wait()

    @contextmanager
    def taken(self, requests: Sequence[Request]) -> Iterator[None]:
        """These run, and stay whole even if their clients leave; if the block fails, they have failed."""
        for request in requests:
            self.queue.took(request)
            request.running = True
        self.node.metrics.queue(len(self.queue))
        try:
            yield
        except asyncio.CancelledError:
            self.fail(requests, "the session with the other parties ended")
            raise
        except BaseException as error:
            self.fail(requests, public(error))
            raise

    def unpin(self, requests: Iterable[Request]) -> None:
        """These will not run now; those whose clients have stopped waiting meanwhile have failed."""
        for request in requests:
            request.pinned = False
            if request.end_s <= asyncio.get_running_loop().time():
                self._expire(request)

    def tell_ready(self, requests: Sequence[Request]) -> None:
        """Their run begins."""
        for request in requests:
            request.begun.set()

    def reply(self, request: Request, result: Response, report: bytes, tag: bytes = b"") -> None:
        """The answer's share, the audit's, if there is one, a public report of the cost, and the tag of the other
        server's share, if its replica made one."""
        text = Part(8, (len(report),)), np.frombuffer(report, np.uint8)
        request.tag = tag
        self._end(request, result=[*outputs.arrays(result), text])

    def fail(self, requests: Sequence[Request], reason: str) -> None:
        """There will be no answers: each client is told why."""
        for request in requests:
            if not request.ended.is_set():
                self.node.metrics.request_done("failed")
                self._end(request, failure=reason)

    def _end(self, request: Request, **outcome: object) -> None:
        request.end(**outcome)  # type: ignore[arg-type]
        self._change()
        kept_s = 0.0 if request.left else PICKUP_S
        asyncio.get_running_loop().call_later(kept_s, self.queue.forget, request)

    def _change(self) -> None:
        self.version += 1
        self._changed.set()
        self.node.metrics.queue(len(self.queue))

    # --- connections ------------------------------------------------------------------------------------------

    async def serve(self, peer: Peer) -> None:
        """One request after the other, as long as the client asks in time."""
        clock, limit_s = asyncio.get_running_loop().time, KEPT_S
        end_s = clock() + LASTS_S
        with suppress(_Left):
            while True:
                await self._attend(peer, await self._next(peer, limit_s))
                limit_s = min(KEPT_S, end_s - clock())

    def make_room(self, among: Callable[[Channel], bool]) -> bool:
        """Part from the client that has been idle for longest of these; False if none is."""
        channel = next(filter(among, self._idle), None)
        if channel is None:
            return False
        del self._idle[channel]
        channel.abort(f"{self.node.role} needs the place for others; connect again")
        return True

    async def _next(self, peer: Peer, limit_s: float) -> Request:
        """The request that a client has made, or one of before that it has come back for.

        :raises _Left: it has no more, or does not ask in time.
        """
        header = await self._asked(peer, limit_s)
        self.node.check_pinned(peer)
        if header.label == FETCH:
            name = upload.request_id(peer, header)
            found = self.queue.find(name)
            if found is None or found.client != peer.name:
                reason = f"{self.node.role}: want a request that is here, got an id of none; ask again"
                peer.channel.abort(reason, lost=True)
                raise _Left
            return found
        request = upload.announced(self.node, peer, header)
        await asyncio.to_thread(self.budget.check, self.plans, request.size)
        self.queue.add(request)
        try:
            request.shares = await upload.shares(self.node, peer, request.size)
        except BaseException:
            self.queue.forget(request)
            raise
        asyncio.get_running_loop().call_at(request.end_s, self._expire, request)
        self._change()
        return request

    async def _asked(self, peer: Peer, limit_s: float) -> Header:
        self._idle[peer.channel] = None
        try:
            async with asyncio.timeout(limit_s):
                return await frames.receive_one(peer, (REQUEST, FETCH), patient=True)
        except TimeoutError:
            peer.channel.abort(f"{self.node.role}: no request in time; connect again")
            raise _Left from None
        except (ChannelError, RemoteAbort):
            raise _Left from None
        finally:
            self._idle.pop(peer.channel, None)

    async def _attend(self, peer: Peer, request: Request) -> None:
        """Tell this client how its request goes, as long as it stays.

        :raises _Left: it has left. One that says so wants no answer any more.
        """
        if before := self._attended.get(request.name):
            before.abort(f"{self.node.role}: its client has come back over another connection")
        self._attended[request.name] = peer.channel
        try:
            waits = self.node.metrics.waits_for or ""
            await frames.send(peer, QUEUED, ahead=max(0, len(self.queue) - 1), waits=waits)
            if await self._until(peer, request.begun.wait(), request.ended.wait()) == 0:
                await frames.send(peer, READY)
                await self._until(peer, request.ended.wait())
            if request.failure:
                self.queue.forget(request)
                peer.channel.abort(f"{self.node.role}: {request.failure}; ask again", lost=True)
                raise _Left
            await frames.send(peer, RESULT, request.result, **({TAG: request.tag} if request.tag else {}))
            await frames.receive_bare(peer, TAKEN)
            self.queue.forget(request)
        except (RemoteAbort, ChannelParted):
            self._drop(request)
            raise _Left from None
        except RemoteError:
            self._drop(request)
            raise
        except ChannelError:  # cut off: it may come back
            raise _Left from None
        finally:
            if self._attended.get(request.name) is peer.channel:
                del self._attended[request.name]

    async def _until(self, peer: Peer, *events: Awaitable[object]) -> int:
        """Which of these comes first; the client says nothing meanwhile, and may leave.

        :raises MpcError: it has left, or said something.
        """
        return await race(*events, peer.channel.receive(_nothing, patient=True))

    def _drop(self, request: Request) -> None:
        """Its client has left, and wants no answer any more."""
        request.left, request.end_s = True, 0.0
        if request.ended.is_set() or not (request.pinned or request.running):
            self.queue.forget(request)
            self._change()

    def _expire(self, request: Request) -> None:
        if request.waits and not request.pinned:
            self.fail([request], f"not answered within the {request.end_s - request.came_s:g} s that it waits")


def _nothing(header: Header) -> memoryview:
    """A client that has asked has nothing more to say; a frame left unread would hide its end."""
    raise RemoteProtocolError(f"client: want nothing behind its request, got {header.kind} frame {header.label[:80]!r}")
