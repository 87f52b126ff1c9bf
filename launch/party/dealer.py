"""The assistant T: deals correlated randomness for the runs that server0 orders. It sees shapes and randomness only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

import torch

from mpcnet.aio.tasks import race, together
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.budget import Budget, of_dealer
from mpcnet.launch.party.control_frames import LOAD_STREAM, ORDER
from mpcnet.launch.party.expiry import tell_expiry
from mpcnet.launch.party.follower import deal_order
from mpcnet.launch.party.heap import loading, release_freed
from mpcnet.launch.party.node import Node, peak_bytes
from mpcnet.launch.party.service import Service
from mpcnet.models.families.loaded import Model, load
from mpcnet.models.private.inference import audited_inference
from mpcnet.models.private.program import Plans, Size, parameter_shapes, token_shapes
from mpcnet.protocols.party import Party
from mpcnet.randomness.dealer import Corrections, DealerSource, deal
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.rounds import Program
from mpcnet.runtime.dealing import run_dealer
from mpcnet.runtime.dealt_sum import DealtSum
from mpcnet.runtime.stream import Stream
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer, Seed, agree_seed
from mpcnet.transport.rendezvous import REPLICAS, SERVERS, join
from mpcnet.transport.wire import Header, Scalar

T = TypeVar("T")


async def main(node: Node) -> int:
    """The dealer's whole life.

    :raises LocalError: a setting, a file or a port of ours is wrong; trouble with others does not end it.
    """
    if node.role != "dealer":
        raise LocalInputError(f"dealer: want role dealer, got {node.role}")
    plans = await asyncio.to_thread(Plans, node.config)
    budget = await asyncio.to_thread(of_dealer, node.settings, plans)

    async def session(peers: Mapping[str, Peer]) -> None:
        servers = [peers[name] for name in SERVERS]
        seeds = await asyncio.gather(*(agree_seed(peer, "masks") for peer in servers))
        name = await join(node.role, peers)
        node.say(f"connected with {', '.join(peers)}: session {name.hex()[:8]}", session=name.hex())
        node.ready()
        await _Dealer(node, servers, seeds, plans, budget, name).serve()

    await together(Service(node, _nobody).run(session), tell_expiry(node))
    return 0


def _nobody(channel: Channel) -> None:
    channel.abort("the dealer serves neither owner nor clients")


class _Dealer:
    """Seeds with both servers, and the standing masks of the loaded weights, for one session."""

    def __init__(
        self, node: Node, peers: Sequence[Peer], seeds: Sequence[Seed], plans: Plans, budget: Budget, session: bytes
    ) -> None:
        self._node, self._peers, self._seeds, self._plans, self._budget = node, peers, seeds, plans, budget
        self._session = session
        self._guard = Guard()
        self._model: Model | None = None
        self._orders: asyncio.Queue[Header] = asyncio.Queue(64)  # server0 waits, if it orders more than that ahead
        self._idle = asyncio.Event()  # no run is under way
        self._idle.set()

    async def serve(self) -> None:
        """Deal for one order after the other, until asked to stop. A run that has begun is finished first.

        What is dealt ahead then is not: it ends with the session, and a run that began behind it would be cut off.
        """
        await race(self._at_rest(), self._work(), self._listen())

    async def _listen(self) -> None:
        while True:
            order = await frames.receive_bare(self._peers[0], ORDER, patient=True)
            match order.fields.get("what"):
                case "begin":
                    self._idle.clear()
                case "end":
                    self._idle.set()
                case _:
                    await self._orders.put(order)

    async def _at_rest(self) -> None:
        await self._node.stopping.wait()
        await self._idle.wait()

    async def _work(self) -> None:
        while True:
            await self._follow(await self._orders.get())

    async def _follow(self, order: Header) -> None:
        what = order.fields.get("what")
        if what == "load":
            shapes, config = parameter_shapes(self._node.config, "meta"), self._node.config
            stream = Stream(LOAD_STREAM, self._plans.load)
            with loading():
                [self._model] = await self._run([lambda p: load(p, config, shapes.items())], [stream])
            await asyncio.to_thread(release_freed)
        elif what == "deal" and self._model is not None:
            number, sizes = deal_order(order, self._node.config)
            await self._deal(self._model, number, sizes)
        else:
            raise RemoteProtocolError(f"{self._peers[0].name}: cannot follow the order {what!r} now")

    async def _deal(self, model: Model, number: int, sizes: Sequence[Size]) -> None:
        start, config = time.perf_counter(), self._node.config
        plans = [await asyncio.to_thread(self._plans.infer, size) for size in sizes]
        streams = [Stream(number + index, plan) for index, plan in enumerate(plans)]

        def build(size: Size) -> Callable[[Party], Program[object]]:
            # Lengths of sentences are public but no business of the dealer's: its work does not depend on them.
            keep = torch.ones(size.batch, size.length, dtype=torch.int64)
            return lambda p: audited_inference(p, model, token_shapes(config, size), keep, *size.kind)

        await self._run([build(size) for size in sizes], streams)
        seconds = time.perf_counter() - start
        shown = " + ".join(f"{size.batch} x {size.length}" for size in sizes)
        self._node.say(f"run {number}: dealt for {shown} tokens in {seconds:.2f} s", run=number, seconds=seconds)

    async def _run(self, builds: Sequence[Callable[[Party], Program[T]]], streams: Sequence[Stream]) -> list[T]:
        """Deal for programs side by side; `builds` make the coroutines for a party."""
        start, cpu = time.perf_counter(), time.process_time()

        def facts() -> dict[str, Scalar]:
            seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
            return {**seconds, "peak_bytes": peak_bytes(), "run_bytes": self._budget.run_bytes}

        dealings = [self._dealing(make, stream) for make, stream in zip(builds, streams, strict=True)]
        sums = [self._sums(party, streams) for party in range(len(self._peers))]
        return await run_dealer(dealings, streams, self._peers, facts, sums)

    def _sums(self, party: int, streams: Sequence[Stream]) -> list[DealtSum]:
        """Of what this server gets; of nothing if it has no replica."""
        if REPLICAS[party] not in self._node.settings.replicas:
            return []
        peer, seed = self._peers[party], self._seeds[party]
        return [DealtSum(seed.reveal(), peer.session, stream.number) for stream in streams]

    def _dealing(self, make: Callable[[Party], Program[T]], stream: Stream) -> Generator[Corrections, None, T]:
        source = self._source(stream.number)
        return deal(lambda: make(Party(source, combine=self._node.combine)), source)

    def _source(self, stream: int) -> DealerSource:
        first, second = (
            Keystream(seed.reveal(), Domain(peer.session, stream, "masks"), self._guard)
            for seed, peer in zip(self._seeds, self._peers, strict=True)
        )
        return DealerSource((first, second), Hashes.of(self._session, stream))
