"""Bundles of small programs for servers and a dealer over channels in memory, and an event loop of invented time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from around import Around
from limits import LIMIT_S
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.ledger import Cost, Ledger
from mpcnet.randomness.dealer import Corrections, DealerSource, deal
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.meter import MeterSource, measure
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource, Source
from mpcnet.rounds import Exchange, Part, Program
from mpcnet.runtime.correction_buffer import CorrectionBuffer, CorrectionReceiver
from mpcnet.runtime.dealing import run_dealer
from mpcnet.runtime.prefill import prefill
from mpcnet.runtime.session import run_streams
from mpcnet.runtime.stream import Stream
from mpcnet.transport.channel import Channel, memory_pair
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

SESSION = bytes(range(16))
LIGHT, HEAVY = 3, 10_000  # words of 8 bytes: below and above what goes to a thread
Hook = Callable[[int], None]


@dataclass(frozen=True)
class Shape:
    """A program of so many rounds; `dealt` corrections in each segment; servers call `step` at the start of each."""

    rounds: int
    words: int = LIGHT
    dealt: int = 1
    step: Hook = field(default=lambda sequence: None)

    async def program(self, source: Source) -> Tensor:
        """Opens r + f(r) + ... of fresh masks r, and adds it all up."""
        total = ring.zeros((self.words,), 64)
        for sequence in range(self.rounds + 1):
            if isinstance(source, ServerSource):
                self.step(sequence)
            mask = source.mask((self.words,), 64)
            share, label = mask.share, f"op{sequence % 3}"
            for _ in range(self.dealt):
                share = share + source.deal(lambda r: r * 3, [mask], (self.words,), 64, label).share
            if sequence < self.rounds:
                (opened,) = await Exchange((Part(64, (self.words,), label),), (share,))
                total = opened if opened.device.type == "meta" else total + opened
        return total

    def stream(self, number: int) -> Stream:
        source = MeterSource()
        return Stream(number, measure(self.program(source), source))


def keystream(party: int, number: int) -> Keystream:
    return Keystream(bytes([party]) * 32, Domain(SESSION, number, "test"), Guard())


class Bundle:
    """Streams numbered from `first` on, one for each shape."""

    def __init__(self, *shapes: Shape, first: int = 1) -> None:
        self.shapes = shapes
        self.streams = [shape.stream(first + index) for index, shape in enumerate(shapes)]

    def servers(self, party: int) -> tuple[list[Program[Tensor]], list[ServerSource]]:
        sources = [
            ServerSource(party, keystream(party, s.number), keystream(2, s.number), Hashes.of(SESSION, s.number))
            for s in self.streams
        ]
        return [shape.program(source) for shape, source in zip(self.shapes, sources, strict=True)], sources

    def dealings(self) -> list[Any]:
        sources = [
            DealerSource((keystream(0, s.number), keystream(1, s.number)), Hashes.of(SESSION, s.number))
            for s in self.streams
        ]
        return [
            deal(partial(shape.program, source), source) for shape, source in zip(self.shapes, sources, strict=True)
        ]

    def corrections(self) -> list[tuple[int, int, Corrections]]:
        """What the dealer makes, in the order of a bundle, written out: index, segment, both servers' corrections."""
        dealings = self.dealings()
        longest = max(shape.rounds for shape in self.shapes)
        return [
            (index, sequence, next(dealings[index]))
            for sequence in range(longest + 1)
            for index, shape in enumerate(self.shapes)
            if sequence <= shape.rounds
        ]


