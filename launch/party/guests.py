"""Owner and clients at a server: they come and go as they like, whatever the computing parties are doing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from mpcnet.aio.tasks import end_tasks, race
from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelError, LocalBusyError, LocalInputError, MpcError, RemoteAbort, RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import QUEUED, READY, REQUEST, RESULT, WANT, WEIGHTS
from mpcnet.launch.party.node import Node, public
from mpcnet.launch.party.queue import Queue, Request
from mpcnet.models.private.inference import Response
from mpcnet.models.private.parameters import parameters
from mpcnet.models.private.program import Size, wanted_answer
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Part
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

MAX_BATCH = 256
MAX_GUESTS = 512  # connections at once
KEPT_S = 300.0  # a client that has been answered may stay so long without asking again,
LASTS_S = 3600.0  # and so long in all: its certificate is looked at when it connects, and may have expired


class _Left(Exception):
    """A kept client is gone, in order."""


@dataclass(slots=True)
class Guests:
    """Who is here. The queue holds the requests that are complete and wait; the owner is the newest that came.

    A client may stay when it has been answered, and ask again: one request at a time over each connection. Who stays
    without a request leaves after KEPT_S, or as soon as a newcomer needs the place.
    """

    node: Node
    queue: Queue = field(init=False)
    _owner: Peer | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _idle: dict[Channel, None] = field(default_factory=dict)  # of clients that were answered; the longest idle first

    def __post_init__(self) -> None:
        self.queue = Queue(self.node.settings.queue_mib << 20)

    def arrive(self, channel: Channel) -> None:
        """Somebody whose certificate is that of an owner or a client."""
        if len(self._tasks) >= MAX_GUESTS and not self._make_room():
            channel.abort(f"{self.node.role} has {MAX_GUESTS} guests; come again in a moment")
            return
        self._own(self._host(channel))

    async def close(self) -> None:
        """Nobody is served any more; returns when their channels have ended."""
        await end_tasks(*self._tasks)

    # --- the queue --------------------------------------------------------------------------------------------

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
            self._own(self._send(request.peer, READY))

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

    # --- the owner --------------------------------------------------------------------------------------------

    async def weights(self, session: bytes) -> Iterator[tuple[str, Shared]]:
        """The owner's shares for this session, as soon as there is an owner; each is made when it is asked for.

        :raises MpcError: the owner is gone in the midst, or sent something else.
        """
        await self._until(lambda: self._owner is not None)
        assert self._owner is not None
        owner, wanted, party = self._owner, parameters(self.node.config), self.node.party
        await frames.send(owner, WANT, id=session)
        parts = sharing.weight_parts(wanted)
        check = frames.exactly(owner, WEIGHTS, [sharing.SEED])
        header, (seed,) = await frames.receive(owner, WEIGHTS, check, patient=True)
        if header.fields.get("id") != session:
            raise RemoteProtocolError(f"{owner.name}: its weights are for another session")
        explicit: deque[Bytes] = deque()
        for part in sharing.explicit_parts(parts, party):
            check = frames.exactly(owner, f"{WEIGHTS} {part.label}", [part])
            _, (raw,) = await frames.receive(owner, WEIGHTS, check)
            explicit.append(raw)
        await frames.send(owner, READY)
        given = (explicit.popleft() for _ in range(len(explicit)))  # so that each is dropped when it has been used
        shares = sharing.expand(parts, party, seed.tobytes(), given, WEIGHTS)
        return ((q.name, Shared(share, q.bits, q.frac, party)) for q, share in zip(wanted, shares, strict=True))

    # --- connections ------------------------------------------------------------------------------------------

    async def _host(self, channel: Channel) -> None:
        """One guest, from its coming to its going. Whoever breaks the protocol is turned away; the service goes on."""
        try:
            peer = await self.node.greet(channel)
            if peer.name == "owner":
                await self._host_owner(peer)
            else:
                await self._host_client(peer)
        except LocalBusyError as error:
            self.node.metrics.request_done("refused")
            channel.abort(f"{self.node.role}: {error}")
        except MpcError as error:
            self.node.say(f"turned away {channel.peer}: {error}", "warning")
            channel.abort(f"{self.node.role}: {error}")
        except asyncio.CancelledError:
            channel.abort(f"{self.node.role} is stopping")
            raise
        finally:
            with suppress(MpcError):
                await asyncio.shield(channel.close())

    async def _host_owner(self, peer: Peer) -> None:
        if self._owner is not None:
            self._owner.channel.abort("another owner has connected; one is enough")
        self._owner = peer
        self._changed.set()
        await peer.channel.gone()
        if self._owner is peer:
            self._owner = None

    async def _host_client(self, peer: Peer) -> None:
        """One request after the other, as long as the client asks in time."""
        end_s = time.monotonic() + LASTS_S
        await self._attend(peer, self._request(peer, lambda header: self._check(peer, header)))
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

                def check(header: Header) -> None:
                    self._check(peer, header)
                    self._idle.pop(peer.channel, None)
                    limit.reschedule(None)  # what has begun has the time that a first request has

                return await self._request(peer, check, patient=True)
        except TimeoutError:
            peer.channel.abort(f"{self.node.role}: no request in time; connect again")
            raise _Left from None
        except (ChannelError, RemoteAbort):
            raise _Left from None
        finally:
            self._idle.pop(peer.channel, None)

    def _make_room(self) -> bool:
        """Part from the client that has been idle for longest; False if none is."""
        channel = next(iter(self._idle), None)
        if channel is None:
            return False
        del self._idle[channel]
        channel.abort(f"{self.node.role} needs the place for others; connect again")
        return True

    async def _attend(self, peer: Peer, coming: Awaitable[Request]) -> None:
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

    async def _request(self, peer: Peer, check: frames.Check, *, patient: bool = False) -> Request:
        header, (mask, seed, *explicit) = await frames.receive(peer, REQUEST, check, patient=patient)
        name = header.fields.get("id")
        if not isinstance(name, bytes) or len(name) != 16:
            raise RemoteProtocolError(f"{peer.name}: want a request id of 16 bytes, got another")
        keep = ring.unpack_bits(ring.unpack(mask, part := header.parts[0]), part.shape).to(torch.int64)
        if not bool(keep.any(1).all()):
            raise RemoteProtocolError(f"{peer.name}: want a token in every sentence, got a sentence without")
        try:
            answer = wanted_answer(self.node.config, header.fields.get("answer"))
        except LocalInputError as error:
            raise RemoteProtocolError(f"{peer.name}, {error}") from error
        audit = header.fields.get("audit")
        if type(audit) is not bool:
            raise RemoteProtocolError(f"{peer.name}: want a request to say if it is audited, got one that does not")
        size = Size(part.shape[0], part.shape[1], answer, audit)
        return Request(name, peer, size, keep, seed.tobytes(), explicit, time.monotonic())

    def _check(self, peer: Peer, header: Header) -> None:
        """:raises RemoteProtocolError: the frame is not a mask of a size that we serve, and shares for it."""
        positions = self.node.config.numbers.longest
        first = header.parts[0] if header.parts else Part(0, ())
        if first.bits != 1 or len(first.shape) != 2:
            raise RemoteProtocolError(
                f"{peer.name}: want a mask of [batch, length] first, got {len(header.parts)} parts"
            )
        batch, length = first.shape
        if not 1 <= batch <= MAX_BATCH or not 1 <= length <= positions:
            raise RemoteProtocolError(
                f"{peer.name}: want up to {MAX_BATCH} sentences of {positions} tokens, got {batch} of {length}"
            )
        tokens = sharing.token_parts(self.node.config, Size(batch, length))
        mine = sharing.explicit_parts(tokens, self.node.party)
        frames.exactly(peer, REQUEST, [first, sharing.SEED, *mine])(header)

    async def _send(self, peer: Peer, name: str, arrays: Sequence[tuple[Part, Bytes]] = ()) -> None:
        """What a client does not take is its own loss."""
        with suppress(MpcError):
            await frames.send(peer, name, arrays)

    def _own(self, work: Coroutine[None, None, None]) -> None:
        """Start `work`, and hold its task as long as it runs."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()


def _nothing(header: Header) -> memoryview:
    """A client that has asked has nothing more to say; a frame left unread would hide its end."""
    raise RemoteProtocolError(f"client: want nothing behind its request, got {header.kind} frame {header.label[:80]!r}")
