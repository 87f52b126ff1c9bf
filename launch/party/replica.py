"""A server's replica: computes what its server should have sent, during the run, and tells the other server whether
it has.

It holds its server's view, so it belongs to that server's operator, on another machine. Why its server cannot deceive
it is said in :mod:`mpcnet.launch.party.witness` and docs/security.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from mpcnet.aio.tasks import end_tasks, together
from mpcnet.aio.threads import in_thread
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelClosed, LocalInputError, RemoteProtocolError, describe
from mpcnet.launch.party import frames, notify, outputs, sharing
from mpcnet.launch.party.again import Again, party_of, requests_of
from mpcnet.launch.party.arriving import Arriving, Place
from mpcnet.launch.party.budget import Budget, of_replica, run_bytes
from mpcnet.launch.party.control_frames import BEGIN, CONFIRM, ENTRY, LOAD_STREAM, WITNESS
from mpcnet.launch.party.expiry import tell_expiry
from mpcnet.launch.party.follower import deal_order
from mpcnet.launch.party.heap import loading, release_freed
from mpcnet.launch.party.leader import MOST_REQUESTS
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.service import Service, unless
from mpcnet.launch.party.witness import refresh_digest
from mpcnet.models.families.loaded import Model
from mpcnet.models.private.inference import Response
from mpcnet.models.private.program import Plans, Size
from mpcnet.randomness.prg import Guard
from mpcnet.rounds import Part
from mpcnet.runtime.record import DEALT, INPUT, RECEIVED
from mpcnet.runtime.stream import Stream
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import DIGEST_BYTES, Peer
from mpcnet.transport.rendezvous import REPLICAS, SERVERS
from mpcnet.transport.wire import Header

T = TypeVar("T")
MOST_STREAMS = 16  # of a run, as the settings allow
KINDS = {kind.decode(): kind for kind in (INPUT, DEALT, RECEIVED)}


async def main(node: Node) -> int:
    """A replica's whole life.

    :raises LocalError: a setting or a file of ours is wrong; trouble with others does not end it.
    """
    if node.role not in REPLICAS:
        raise LocalInputError(f"replica: want role {' or '.join(REPLICAS)}, got {node.role}")
    plans = await asyncio.to_thread(Plans, node.config)
    budget = await asyncio.to_thread(of_replica, node.settings, plans)

    async def session(peers: Mapping[str, Peer]) -> None:
        node.say(f"connected with {', '.join(peers)}")
        replica = _Replica(node, peers[SERVERS[node.party]], peers[SERVERS[1 - node.party]], plans, budget)
        try:
            await unless(node.stopping, together(replica.work(), replica.read()))
        finally:
            replica.close()

    await together(Service(node, _nobody).run(session), tell_expiry(node))
    return 0


def _nobody(channel: Channel) -> None:
    channel.abort("a replica serves nobody")


class _Replica:
    """Of one server, for one session. `server` is ours, `other` the one that waits for our word."""

    def __init__(self, node: Node, server: Peer, other: Peer, plans: Plans, budget: Budget) -> None:
        self._node, self._server, self._other, self._plans, self._budget = node, server, other, plans, budget
        self._begun: asyncio.Queue[Arriving] = asyncio.Queue(1)
        self._run: Arriving | None = None  # of which entries come
        self._streams = set[int]()  # that have begun in this session
        self._guard = Guard()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """The session is over: no thread is left waiting."""
        if self._run is not None:
            self._run.fail(ChannelClosed(f"{self._server.name}: the session has ended"))

    # --- what our server passes on ------------------------------------------------------------------------------

    async def read(self) -> None:
        """Until cancelled.

        :raises RemoteProtocolError: it is not what the plans want.
        :raises ChannelError: our server is gone.
        """
        while True:
            while self._run is not None and self._run.full:
                self._changed.clear()
                await self._changed.wait()
            header, arrays = await frames.receive_any(self._server, (BEGIN, ENTRY), self._check, patient=True)
            if header.label == ENTRY:
                assert self._run is not None
                self._run.put(_place(header), arrays[0])
            else:
                self._run = await self._begin(header, arrays)
                self._begun.put_nowait(self._run)

    def _check(self, header: Header) -> None:
        name = self._server.name
        if header.label == BEGIN:
            frames.exactly(self._server, BEGIN, [sharing.SEED, sharing.SEED])(header)
            if self._run is not None:
                raise RemoteProtocolError(f"{name}: it begins a run before the last one has been confirmed")
            return
        known = header.fields.get("of") in list(KINDS)  # a list may stand there, which has no hash
        if self._run is None or not known:
            raise RemoteProtocolError(f"{name}: want an entry of a run that has begun, got another frame")
        self._run.check(_place(header), header.payload_bytes)
        frames.exactly(self._server, ENTRY, [Part(8, (header.payload_bytes,))])(header)

    async def _begin(self, header: Header, seeds: Sequence[Bytes]) -> Arriving:
        number, sizes = _order(header, self._plans, self._server.name)
        numbers = range(number, number + max(1, len(sizes)))  # not in turn: what is dealt ahead may run later
        if (number == LOAD_STREAM) == bool(self._streams) or not self._streams.isdisjoint(numbers):
            raise RemoteProtocolError(f"{self._server.name}: want loading, then runs once each, got run {number}")
        self._streams.update(numbers)
        plans = [await asyncio.to_thread(self._plans.infer, size) for size in sizes] or [self._plans.load]
        if sizes and sum(map(run_bytes, plans)) > self._budget.run_bytes:
            want = f"a run of at most {self._budget.run_bytes / 1e9:.1f} GB (memory_mib)"
            raise RemoteProtocolError(describe(f"{self._server.name}, run {number}", want, "a larger one"))
        streams = [Stream(number + index, plan) for index, plan in enumerate(plans)]
        sessions = [header.fields.get(name) for name in ("dealer", "other")]
        if not all(isinstance(session, bytes) for session in sessions):
            raise RemoteProtocolError(f"{self._server.name}, {BEGIN}: want the ids of its sessions, got others")
        masks, refresh = (seed.tobytes() for seed in seeds)
        facts: dict[str, Any] = {
            "role": self._server.name, "number": number, "masks": masks, "refresh": refresh,
            "dealer": sessions[0], "other": sessions[1],
            "sizes": [[size.batch, size.length, *size.kind] for size in sizes],
            "requests": _requests(header, sizes, self._server.name), "ids": header.fields.get("ids"),
        }  # fmt: skip
        return Arriving(facts, self._node.config, streams, self._changed.set)

    # --- what we make of it -------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Compute one run after the other, and tell the other server.

        :raises MpcError: the session is over.
        """
        loaded = await self._begun.get()
        with loading():
            again = self._again(loaded)
            [model] = await _in_threads(loaded, [partial(again.load, loaded)])
        await self._say(loaded, [])
        await asyncio.to_thread(release_freed)
        self._node.ready()
        notify.ready()
        while True:
            run = await self._begun.get()
            await self._say(run, await self._infer(run, model))
            await asyncio.to_thread(release_freed)

    def _again(self, run: Arriving) -> Again:
        return Again(self._plans, run.compare, self._node.combine, self._guard)

    async def _infer(self, run: Arriving, model: Model) -> list[Response]:
        """The responses of a run, by request. Its streams go side by side, as they do at our server."""
        again = self._again(run)
        [inputs] = await _in_threads(run, [partial(again.inputs, run)])
        streams = [partial(again.stream, run, model, inputs, index) for index in range(len(run.streams))]
        results = await _in_threads(run, streams)
        return outputs.responses(self._node.config.shape, results, requests_of(run.facts))

    async def _say(self, run: Arriving, responses: Sequence[Response]) -> None:
        """Compare with what the other server has seen, and give it the tags of our server's shares, or the reason why
        not."""
        facts, rows = run.facts, [segments_of(stream) for stream in run.streams]
        parts = [Part(8, (2 * DIGEST_BYTES * len(row),)) for row in rows]

        def check(header: Header) -> None:
            frames.exactly(self._other, WITNESS, parts)(header)
            told = header.fields.get("stream")
            if told != facts["number"] and type(told) is int and told in self._streams:  # or our server lies of it
                want = f"what it has seen of run {facts['number']}"
                raise RemoteProtocolError(describe(f"{self._other.name}, {WITNESS}", want, "that of a former run"))

        header, tables = await frames.receive(self._other, WITNESS, check, patient=True)
        reason = _flaw(run, header, self._other.name) or _difference(run, rows, tables, self._other.name)
        tags = b"" if reason else b"".join(
            outputs.tag(seed, [raw for _, raw in outputs.arrays(response)])
            for seed, response in zip(run.seeds, responses, strict=True)
        )  # fmt: skip
        said = f"run {facts['number']}: " + (reason or f"confirmed, {sum(map(len, rows))} rounds")
        self._node.say(said, "error" if reason else "info")
        self._run = None
        raw = np.frombuffer(tags, np.uint8)
        await frames.send(
            self._other, CONFIRM, [(Part(8, (raw.nbytes,)), raw)], stream=facts["number"], reason=reason,
            room=self._budget.run_bytes,
        )  # fmt: skip