class Wire(Around):
    """Notes the frames that are sent; `change` may replace what is sent."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.sent: list[Header] = []
        self.change: Callable[[Header], Sequence[Header]] = lambda header: [header]

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        for changed in self.change(header):
            self.sent.append(changed)
            await self.inner.send(changed, *payload, patient=patient)


def peers(first: str, second: str, **options: Any) -> tuple[Peer, Peer]:
    """Both ends of a channel, each a `Wire`."""
    ends = zip((first, second), memory_pair(first, second, **options), strict=True)
    a, b = (Peer(Wire(channel), role, SESSION, (b"", b"")) for role, channel in ends)
    return a, b


def wire(peer: Peer) -> Wire:
    assert isinstance(peer.channel, Wire)
    return peer.channel


def replaced(peer: Peer, channel: Channel) -> Peer:
    return Peer(channel, peer.own_role, peer.session, peer.nonces)


def buffer_without_dealer(bundle: Bundle, party: int) -> CorrectionBuffer:
    """For programs for which nothing is dealt."""
    _, dealer = peers("dealer", f"server{party}")
    return CorrectionReceiver(dealer, party, 0, 1.0).expect(bundle.streams)


async def serve(bundle: Bundle, party: int, peer: Peer, clock: Callable[[], float] = lambda: 0.0) -> list[Any]:
    """A bundle for which nothing is dealt, at this server."""
    programs, sources = bundle.servers(party)
    return await run_streams(programs, sources, bundle.streams, peer, buffer_without_dealer(bundle, party), clock)


class Trio:
    """server0, server1 and the dealer, with a receiver at each server."""

    def __init__(self, *limits_bytes: int, patience_s: float = 5.0, all_tapes: Sequence[Any] = (None, None)) -> None:
        """`limits_bytes` of server0 and server1; one for both; none: all fits."""
        self.limits_bytes = (limits_bytes or (1 << 30,)) * (1 if len(limits_bytes) == 2 else 2)
        self.servers = peers("server0", "server1")
        pairs = [peers("dealer", role, high_water=1) for role in ("server0", "server1")]
        self.dealer = [ends[0] for ends in pairs]
        self.receivers = [
            CorrectionReceiver(ends[1], party, self.limits_bytes[party], patience_s, tapes)
            for party, (ends, tapes) in enumerate(zip(pairs, all_tapes, strict=True))
        ]

    async def deal(self, *bundles: Bundle) -> list[Tensor]:
        results: list[Tensor] = []
        for bundle in bundles:
            results += await run_dealer(bundle.dealings(), bundle.streams, self.dealer, lambda: {"seconds": 1.5})
        return results

    async def server(self, party: int, *bundles: Bundle, to_disk: bool = False) -> list[tuple[Tensor, Ledger]]:
        """Run bundle after bundle; all are expected before the first one runs."""
        receiver, clock = self.receivers[party], asyncio.get_running_loop().time
        buffers = [receiver.expect(bundle.streams, to_disk=to_disk) for bundle in bundles]
        receiving = asyncio.ensure_future(receiver.run())
        results: list[tuple[Tensor, Ledger]] = []
        try:
            for bundle, buffer in zip(bundles, buffers, strict=True):
                await buffer.ready(prefill(bundle.streams, self.rooms(bundles, bundle)))
                programs, sources = bundle.servers(party)
                peer = self.servers[party]
                results += await run_streams(programs, sources, bundle.streams, peer, buffer, clock)
                await buffer.settled()
                assert buffer.facts == {"seconds": 1.5}
            assert receiver.nbytes == 0
            return results
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])

    def rooms(self, bundles: Sequence[Bundle], bundle: Bundle) -> list[int]:
        """What both servers can hold of this bundle, beside those behind it."""
        behind = [stream for other in bundles[bundles.index(bundle) + 1 :] for stream in other.streams]
        dealt = [stream.plan.ledger.total().dealt_bytes for stream in behind]
        return [max(0, limit - sum(d[party] for d in dealt)) for party, limit in enumerate(self.limits_bytes)]

    async def run(self, *bundles: Bundle, to_disk: bool = False) -> list[list[tuple[Tensor, Ledger]]]:
        """What both servers and the dealer get out of the bundles; of the dealer only that it got on."""
        async with asyncio.timeout(LIMIT_S):
            first, second, dealt = await asyncio.gather(
                *(self.server(party, *bundles, to_disk=to_disk) for party in (0, 1)), self.deal(*bundles)
            )
        assert len(dealt) == sum(len(bundle.streams) for bundle in bundles)
        return [first, second]


def check(trio: list[list[tuple[Tensor, Ledger]]], *bundles: Bundle) -> list[Tensor]:
    """Both servers opened the same, and measured what was planned, stream by stream; returns the values."""
    streams = [stream for bundle in bundles for stream in bundle.streams]
    for results in trio:
        for (value, ledger), (same, _), stream in zip(results, trio[0], streams, strict=True):
            assert torch.equal(value, same)
            planned = stream.plan.ledger.operations
            assert ledger.operations.keys() - planned.keys() <= {"result"}  # the last segment: time only
            for label in ledger.operations.keys() | planned.keys():
                assert counted(ledger.of(label)) == counted(planned.get(label, Cost())), label
    return [value for value, _ in trio[0]]


def counted(cost: Cost) -> tuple[object, ...]:
    return cost.rounds, cost.sent_bytes, cost.received_bytes, cost.dealt_bytes


async def nothing_left() -> None:
    """No task but ours is left, once those that were cancelled have had their turn."""
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Does not wait: time passes at once instead."""

    loop: "InventedTime"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everybody waits for somebody: nothing will ever happen")
        self.loop.now_s += timeout
        return super().select(0)


class InventedTime(asyncio.SelectorEventLoop):
    """A loop in which time passes only while everybody waits. For code without threads."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def in_invented_time(main: Callable[[InventedTime], Coroutine[Any, Any, None]]) -> None:
    """Run `main(loop)`."""
    with asyncio.Runner(loop_factory=InventedTime) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, InventedTime)
        runner.run(main(loop))
