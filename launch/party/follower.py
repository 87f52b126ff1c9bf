"""server1: does what server0 orders, with its own half of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import LocalInputError, RemoteProtocolError, describe
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import HAVE, ORDER, USABLE
from mpcnet.launch.party.leader import GRACE_S, MOST_REQUESTS
from mpcnet.launch.party.request import Request, uploads_digest
from mpcnet.launch.party.server import Bundle, Server
from mpcnet.launch.party.service import unless
from mpcnet.launch.party.upload import MAX_BATCH
from mpcnet.models.families.config import Config
from mpcnet.models.families.loaded import Model
from mpcnet.models.private.program import Size, wanted_answer, wanted_extent
from mpcnet.transport.wire import Header, Scalar


async def follow(server: Server, model: Model) -> None:
    """Follow server0's orders until asked to stop; a run that was announced is finished first."""
    await server.agree_on_room()
    follower = _Follower(server, model)
    try:
        while order := await unless(server.node.stopping, follower.order()):
            await follower.obey(order)
    finally:
        server.edge.clients.unpin(follower.found.values())  # or they would be kept for a run that will not begin


@dataclass(frozen=True, slots=True)
class _Ask:
    """What server0 wants to know: whether we have these requests, of which it has told size, kind and uploads."""

    number: int
    names: list[bytes]
    facts: list[tuple[object, ...]]
    room: int
    until_s: float

    @property
    def late(self) -> bool:
        return asyncio.get_running_loop().time() >= self.until_s


