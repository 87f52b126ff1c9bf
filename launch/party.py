"""A computing server: takes the owner's weight shares once, then serves clients one request after the other.

server0 leads: it orders each run from the dealer and from server1, which only follows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from launch import frames, report, sharing
from launch.node import Node, end, peak_bytes
from launch.wire_names import DONE, IDLE, IDLE_S, LOAD_STREAM, ORDER, READY, REQUEST, RESULT, STOP, TOKENS, WEIGHTS
from models.bert import Model, infer, load
from models.parameters import parameters
from models.program import Plans, Size
from mpcnet import ring
from mpcnet.channel import Channel
from mpcnet.errors import ChannelTimeout, LocalInputError, MpcError, RemoteProtocolError
from mpcnet.ledger import Ledger
from mpcnet.mesh import Mesh, Peer, Seed, agree_seed
from mpcnet.prg import Domain, Guard, Keystream
from mpcnet.randomness import ServerSource
from mpcnet.rounds import Part, Program
from mpcnet.session import Stock, Stream, run_server
from mpcnet.wire import Header
from protocols.party import Party
from protocols.share import Shared

T = TypeVar("T")
MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class Request:
    """A client that waits for an answer."""

    peer: Peer
    size: Size
    keep: Tensor


@dataclass(slots=True)
class Guests:
    """Owner and clients as they arrive, before anybody asks for them."""

    node: Node
    weights: asyncio.Future[dict[str, Shared]]
    queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    requests: dict[bytes, asyncio.Future[Request]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    peers: list[Peer] = field(default_factory=list)

    def arrive(self, channel: Channel) -> None:
        task = asyncio.create_task(self._greet(channel))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def request(self, name: bytes) -> asyncio.Future[Request]:
        return self.requests.setdefault(name, asyncio.get_running_loop().create_future())

    async def _greet(self, channel: Channel) -> None:
        """A guest that breaks the protocol before it is served is turned away; the service goes on."""
        try:
            peer = await self.node.greet(channel)
            self.peers.append(peer)
            if channel.peer == "owner":
                await self._take_weights(peer)
            else:
                await self._take_request(peer)
        except MpcError as error:
            self.node.say(f"turned away {channel.peer}: {error}")
            channel.abort(f"{self.node.role}: {error}")
            if channel.peer == "owner" and not self.weights.done():
                self.weights.set_exception(error)

    async def _take_weights(self, peer: Peer) -> None:
        if self.weights.done():
            raise RemoteProtocolError(f"{peer.name}: the weights are here already; restart the parties to change them")
        wanted, party = parameters(self.node.config), party_number(self.node)
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

    async def _take_request(self, peer: Peer) -> None:
        shape = self.node.config.shape

        def check(header: Header) -> None:
            sent = [part for part in header.parts if part.bits == 1 and len(part.shape) == 2]
            if len(sent) != 1 or len(header.parts) != 1:
                raise RemoteProtocolError(f"{peer.name}: want one mask [batch, length], got {header.parts}")
            batch, length = sent[0].shape
            if not 1 <= batch <= MAX_BATCH or not 1 <= length <= shape.positions:
                raise RemoteProtocolError(
                    f"{peer.name}: want up to {MAX_BATCH} x {shape.positions} tokens, got {batch} x {length}"
                )

        header, (raw,) = await frames.receive(peer, REQUEST, check)
        name = header.fields.get("id")
        if not isinstance(name, bytes) or len(name) != 16:
            raise RemoteProtocolError(f"{peer.name}: a request id has 16 bytes")
        part = header.parts[0]
        keep = ring.unpack(raw, part).to(torch.int64)
        if not bool(keep.any(1).all()):
            raise RemoteProtocolError(f"{peer.name}: a sentence has no token")
        waiting = self.request(name)
        if waiting.done():
            raise RemoteProtocolError(f"{peer.name}: this request id has been used")
        waiting.set_result(Request(peer, Size(*part.shape), keep))
        self.queue.put_nowait(name)


def party_number(node: Node) -> int:
    return 0 if node.role == "server0" else 1


@dataclass(slots=True)
class Server:
    """A connected server."""

    node: Node
    mesh: Mesh
    guests: Guests
    plans: Plans
    seed: Seed
    guard: Guard = field(default_factory=Guard)
    stream: int = LOAD_STREAM

    @property
    def party(self) -> int:
        return party_number(self.node)

    @property
    def dealer(self) -> Peer:
        return self.mesh.peers["dealer"]

    @property
    def other(self) -> Peer:
        return self.mesh.peers["server1" if self.party == 0 else "server0"]

    async def run(self, build: Any, plan_stream: Stream, stock: Stock) -> tuple[Any, Ledger]:
        """Run a program on a stream of its own; `build` makes the coroutine for a party."""
        domain = Domain(self.dealer.session, plan_stream.number, "masks")
        source = ServerSource(self.party, Keystream(self.seed.reveal(), domain, self.guard))
        program: Program[Any] = build(Party(source))
        return await run_server(program, source, plan_stream, self.other, stock, time.perf_counter)

    def stock(self, stream: Stream) -> Stock:
        stock = Stock(stream, self.dealer, self.party, self.node.settings.stock_mib << 20)
        stock.start()
        return stock

    async def load(self) -> Model:
        """Wait for the owner and open the weights under their standing masks."""
        self.node.say("waiting for the model owner")
        shares = await self._within(self.guests.weights, "owner", "the weights")
        if self.party == 0:
            await self._order(LOAD_STREAM, b"", None)
        else:
            await self._next_order()
        stream = Stream(LOAD_STREAM, self.plans.load)
        stock = self.stock(stream)
        start = time.perf_counter()
        model, ledger = await self.run(lambda p: load(p, self.node.config, shares), stream, stock)
        total = ledger.total()
        self.node.say(
            f"weights opened under masks: {total.rounds} rounds, {total.sent_bytes / 1e6:.1f} MB each way, "
            f"{time.perf_counter() - start:.1f} s"
        )
        loaded: Model = model
        return loaded

    async def serve(self, model: Model, requests: int) -> None:
        """Serve so many requests (0: until stopped)."""
        served = 0
        while not requests or served < requests:
            name = await self._next_request() if self.party == 0 else await self._next_order()
            if name is None:
                return
            request = await self._within(self.guests.request(name), "client", "its request")
            del self.guests.requests[name]
            await self._answer(model, request, name)
            served += 1
        if self.party == 0:
            await frames.send(self.other, ORDER, what=STOP)
            await frames.send(self.dealer, ORDER, what=STOP)

    async def _answer(self, model: Model, request: Request, name: bytes) -> None:
        self.stream += 1
        if self.party == 0:
            await self._order(self.stream, name, request.size)
        start = time.perf_counter()
        stream = Stream(self.stream, await asyncio.to_thread(self.plans.infer, request.size))
        stock = self.stock(stream)
        await stock.ready()
        offline_s = time.perf_counter() - start
        await frames.send(request.peer, READY)
        tokens = await self._tokens(request)
        start = time.perf_counter()
        result, ledger = await self.run(lambda p: infer(p, model, tokens, request.keep), stream, stock)
        online_s = time.perf_counter() - start
        facts: dict[str, Any] = {"seconds_offline": offline_s, "seconds_online": online_s, "peak_bytes": peak_bytes()}
        if self.party == 0:
            header, _ = await frames.receive(self.dealer, DONE, frames.exactly(self.dealer, DONE, ()))
            facts["dealer"] = dict(header.fields)
        text = json.dumps(report.measured(ledger, facts)).encode()
        await frames.send(
            request.peer, RESULT,
            [(Part(result.bits, result.shape), ring.pack(result.value, result.bits)),
             (Part(8, (len(text),)), np.frombuffer(text, np.uint8))],
        )  # fmt: skip
        total = ledger.total()
        self.node.say(
            f"request {self.stream}: {request.size.batch} x {request.size.length} tokens, {total.rounds} rounds, "
            f"{total.sent_bytes / 1e6:.1f} MB each way, offline {offline_s:.2f} s, online {online_s:.2f} s"
        )

    async def _tokens(self, request: Request) -> Shared:
        """The client's one-hot tokens, as this server's share."""
        config, peer = self.node.config, request.peer
        rows, bits = config.shape.vocab + config.shape.types, config.numbers.table_bits
        parts = sharing.token_parts(request.size, rows, bits)
        mine = sharing.explicit_parts(parts, self.party)
        check = frames.exactly(peer, TOKENS, [sharing.SEED, *mine])
        _, (seed, *explicit) = await frames.receive(peer, TOKENS, check)
        shares = sharing.expand(parts, self.party, seed.tobytes(), explicit, TOKENS)
        return Shared(torch.cat(shares, 1), bits, 0, self.party)

    async def _next_request(self) -> bytes:
        """server0: the next client in the queue; the other parties see that we are alive."""
        while True:
            try:
                return await asyncio.wait_for(self.guests.queue.get(), IDLE_S)
            except TimeoutError:
                await frames.send(self.other, ORDER, what=IDLE)
                await frames.send(self.dealer, ORDER, what=IDLE)

    async def _order(self, stream: int, name: bytes, size: Size | None) -> None:
        """server0: tell the others which program runs next."""
        what = "load" if size is None else "infer"
        batch, length = (size.batch, size.length) if size else (0, 0)
        for peer in (self.other, self.dealer):
            await frames.send(peer, ORDER, what=what, stream=stream, id=name, batch=batch, length=length)

    async def _next_order(self) -> bytes | None:
        """server1: the request that server0 starts next; None to stop."""
        while True:
            header, _ = await frames.receive(self.other, ORDER, frames.exactly(self.other, ORDER, ()))
            what, name = header.fields.get("what"), header.fields.get("id")
            if what == STOP:
                return None
            if what in ("load", "infer") and isinstance(name, bytes):
                return name
            if what != IDLE:
                raise RemoteProtocolError(f"{self.other.name}: unknown order {what!r}")

    async def _within(self, waiting: Awaitable[T], who: str, what: str) -> T:
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(waiting)), self.node.settings.timeout_s)
        except TimeoutError:
            raise ChannelTimeout(
                f"{self.node.role} waited {self.node.settings.timeout_s:g} s for {who} to send {what}; is it running?"
            ) from None


async def main(node: Node, requests: int) -> int:
    """A server's whole life.

    :raises MpcError: anything that ended it early; every peer has been told.
    """
    if node.role not in ("server0", "server1"):
        raise LocalInputError(f"party: want role server0 or server1, got {node.role}")
    guests = Guests(node, asyncio.get_running_loop().create_future())
    mesh = await node.mesh(guests.arrive)
    try:
        seed = await agree_seed(mesh.peers["dealer"], "masks")
        plans = await asyncio.to_thread(Plans, node.config)
        server = Server(node, mesh, guests, plans, seed)
        model = await server.load()
        await server.serve(model, requests)
    except MpcError as error:
        end([*mesh.peers.values(), *guests.peers], node.role, error)
        raise
    for peer in guests.peers:
        await peer.channel.close()
    await mesh.close()
    return 0
