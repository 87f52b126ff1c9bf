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

from launch import frames, report, sharing
from launch.guests import Guests, Request
from launch.node import Node, end, peak_bytes
from launch.wire_names import DONE, LOAD_STREAM, ORDER, READY, RESULT, STOP, TOKENS
from models.bert import Model, infer, load
from models.program import Plans, Size
from mpcnet import ring
from mpcnet.errors import ChannelTimeout, LocalInputError, RemoteProtocolError, describe
from mpcnet.ledger import Ledger
from mpcnet.mesh import Mesh, Peer, Seed, agree_seed
from mpcnet.prg import Domain, Guard, Keystream
from mpcnet.randomness import ServerSource
from mpcnet.rounds import Part, Program
from mpcnet.session import Stock, Stream, run_server
from protocols.party import Party
from protocols.share import Shared

T = TypeVar("T")


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
        return self.node.party

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
        shares = await self._between_runs(self._weights())
        if self.party == 0:
            await self._order(LOAD_STREAM, b"", None)
        else:
            await self._next_order()
        stream = Stream(LOAD_STREAM, self.plans.load)
        stock = self.stock(stream)
        start = time.perf_counter()
        model, ledger = await self.run(lambda p: load(p, self.node.config, shares), stream, stock)
        shares.clear()  # the model holds those that it still needs
        total = ledger.total()
        self.node.say(
            f"weights opened under masks: {total.rounds} rounds, {total.sent_bytes / 1e6:.1f} MB each way, "
            f"{time.perf_counter() - start:.1f} s"
        )
        loaded: Model = model
        return loaded

    async def _weights(self) -> dict[str, Shared]:
        """The owner must come in time; how long its transfer takes depends on the model, and its channel watches it."""
        await self._within(self.guests.owner_came.wait(), "owner", "the weights")
        return await asyncio.shield(self.guests.weights)

    async def serve(self, model: Model, requests: int) -> None:
        """Serve so many requests (0: until stopped). server1 goes on until server0 stops it."""
        served = 0
        while self.party == 1 or not requests or served < requests:
            name = await self._next_request() if self.party == 0 else await self._next_order()
            if name is None:
                return
            request = await self._within(self.guests.request(name), "client", "its request")
            self.guests.requests.pop(name, None)
            request.taken.set()
            waiting = [request.peer, self.dealer] if self.party == 0 else [request.peer]
            await frames.meanwhile(self._answer(model, request, name), waiting, self.node.beat_s)
            self.guests.leave(request.peer)
            served += 1
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
        self.node.say(f"request {self.stream}: {request.size.batch} x {request.size.length} tokens, running")
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
            f"request {self.stream}: answered in {total.rounds} rounds, {total.sent_bytes / 1e6:.1f} MB each way, "
            f"offline {offline_s:.2f} s, online {online_s:.2f} s"
        )

    async def _tokens(self, request: Request) -> Shared:
        """The client's rows, as this server's share."""
        config, peer = self.node.config, request.peer
        parts = sharing.token_parts(config, request.size)
        mine = sharing.explicit_parts(parts, self.party)
        check = frames.exactly(peer, TOKENS, [sharing.SEED, *mine])
        _, (seed, *explicit) = await frames.receive(peer, TOKENS, check)
        shares = sharing.expand(parts, self.party, seed.tobytes(), explicit, TOKENS)
        return Shared(torch.cat(shares, 1), config.numbers.table_bits, config.input_frac, self.party)

    async def _next_request(self) -> bytes:
        """server0: the next client in the queue; the other parties see that we are alive."""
        return await self._between_runs(self.guests.next())

    async def _order(self, stream: int, name: bytes, size: Size | None) -> None:
        """server0: tell the others which program runs next."""
        what = "load" if size is None else "infer"
        batch, length = (size.batch, size.length) if size else (0, 0)
        for peer in (self.other, self.dealer):
            await frames.send(peer, ORDER, what=what, stream=stream, id=name, batch=batch, length=length)

    async def _next_order(self) -> bytes | None:
        """server1: the request that server0 starts next; None to stop."""
        header, _ = await frames.receive(self.other, ORDER, frames.exactly(self.other, ORDER, ()))
        what, name = header.fields.get("what"), header.fields.get("id")
        if what == STOP:
            return None
        if what in ("load", "infer") and isinstance(name, bytes):
            return name
        raise RemoteProtocolError(describe(f"{self.other.name}, order", "load, infer or stop", what))

    async def _between_runs(self, work: Awaitable[T]) -> T:
        """Wait for `work`; server0, for which the other parties wait now, shows them that it is alive."""
        peers = [self.other, self.dealer] if self.party == 0 else []
        return await frames.meanwhile(work, peers, self.node.beat_s)

    async def _within(self, waiting: Awaitable[T], who: str, what: str) -> T:
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), self.node.settings.timeout_s)
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
    except BaseException as error:
        await end([*mesh.peers.values(), *guests.peers], node.role, error)
        raise
    finally:
        await mesh.stop_listening()
        await guests.close()
    await mesh.close()
    return 0
