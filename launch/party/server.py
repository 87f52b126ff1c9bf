"""What both computing servers do in a session: load the weights, and answer requests with material that was dealt."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mpcnet.aio.threads import in_thread
from mpcnet.errors import ChannelTimeout, LocalSizeError, RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.budget import run_bytes
from mpcnet.launch.party.control_frames import DONE, LOAD_STREAM, ORDER, ROOM
from mpcnet.launch.party.edge import Edge
from mpcnet.launch.party.heap import loading, release_freed
from mpcnet.launch.party.inputs import keeps_of, tokens_of
from mpcnet.launch.party.node import Node, peak_bytes
from mpcnet.launch.party.outputs import responses
from mpcnet.launch.party.queue import layout
from mpcnet.launch.party.recording import LOAD, Recording, Unrecorded
from mpcnet.launch.party.request import Request
from mpcnet.launch.party.service import unless
from mpcnet.launch.party.witness import Seen, Witness
from mpcnet.launch.reporting import report
from mpcnet.ledger import Ledger, overlapped
from mpcnet.models.families.loaded import Model, load
from mpcnet.models.private.inference import Response, audited_inference
from mpcnet.models.private.program import Plans, Size
from mpcnet.protocols.party import Party
from mpcnet.randomness.fss import Hashes
from mpcnet.randomness.prg import Domain, Guard, Keystream
from mpcnet.randomness.source import ServerSource
from mpcnet.rounds import Program
from mpcnet.runtime.correction_buffer import CorrectionBuffer, CorrectionReceiver
from mpcnet.runtime.prefill import prefill
from mpcnet.runtime.record import Frames
from mpcnet.runtime.session import run_streams
from mpcnet.runtime.stream import SUMS, Stream
from mpcnet.transport.handshake import DIGEST_BYTES, Peer, Seed
from mpcnet.transport.rendezvous import SERVERS

T = TypeVar("T")
OWNER = "the model owner"
Build = Callable[[Party], Program[T]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Material dealt for one run: its first stream's number, the sizes of its streams, and where it is kept."""

    number: int
    sizes: tuple[Size, ...]
    buffer: CorrectionBuffer