async def _in_threads(run: Arriving, calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of these, each in a thread; whatever goes wrong, none of them is left waiting for entries."""
    tasks = [asyncio.ensure_future(in_thread(call)) for call in calls]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return [task.result() for task in tasks]
    finally:
        if not all(task.done() for task in tasks):
            run.fail(ChannelClosed("the session has ended"))
        await end_tasks(*tasks)


def segments_of(stream: Stream) -> list[int]:
    """Those that end with an exchange."""
    return [number for number, segment in enumerate(stream.plan.segments) if segment.exchange]


def _flaw(run: Arriving, header: Header, other: str) -> str:
    """What our server was given, or has told us, and the other server knows otherwise; "" if nothing."""
    facts, fields = run.facts, header.fields
    server, sizes = facts["role"], facts["sizes"]
    kind = tuple(sizes[0][2:]) if sizes else (None, False, 0)
    pairs = (
        ("session", fields.get("session"), facts["other"]),
        ("run", fields.get("stream"), facts["number"]),
        ("sizes", fields.get("sizes"), [n for size in sizes for n in size[:2]]),
        ("kind of answer", tuple(fields.get(name) for name in ("answer", "audit", "extent")), kind),
        ("requests", fields.get("ids"), facts["ids"]),
        ("seed of refreshing words", fields.get("refresh"), refresh_digest(facts["refresh"])),
        ("uploads", fields.get("uploads"), run.uploads),
        ("corrections, or masks", fields.get("sums"), [each.digest for each in run.sums]),
    )
    for what, theirs, ours in pairs:
        if theirs != ours:
            return f"{server}: {what}: want what {other} was told of, it passed on another"
    return ""


def _difference(run: Arriving, rows: Sequence[Sequence[int]], tables: Sequence[Bytes], other: str) -> str:
    """The first frame that is not what follows, in the order of streams and segments; "" if there is none."""
    server = run.facts["role"]
    party = party_of(run.facts)
    for index, (stream, row, table) in enumerate(zip(run.streams, rows, tables, strict=True)):
        raw = table.tobytes()
        digests = [raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), DIGEST_BYTES)]
        for place, sequence in enumerate(row):
            both = digests[2 * place : 2 * place + 2]
            label = stream.plan.segments[sequence].label
            where = f"{server}, stream {stream.number}, segment {sequence} ({label})"
            if both[party] != run.sent[index, sequence]:
                return f"{where}: want the frame that follows from what it received, {other} received another"
            if both[1 - party] != run.received[index, sequence]:
                return f"{where}: want the frame that {other} says that it sent, it passed on another"
    return ""


def _order(header: Header, plans: Plans, name: str) -> tuple[int, list[Size]]:
    """The first stream's number and the sizes of the streams; none of loading."""
    if header.fields.get("stream") == LOAD_STREAM:
        if header.fields.get("sizes") != [] or header.fields.get("requests") != []:
            raise RemoteProtocolError(f"{name}, {BEGIN}: want loading without sizes, got some")
        return LOAD_STREAM, []
    number, sizes = deal_order(header, plans.config)
    if len(sizes) > MOST_STREAMS or len({size.length for size in sizes}) != 1:
        raise RemoteProtocolError(f"{name}, {BEGIN}: want up to {MOST_STREAMS} streams of one length, got others")
    return number, sizes


def _requests(header: Header, sizes: Sequence[Size], name: str) -> list[list[int]]:
    """Sentences and tokens of each request; they fit into the streams."""
    flat = frames.whole_numbers(header.fields.get("requests"), f"{name}, {BEGIN}: requests", 1, 1 << 20)
    found = [[batch, length] for batch, length in zip(flat[::2], flat[1::2], strict=False)]
    ids = header.fields.get("ids")
    if not isinstance(ids, list) or len(flat) % 2 or len(ids) != len(found) or len(found) > MOST_REQUESTS:
        raise RemoteProtocolError(f"{name}, {BEGIN}: want a size and an id of each request, got others")
    rows, room = sum(batch for batch, _ in found), sum(size.batch for size in sizes)
    if sizes and not (0 < rows <= room and all(length <= sizes[0].length for _, length in found)):
        raise RemoteProtocolError(f"{name}, {BEGIN}: want requests that fit into their run, got others")
    return found


def _place(header: Header) -> Place:
    """Of an entry."""
    index, sequence = (frames.whole_number(header, name, 0, 1 << 32) for name in ("index", "sequence"))
    return KINDS[str(header.fields["of"])], index, sequence
