"""The assistant T: deals correlated randomness for the runs that server0 orders. It sees shapes and randomness only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import torch

from launch import frames
from launch.node import Node, end, peak_bytes
from launch.wire_names import DONE, LOAD_STREAM, ORDER, STOP
from models.bert import Model, infer, load
from models.program import Plans, Size, parameter_shapes, token_shape
from mpcnet.dealer import DealerSource, deal
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.mesh import Peer, agree_seed
from mpcnet.prg import Domain, Guard, Keystream
from mpcnet.session import Stream, run_dealer
from mpcnet.wire import Header
from protocols.party import Party

SERVERS = ("server0", "server1")


async def main(node: Node) -> int:
    """The dealer's whole life: until server0 says stop.

    :raises MpcError: anything that ended it early; both servers have been told.
    """
    if node.role != "dealer":
        raise LocalInputError(f"dealer: want role dealer, got {node.role}")
    mesh = await node.mesh()
    try:
        peers = [mesh.peers[name] for name in SERVERS]
        seeds = await asyncio.gather(*(agree_seed(peer, "masks") for peer in peers))
        plans = await asyncio.to_thread(Plans, node.config)
        await _Dealer(node, peers, [seed.reveal() for seed in seeds], plans).serve()
    except BaseException as error:
        await end(mesh.peers.values(), node.role, error)
        raise
    await mesh.close()
    return 0


class _Dealer:
    """Seeds with both servers, and the standing masks of the loaded weights."""

    def __init__(self, node: Node, peers: list[Peer], seeds: list[bytes], plans: Plans) -> None:
        self._node, self._peers, self._seeds, self._plans = node, peers, seeds, plans
        self._guard = Guard()
        self._model: Model | None = None

    async def serve(self) -> None:
        """Deal for one order after the other; listen to server0 meanwhile, or its end would go unnoticed."""
        order = asyncio.create_task(self._order())
        try:
            while (header := await order).fields.get("what") != STOP:
                order = asyncio.create_task(self._order())
                await self._follow(header)
        finally:
            order.cancel()
            await asyncio.gather(order, return_exceptions=True)

    async def _order(self) -> Header:
        leader = self._peers[0]
        header, _ = await frames.receive(leader, ORDER, frames.exactly(leader, ORDER, ()))
        return header

    async def _follow(self, order: Header) -> None:
        what = order.fields.get("what")
        if what == "load":
            self._model = await self._load()
        elif what == "infer" and self._model is not None:
            positions = self._node.config.shape.positions
            limits = {"stream": 1 << 62, "batch": 1 << 16, "length": positions}
            number, batch, length = (frames.whole_number(order, name, 1, limit) for name, limit in limits.items())
            await self._infer(self._model, number, Size(batch, length))
        else:
            raise RemoteProtocolError(f"{self._peers[0].name}: cannot follow the order {what!r} now")

    async def _load(self) -> Model:
        config = self._node.config
        party = self._party(LOAD_STREAM)
        shapes = parameter_shapes(config, "meta")
        model = await self._run(load(party, config, shapes), party, Stream(LOAD_STREAM, self._plans.load))
        loaded: Model = model
        return loaded

    async def _infer(self, model: Model, number: int, size: Size) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        config = self._node.config
        plan = await asyncio.to_thread(self._plans.infer, size)
        party = self._party(number)
        # Lengths of sentences are public but no business of the dealer's: its work does not depend on them.
        keep = torch.ones(size.batch, size.length, dtype=torch.int64)
        await self._run(infer(party, model, token_shape(config, size), keep), party, Stream(number, plan))
        seconds = time.perf_counter() - start
        self._node.say(f"request {number}: dealt for {size.batch} x {size.length} tokens in {seconds:.2f} s")
        facts: Mapping[str, Any] = {
            "seconds": seconds, "cpu_seconds": time.process_time() - cpu, "peak_bytes": peak_bytes(),
        }  # fmt: skip
        await frames.send(self._peers[0], DONE, **facts)

    def _party(self, stream: int) -> Party:
        first, second = (
            Keystream(seed, Domain(peer.session, stream, "masks"), self._guard)
            for seed, peer in zip(self._seeds, self._peers, strict=True)
        )
        return Party(DealerSource((first, second)))

    async def _run(self, program: Any, party: Party, stream: Stream) -> Any:
        source = party.source
        assert isinstance(source, DealerSource)
        return await run_dealer(deal(program, source), stream, self._peers)
