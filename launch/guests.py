"""Owner and clients at a server: greeted as they come, and turned away if they break the protocol before their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from launch import frames, sharing
from launch.node import Node
from launch.wire_names import IDLE, READY, REQUEST, WEIGHTS
from models.parameters import parameters
from models.program import Size
from mpcnet import ring
from mpcnet.channel import Channel
from mpcnet.errors import MpcError, RemoteProtocolError
from mpcnet.mesh import Peer
from mpcnet.wire import Header
from protocols.share import Shared

MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class Request:
    """A client that waits for an answer; `taken` is set when its turn has come."""

    peer: Peer
    size: Size
    keep: Tensor
    taken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Guests:
    """Who has come and not yet left: `owner_came` and `weights` are the owner's, `queue` and `requests` clients'."""

    node: Node
    weights: asyncio.Future[dict[str, Shared]]
    owner_came: asyncio.Event = field(default_factory=asyncio.Event)
    queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    requests: dict[bytes, asyncio.Future[Request]] = field(default_factory=dict)
    peers: set[Peer] = field(default_factory=set)
    _greetings: set[asyncio.Task[None]] = field(default_factory=set)
    _partings: set[asyncio.Task[None]] = field(default_factory=set)

    def arrive(self, channel: Channel) -> None:
        if channel.peer == "owner":
            self.owner_came.set()
        _own(self._greetings, self._greet(channel))

    def leave(self, peer: Peer) -> None:
        """We are done with this guest: its channel is closed, in order and meanwhile."""
        self.peers.discard(peer)
        _own(self._partings, self._part(peer))

    async def close(self) -> None:
        """Nobody is served any more; returns when the last frames of those who were have left."""
        for greeting in self._greetings:
            greeting.cancel()
        for peer in list(self.peers):
            peer.channel.abort(f"{self.node.role} has ended")
            self.leave(peer)
        await asyncio.gather(*self._greetings, *self._partings, return_exceptions=True)

    async def next(self) -> bytes:
        """The id of the next request whose client is still there."""
        while True:
            name = await self.queue.get()
            if name in self.requests:
                with suppress(MpcError):
                    await frames.send(self.requests[name].result().peer, IDLE)
                    return name

    def request(self, name: bytes) -> asyncio.Future[Request]:
        return self.requests.setdefault(name, asyncio.get_running_loop().create_future())

    async def _greet(self, channel: Channel) -> None:
        """A guest that breaks the protocol before it is served is turned away; the service goes on."""
        try:
            peer = await self.node.greet(channel)
            self.peers.add(peer)
            if channel.peer == "owner":
                await self._take_weights(peer)
            else:
                await self._take_request(peer)
        except MpcError as error:
            self.node.say(f"turned away {channel.peer}: {error}")
            channel.abort(f"{self.node.role}: {error}")
            self.peers = {peer for peer in self.peers if peer.channel is not channel}
            if channel.peer == "owner" and not self.weights.done():
                self.weights.set_exception(error)
                self.weights.exception()  # seen, even if nobody waits for them any more

    async def _part(self, peer: Peer) -> None:
        try:
            await peer.channel.close()
        except MpcError as error:
            self.node.say(f"parting from {peer.name}: {error}")

    async def _take_weights(self, peer: Peer) -> None:
        if self.weights.done():
            raise RemoteProtocolError(f"{peer.name}: the weights are here already; restart the parties to change them")
        wanted, party = parameters(self.node.config), self.node.party
        parts = sharing.weight_parts(wanted)
        _, (seed,) = await frames.receive(peer, WEIGHTS, frames.exactly(peer, WEIGHTS, [sharing.SEED]))
        explicit = []
        for part in sharing.explicit_parts(parts, party):
            _, (raw,) = await frames.receive(peer, WEIGHTS, frames.exactly(peer, f"{WEIGHTS} {part.label}", [part]))
            explicit.append(raw)
        shares = sharing.expand(parts, party, seed.tobytes(), explicit, WEIGHTS)
        self.weights.set_result(
            {q.name: Shared(share, q.bits, q.frac, party) for q, share in zip(wanted, shares, strict=True)}
        )
        await frames.send(peer, READY)
        self.leave(peer)

    async def _take_request(self, peer: Peer) -> None:
        """Queue the client's request, and keep its connection alive until its turn comes."""
        header, (raw,) = await frames.receive(peer, REQUEST, lambda header: self._check_mask(peer, header))
        name = header.fields.get("id")
        if not isinstance(name, bytes) or len(name) != 16:
            raise RemoteProtocolError(f"{peer.name}: want a request id of 16 bytes, got another")
        part = header.parts[0]
        keep = ring.unpack(raw, part).to(torch.int64)
        if not bool(keep.any(1).all()):
            raise RemoteProtocolError(f"{peer.name}: want a token in every sentence, got a sentence without")
        if self.request(name).done():
            raise RemoteProtocolError(f"{peer.name}: this request id has been used")
        request = Request(peer, Size(*part.shape), keep)
        self.request(name).set_result(request)
        self.queue.put_nowait(name)
        try:
            await frames.meanwhile(request.taken.wait(), [peer], self.node.beat_s)
        except MpcError:
            self.requests.pop(name, None)
            raise

    def _check_mask(self, peer: Peer, header: Header) -> None:
        """:raises RemoteProtocolError: the frame is not one mask of a size that we serve."""
        positions = self.node.config.shape.positions
        sent = [part.shape for part in header.parts if part.bits == 1 and len(part.shape) == 2]
        if len(sent) != 1 or len(header.parts) != 1:
            raise RemoteProtocolError(f"{peer.name}: want one mask of [batch, length], got {len(header.parts)} parts")
        batch, length = sent[0]
        if not 1 <= batch <= MAX_BATCH or not 1 <= length <= positions:
            raise RemoteProtocolError(
                f"{peer.name}: want up to {MAX_BATCH} sentences of {positions} tokens, got {batch} of {length}"
            )


def _own(tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
    """Start `work`, and hold its task as long as it runs."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