@dataclass(slots=True)
class _Follower:
    server: Server
    model: Model
    bundles: dict[int, Bundle] = field(default_factory=dict)  # by their first stream's number
    asked: _Ask | None = None  # and not answered yet
    found: dict[bytes, Request] = field(default_factory=dict)  # what we said that we have; pinned until asked anew
    rooms: tuple[int, int] = (0, 0)

    async def order(self) -> Header:
        """The next order. Meanwhile a question is answered as soon as we have one of its requests, or it is late."""
        clients = self.server.edge.clients
        receiving = asyncio.ensure_future(frames.receive_bare(self.server.other, ORDER, patient=True))
        try:
            while self.asked is not None and not receiving.done():
                version = clients.version
                if any(self._look(self.asked)) or self.asked.late:
                    await self._answer(self.asked)
                    break
                changed = asyncio.ensure_future(clients.beyond(version))
                left_s = self.asked.until_s - asyncio.get_running_loop().time()
                try:
                    await asyncio.wait({receiving, changed}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await end_tasks(changed)
            return await receiving
        finally:
            await end_tasks(receiving)

    async def obey(self, order: Header) -> None:
        """Any order: a question, a run, or material to expect or throw away."""
        match order.fields.get("what"):
            case "ask":
                self.server.edge.clients.unpin(self.found.values())
                self.found = {}
                self.asked = self._ask(order)
                self._fail_alone(self.asked)
            case "run":
                await self._run(order)
            case "deal":
                number, sizes = deal_order(order, self.server.node.config)
                self.bundles[number] = await self.server.expect(number, sizes, ahead=order.fields.get("ahead") is True)
            case "drop":
                self._drop(_number(order))
            case what:
                got = describe(f"{self.server.other.name}, order", "ask, run, deal or drop", str(what)[:20])
                raise RemoteProtocolError(got)

    def _ask(self, order: Header) -> _Ask:
        names = _names(order)
        given = [order.fields.get(name) for name in ("sizes", "answers", "audits", "extents", "uploads")]
        lists = [each for each in given if isinstance(each, list)]
        if [len(each) for each in lists] != [2 * len(names), *[len(names)] * 4]:
            raise RemoteProtocolError(
                f"{self.server.other.name}, order: want sizes, an answer, audit, extent and uploads of each, got others"
            )
        flat, answers, audits, extents, uploads = lists
        facts = list(zip(flat[::2], flat[1::2], answers, audits, extents, uploads, strict=True))
        number = frames.whole_number(order, "ask", 1, 1 << 62)
        grace_s = min(GRACE_S, self.server.node.settings.timeout_s / 2)
        until_s = asyncio.get_running_loop().time() + grace_s
        return _Ask(number, names, facts, frames.room(order), until_s)

    def _look(self, ask: _Ask) -> list[Request | None]:
        """Those of the requests that we have too. One that differs is failed: it costs nobody else the session."""
        clients, there = self.server.edge.clients, list[Request | None]()
        for name, fact in zip(ask.names, ask.facts, strict=True):
            request = clients.queue.find(name)
            if request is not None and request.waits and not _same(request, fact):
                clients.fail([request], "server0 has got another size, mask, upload or answer of this request")
            there.append(request if request is not None and request.waits else None)
        return there

    async def _answer(self, ask: _Ask) -> None:
        there, room = self._look(ask), self.server.receiver.room(None)
        self.found = {request.name: request for request in there if request is not None}
        for request in self.found.values():
            request.pinned = True
        failed: list[Scalar] = [number for number, bundle in self.bundles.items() if bundle.buffer.failed is not None]
        for number in [number for number, bundle in self.bundles.items() if bundle.buffer.failed is not None]:
            self._drop(number)
        self.asked, self.rooms = None, (ask.room, room)
        await frames.send(
            self.server.other, HAVE, ask=ask.number, found=[each is not None for each in there], failed=failed,
            room=room,
        )  # fmt: skip

    def _fail_alone(self, ask: _Ask) -> None:
        """Requests that have been here for long, and that server0 does not ask about although it could."""
        if len(ask.names) < MOST_REQUESTS:
            clients, long_ago_s = self.server.edge.clients, asyncio.get_running_loop().time() - GRACE_S
            alone = [each for each in clients.queue if each.came_s <= long_ago_s and each.name not in ask.names]
            clients.fail(alone, "server0 has not got this request")

    def _drop(self, number: int) -> None:
        if bundle := self.bundles.pop(number, None):
            if bundle.buffer.failed is not None:
                self.server.node.say(f"run {number}: dealt in vain: {bundle.buffer.failed}", "warning")
            bundle.buffer.discard()

    async def _run(self, order: Header) -> None:
        """Requests that we have said that we have, with material that both have, if our half of it is good."""
        number, names = _number(order), _names(order)
        if not names or not all(name in self.found for name in names):
            raise RemoteProtocolError(f"{self.server.other.name}: it runs requests that it has not asked about")
        group = [self.found[name] for name in names]
        bundle = self._material(number, group)
        await bundle.buffer.check()
        usable = bundle.buffer.failed is None
        if not usable:
            self._drop(number)
        await frames.send(self.server.other, USABLE, usable=usable)
        if usable:
            del self.bundles[number]
            for name in names:
                del self.found[name]
            with self.server.edge.clients.taken(group):
                await self.server.answer(self.model, group, bundle, self.rooms)

    def _material(self, number: int, group: Sequence[Request]) -> Bundle:
        bundle = self.bundles.get(number)
        if bundle is None:
            raise RemoteProtocolError(f"{self.server.other.name}: it orders run {number}, which was not dealt")
        rows, length = sum(r.size.batch for r in group), max(r.size.length for r in group)
        if rows > sum(size.batch for size in bundle.sizes) or length > bundle.sizes[0].length:
            raise RemoteProtocolError(f"{self.server.other.name}: run {number}: too little was dealt for its requests")
        if any(request.size.kind != bundle.sizes[0].kind for request in group):
            raise RemoteProtocolError(f"{self.server.other.name}: run {number}: another kind of answer was dealt for")
        return bundle


def _same(request: Request, fact: Sequence[object]) -> bool:
    size = request.size
    return (size.batch, size.length, *size.kind, uploads_digest(request.held, 1)) == tuple(fact)


def deal_order(order: Header, config: Config) -> tuple[int, list[Size]]:
    """The first stream's number, and the sizes of all streams, of an order to deal.

    :raises RemoteProtocolError: it is malformed.
    """
    number, positions = frames.whole_number(order, "stream", 1, (1 << 32) - 1), config.formats.longest
    try:
        answer = wanted_answer(config, order.fields.get("answer"))
        extent = wanted_extent(config, order.fields.get("extent"))
    except LocalInputError as error:
        raise RemoteProtocolError(f"order, {error}") from error
    flat = frames.whole_numbers(order.fields.get("sizes"), "order, sizes", 1, max(MAX_BATCH * MOST_REQUESTS, positions))
    audit = order.fields.get("audit") is True
    sizes = [Size(batch, length, answer, audit, extent) for batch, length in zip(flat[::2], flat[1::2], strict=False)]
    if not sizes or len(flat) % 2 or any(size.length > positions for size in sizes):
        raise RemoteProtocolError(f"order, sizes: want pairs of a batch and up to {positions} tokens, got others")
    return number, sizes


def _number(order: Header) -> int:
    return frames.whole_number(order, "stream", 0, (1 << 32) - 1)


def _names(order: Header) -> list[bytes]:
    names = order.fields.get("ids")
    if not isinstance(names, list) or len(set(names)) != len(names) or len(names) > MOST_REQUESTS:
        raise RemoteProtocolError(f"order, ids: want up to {MOST_REQUESTS} different request ids, got others")
    return [name for name in names if isinstance(name, bytes)]