@dataclass(slots=True)
class Server:
    """One server in one session."""

    node: Node
    peers: Mapping[str, Peer]
    edge: Edge
    plans: Plans
    seed: Seed  # of masks, in common with the dealer
    refresh: Seed  # of what refreshes clients' shares, in common with the other server
    receiver: CorrectionReceiver
    recording: Recording
    witness: Witness | None = None  # for the other server's replica, if it has one
    guard: Guard = field(default_factory=Guard)
    dealers_room: int = 0  # bytes that the dealer has for a run
    _running: CorrectionBuffer | None = None
    _rested: asyncio.Event = field(default_factory=asyncio.Event)  # no run is under way

    @property
    def dealer(self) -> Peer:
        return self.peers["dealer"]

    @property
    def other(self) -> Peer:
        return self.peers[SERVERS[1 - self.node.party]]

    async def load(self, session: bytes) -> Model | None:
        """Wait for the owner and open the weights under this session's standing masks; None if we are to stop."""
        with loading():
            self.node.buffers.release()
            model = await self._load(session)
        await asyncio.to_thread(release_freed)
        return model

    async def _load(self, session: bytes) -> Model | None:
        self.node.waiting(OWNER, "it has the weights; start mpcnet serve-model")
        upload = await unless(self.node.stopping, self.edge.owner.weights(session))
        if upload is None:
            return None
        self.node.waits.pop(OWNER, None)
        if self.node.party == 0:
            await frames.send(self.dealer, ORDER, what="load")
        start = time.perf_counter()
        stream = Stream(LOAD_STREAM, self.plans.load)
        buffer = self.receiver.expect([stream])
        config, record = self.node.config, await self.recording.begin(LOAD, (), ())
        await record.upload(0, upload.pieces)
        build = lambda p: load(p, config, upload.shares())  # noqa: E731
        [(model, ledger)] = await self._compute([build], [stream], buffer, record.frames)
        await record.end()
        await buffer.settled()
        await self._confirmed(LOAD, (), (), record, [upload.others], buffer, time.perf_counter() - start)
        self.dealers_room = frames.whole_numbers(
            [buffer.facts.get("run_bytes")], f"{self.dealer.name}, facts: run_bytes", 0, frames.MOST_ROOM
        )[0]
        total, seconds = ledger.total(), time.perf_counter() - start
        self.node.say(
            f"weights opened under masks: {total.rounds} rounds, {total.sent_bytes / 1e6:.1f} MB each way, "
            f"{seconds:.1f} s", rounds=total.rounds, seconds=seconds,
        )  # fmt: skip
        loaded: Model = model
        return loaded

    async def expect(self, number: int, sizes: Sequence[Size], *, ahead: bool) -> Bundle:
        """The dealer is told to deal this next; what is dealt ahead goes to tapes if there is a folder for them."""
        streams = await self.streams(number, sizes)
        to_disk = ahead and bool(self.node.settings.tapes)
        return Bundle(number, tuple(sizes), self.receiver.expect(streams, to_disk=to_disk))

    async def streams(self, number: int, sizes: Sequence[Size]) -> list[Stream]:
        """Numbered from `number` on, with their plans."""
        plans = [await asyncio.to_thread(self.plans.infer, size) for size in sizes]
        return [Stream(number + index, plan) for index, plan in enumerate(plans)]

    async def answer(self, model: Model, requests: Sequence[Request], bundle: Bundle, rooms: Sequence[int]) -> None:
        """Run these requests, which were taken, as one batch in the streams of `bundle`; each client gets its rows.

        `rooms` are the bytes of corrections that server0 and server1 can hold for it, as they told each other.

        :raises MpcError: the run failed.
        """
        self._running = bundle.buffer
        self._rested.clear()
        try:
            await self._answer(model, requests, bundle, rooms)
        finally:
            self._running = None
            self._rested.set()

    async def _answer(self, model: Model, requests: Sequence[Request], bundle: Bundle, rooms: Sequence[int]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        queued_s = asyncio.get_running_loop().time() - min(request.came_s for request in requests)
        await asyncio.to_thread(release_freed)  # what the last run's steps took; material comes beside it
        await bundle.buffer.ready(prefill(bundle.buffer.streams, rooms))
        offline_s = time.perf_counter() - start
        self.edge.clients.tell_ready(requests)
        shown = " + ".join(f"{size.batch} x {size.length}" for size in bundle.sizes)
        self.node.say(f"run {bundle.number}: {len(requests)} request(s), {shown} tokens, running")
        start, ready_cpu = time.perf_counter(), time.process_time()
        given = [(request.size, request.held) for request in requests]
        tokens = await asyncio.to_thread(tokens_of, self.node.config, self.node.party, given, bundle.sizes)
        keeps = keeps_of(given, bundle.sizes)
        kind = bundle.sizes[0].kind
        builds: list[Build[Response]] = [
            lambda p, share=share, keep=keep: audited_inference(p, model, share, keep, *kind)  # type: ignore[misc]
            for share, keep in zip(tokens, keeps, strict=True)
        ]
        streams = await self.streams(bundle.number, bundle.sizes)
        record = await self.recording.begin(bundle.number, bundle.sizes, requests)
        for index, request in enumerate(requests):
            await record.upload(index, request.held.pieces)
        done = await self._compute(builds, streams, bundle.buffer, record.frames)
        ran_s = time.perf_counter() - start
        seen = await record.end()
        await bundle.buffer.settled()  # the dealer's facts come behind its last frame
        others = [held.others for _, held in given]
        names = [request.name for request in requests]
        tags = await self._confirmed(bundle.number, bundle.sizes, names, record, others, bundle.buffer, ran_s)
        await self._agree(bundle.number, seen, ran_s)
        ledger = overlapped(ledger for _, ledger in done)
        seconds = {
            "seconds_queued": queued_s,
            "seconds_offline": offline_s,
            "seconds_online": time.perf_counter() - start,
            "cpu_offline_s": ready_cpu - cpu,
            "cpu_online_s": time.process_time() - ready_cpu,
        }
        facts = {
            **seconds, "peak_bytes": peak_bytes(), "streams": [[size.batch, size.length] for size in bundle.sizes],
            "answer": kind[0], "audit": kind[1], "extent": kind[2],
            "dealer": dict(bundle.buffer.facts),
        }  # fmt: skip
        text = json.dumps(report.measured(ledger, facts)).encode()
        self._reply(requests, [result for result, _ in done], text, tags)
        self._count(bundle, requests, ledger, offline_s, seconds["seconds_online"])

    async def agree_on_room(self) -> None:
        """All three have so much memory for runs, and admit no request that needs more."""
        mine = min(self.edge.budget.run_bytes, self.dealers_room)
        if self.witness is not None:
            mine = min(mine, self.witness.room)
        await frames.send(self.other, ROOM, bytes=mine)
        theirs = frames.whole_number(await frames.receive_bare(self.other, ROOM), "bytes", 0, frames.MOST_ROOM)
        clients = self.edge.clients
        clients.budget = self.edge.budget.within(min(mine, theirs))
        for request in list(clients.queue):  # admitted before we knew
            try:
                await in_thread(clients.budget.check, self.plans, request.size)
            except LocalSizeError as error:
                clients.fail([request], str(error))

    def fits(self, sizes: Sequence[Size]) -> bool:
        """Requests of these sizes may run as one, as far as memory goes."""
        streams = layout(sizes, self.node.settings.streams)
        return sum(run_bytes(self.plans.infer(size)) for size in streams) <= self.edge.clients.budget.run_bytes

    async def _confirmed(
        self, number: int, sizes: Sequence[Size], ids: Sequence[bytes], record: Unrecorded, uploads: Sequence[bytes],
        buffer: CorrectionBuffer, ran_s: float,
    ) -> list[bytes]:  # fmt: skip
        """Returns when the other server's replica has computed what that server sent us: the tags of its shares.

        None if it has no replica.

        :raises MpcError: it has computed something else, or does not answer in time.
        """
        if self.witness is None:
            return []
        watched = record.frames
        assert watched is not None
        where = f"{self.dealer.name}, facts: {SUMS} (replicas in its party.toml)"
        sums = frames.digests(buffer.sums, len(buffer.streams), where)
        seen = Seen(number, sizes, ids, watched.table, uploads, sums)
        return await self.witness.confirmed(seen, ran_s)

    async def _agree(self, number: int, seen: bytes, ran_s: float) -> None:
        """Returns when the other server has finished the run too, before any share of the answer leaves.

        If both look at frames, they have seen the same, by the digests of their contents. A server whose peer has a
        replica says so only when that has confirmed the run.

        :raises RemoteProtocolError: they have not.
        :raises ChannelTimeout: the other server does not say so in time.
        """
        await frames.send(self.other, DONE, frames=seen)
        timeout_s, checked = self.node.settings.timeout_s, bool(self.node.settings.replicas)
        wait_s = timeout_s + (ran_s + timeout_s if checked else 0.0)  # it may be waiting for the replica
        try:
            async with asyncio.timeout(wait_s):
                header = await frames.receive_bare(self.other, DONE, patient=checked)
        except TimeoutError:
            raise ChannelTimeout(f"waited {wait_s:.1f} s for {self.other.name} to finish run {number}") from None
        theirs = header.fields.get("frames")
        if not isinstance(theirs, bytes) or len(theirs) not in (0, DIGEST_BYTES):
            raise RemoteProtocolError(f"{self.other.name}, done: want a digest of the run's frames, got another")
        if seen and theirs and seen != theirs:
            raise RemoteProtocolError(
                f"{self.other.name}: run {number}: the contents of its frames are not those that we have seen; "
                "mpcnet replay, at both, names the first that differs"
            )

    async def at_rest(self) -> None:
        """Returns when no run is under way that has all its material: such a run needs no dealer."""
        while self._running is not None and self._running.complete:
            await self._rested.wait()

    async def _compute(
        self, builds: Sequence[Build[T]], streams: Sequence[Stream], buffer: CorrectionBuffer, watch: Frames | None
    ) -> list[tuple[T, Ledger]]:
        """Run programs side by side, each on its own stream and keystream; `builds` make the coroutines for a party."""
        sources = [
            ServerSource(
                self.node.party,
                self._keystream(self.seed, self.dealer, stream, "masks"),
                self._keystream(self.refresh, self.other, stream, "refresh"),
                Hashes.of(self.other.session, stream.number),  # the id of the servers' channel is that of all three
            )
            for stream in streams
        ]
        parties = [Party(source, combine=self.node.combine) for source in sources]
        programs = [build(party) for build, party in zip(builds, parties, strict=True)]
        return await run_streams(programs, sources, streams, self.other, buffer, time.perf_counter, watch)

    def _keystream(self, seed: Seed, peer: Peer, stream: Stream, purpose: str) -> Keystream:
        return Keystream(seed.reveal(), Domain(peer.session, stream.number, purpose), self.guard)

    def _reply(
        self, requests: Sequence[Request], results: Sequence[Response], text: bytes, tags: Sequence[bytes]
    ) -> None:
        cut = responses(self.node.config.shape, results, [request.size for request in requests])
        for index, (request, response) in enumerate(zip(requests, cut, strict=True)):
            self.edge.clients.reply(request, response, text, tags[index] if tags else b"")

    def _count(
        self, bundle: Bundle, requests: Sequence[Request], ledger: Ledger, offline_s: float, online_s: float
    ) -> None:
        total = ledger.total()
        for index, request in enumerate(requests):
            cost = {} if index else {
                "rounds": total.rounds, "sent_bytes": total.sent_bytes, "received_bytes": total.received_bytes,
            }  # fmt: skip
            self.node.metrics.request_done(
                "answered", offline_s=offline_s, online_s=online_s, sentences=request.size.batch, **cost
            )
        self.node.say(
            f"run {bundle.number}: answered in {total.rounds} rounds, {total.sent_bytes / 1e6:.1f} MB each way, "
            f"offline {offline_s:.2f} s, online {online_s:.2f} s",
            run=bundle.number, requests=len(requests), rounds=total.rounds, sent_bytes=total.sent_bytes,
            offline_s=offline_s, online_s=online_s,
        )  # fmt: skip
