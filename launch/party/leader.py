"""server0: takes requests that both servers have from the queue, orders what is dealt, and tells server1 what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import islice

from mpcnet.aio.tasks import end_tasks, race
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import HAVE, LOAD_STREAM, ORDER, USABLE
from mpcnet.launch.party.queue import fits, layout
from mpcnet.launch.party.request import Request, uploads_digest
from mpcnet.launch.party.server import Bundle, Server
from mpcnet.models.families.loaded import Model
from mpcnet.models.private.program import Size
from mpcnet.runtime.correction_buffer import planned_bytes
from mpcnet.transport.wire import Header, Scalar

NO_BUNDLE = 0  # stream numbers of requests begin behind that of the load
MOST_REQUESTS = 256  # that server1 is asked about at once
GRACE_S = 2.0  # a client dials both servers at once: its request may reach one of them later


async def lead(server: Server, model: Model) -> None:
    """Serve until asked to stop: one run after the other, and material dealt ahead whenever some is missing."""
    await server.agree_on_room()
    leader = _Leader(server, model)
    while not server.node.stopping.is_set():
        await leader.order_ahead()
        first = await race(server.edge.clients.waiting(), server.node.stopping.wait(), leader.arrived())
        if first == 0:
            await frames.send(server.dealer, ORDER, what="begin")
            await leader.serve_group()
            await frames.send(server.dealer, ORDER, what="end")


@dataclass(slots=True)
class _Leader:
    server: Server
    model: Model
    number: int = LOAD_STREAM + 1  # of the next stream
    asks: int = 0  # how often server1 was asked
    ahead: list[Bundle] = field(default_factory=list)  # ordered, and not used yet
    too_large: list[tuple[Size, ...]] = field(default_factory=list)  # for our memory: said once
    resting: bool = False  # our disk failed: it is tried again with the next request, not again and again

    async def order_ahead(self) -> None:
        """Let the dealer make one bundle that is missing, unless it makes one already."""
        settings, metrics = self.server.node.settings, self.server.node.metrics
        for bundle in [bundle for bundle in self.ahead if bundle.buffer.failed is not None]:
            self.server.node.say(f"run {bundle.number}: nothing is dealt ahead now: {bundle.buffer.failed}", "warning")
            self.ahead.remove(bundle)
            self.resting = True
            await frames.send(self.server.other, ORDER, what="drop", stream=bundle.number)
        metrics.buffered(sum(bundle.buffer.complete for bundle in self.ahead), self.server.receiver.nbytes)
        if self.resting or not all(bundle.buffer.complete for bundle in self.ahead):
            return
        held = [bundle.sizes for bundle in self.ahead]
        for size in settings.ahead_sizes:
            sizes = layout([size], settings.streams)
            if held.count(sizes) < settings.ahead_runs and await self._has_room(sizes):
                self.ahead.append(await self._deal(sizes, ahead=True))
                return

    async def _has_room(self, sizes: tuple[Size, ...]) -> bool:
        """True if we hold such a bundle beside all others, in memory or on tape. Else it would never be complete."""
        if self.server.node.settings.tapes:
            return True
        needed = planned_bytes(await self.server.streams(NO_BUNDLE, sizes), 0)
        limit = self.server.edge.budget.buffer_bytes
        if needed > limit and sizes not in self.too_large:
            self.too_large.append(sizes)
            self.server.node.say(
                f"{' + '.join(f'{size.batch} x {size.length}' for size in sizes)} tokens: nothing is dealt ahead: want "
                f"corrections of at most {limit / 1e6:.0f} MB (buffer_mib), got {needed / 1e6:.0f} MB; "
                "name a folder for tapes, or allow more",
                "warning",
            )
        return needed <= self.server.receiver.room(None)

    async def arrived(self) -> None:
        """Return when the bundle that is being dealt ahead is complete or has failed; never, if there is none."""
        pending = [bundle for bundle in self.ahead if not bundle.buffer.complete]
        if not pending:
            await asyncio.Event().wait()
        await pending[0].buffer.settled()

    async def serve_group(self) -> None:
        """The next run: requests that both servers have, if there are any, and material for them."""
        clients, settings = self.server.edge.clients, self.server.node.settings
        self.resting = False
        there, rooms = await self._there()
        group = clients.queue.group(settings.batch_tokens, there, self.server.fits)
        if not group:
            return
        with clients.taken(group):
            sizes = [request.size for request in group]
            prepared = await self._prepared(sizes)
            bundle = prepared or await self._deal(layout(sizes, settings.streams), ahead=False)
            await self.order_ahead()  # the dealer works on it while we compute
            if not await self._run(bundle, group):
                bundle = await self._deal(layout(sizes, settings.streams), ahead=False)
                if prepared is None or not await self._run(bundle, group):
                    raise RemoteProtocolError(f"{self.server.other.name}: it has no use for material dealt just now")
            await self.server.answer(self.model, group, bundle, rooms)

    async def _prepared(self, sizes: Sequence[Size]) -> Bundle | None:
        """Complete material in which such requests fit, the smallest; it is taken out of the buffer.

        A tape is read once before. One that is bad stays where it is, and is dropped when material is ordered next.
        """
        while True:
            fitting = [
                bundle
                for bundle in self.ahead
                if bundle.buffer.complete and bundle.buffer.failed is None and fits(sizes, bundle.sizes)
            ]
            chosen = min(
                fitting, key=lambda bundle: sum(size.batch * size.length for size in bundle.sizes), default=None
            )
            if chosen is None:
                return None
            await chosen.buffer.check()
            if chosen.buffer.failed is None:
                self.ahead.remove(chosen)
                return chosen

    async def _there(self) -> tuple[list[Request], tuple[int, int]]:
        """Those of our requests that server1 has too, as soon as there is one; and the bytes that each server has room
        for beside all bundles.

        Who has come to us alone holds up nobody: server1 answers when it has any of them, we ask anew when another one
        comes, and those that stay alone are failed. Empty if no request is left.
        """
        clients = self.server.edge.clients
        version = clients.version  # before the question: what comes while it is sent is not in it
        asked, room = await self._ask()
        while True:
            receiving = frames.receive_bare(self.server.other, HAVE, patient=True)
            header = await self._unless_changed(receiving, version)
            if header is not None and header.fields.get("ask") == self.asks:
                there = await self._heard(header, asked)
                if there:
                    return there, (room, frames.room(header))
            if not len(clients.queue):
                return [], (room, 0)
            if header is None or header.fields.get("ask") == self.asks:
                version = clients.version
                asked, room = await self._ask()

    async def _unless_changed(self, receiving: Coroutine[None, None, Header], version: int) -> Header | None:
        """The frame; None if our queue changes before it comes."""
        task = asyncio.ensure_future(receiving)
        changed = asyncio.ensure_future(self.server.edge.clients.beyond(version))
        try:
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            await end_tasks(task, changed)

    async def _ask(self) -> tuple[list[Request], int]:
        """Ask server1 which of our requests it has."""
        asked = list(islice(self.server.edge.clients.queue, MOST_REQUESTS))
        self.asks += 1
        room = self.server.receiver.room(None)
        names: list[Scalar] = [request.name for request in asked]
        sizes: list[Scalar] = [n for request in asked for n in (request.size.batch, request.size.length)]
        answers: list[Scalar] = [request.size.answer for request in asked]
        audits: list[Scalar] = [request.size.audit for request in asked]
        extents: list[Scalar] = [request.size.extent for request in asked]
        uploads: list[Scalar] = [uploads_digest(request.held, 0) for request in asked]
        await frames.send(
            self.server.other, ORDER, what="ask", ask=self.asks, ids=names, sizes=sizes, answers=answers,
            audits=audits, extents=extents, uploads=uploads, room=room,
        )  # fmt: skip
        return asked, room

    async def _heard(self, header: Header, asked: Sequence[Request]) -> list[Request]:
        """What server1 has of what we asked about. It also names material that failed it."""
        other, clients = self.server.other, self.server.edge.clients
        found, failed = header.fields.get("found"), header.fields.get("failed")
        if not isinstance(found, list) or len(found) != len(asked) or not all(type(x) is bool for x in found):
            raise RemoteProtocolError(f"{other.name}: want what it has of {len(asked)} requests, got something else")
        lost = frames.whole_numbers(failed, f"{other.name}, have: failed", 1, (1 << 32) - 1)
        for bundle in [bundle for bundle in self.ahead if bundle.number in lost]:
            self.ahead.remove(bundle)
            bundle.buffer.discard()
        long_ago_s = asyncio.get_running_loop().time() - GRACE_S
        alone = [request for request, there in zip(asked, found, strict=True) if not there]
        clients.fail(
            [request for request in alone if request.came_s <= long_ago_s],
            "server1 has not got this request, or got another size, mask, upload or answer",
        )
        return [request for request, there in zip(asked, found, strict=True) if there]

    async def _run(self, bundle: Bundle, group: Sequence[Request]) -> bool:
        """Let server1 begin too; False if its half of the material is of no use."""
        names: list[Scalar] = [request.name for request in group]
        await frames.send(self.server.other, ORDER, what="run", stream=bundle.number, ids=names)
        usable = (await frames.receive_bare(self.server.other, USABLE)).fields.get("usable") is True
        if not usable:
            bundle.buffer.discard()
        return usable

    async def _deal(self, sizes: Sequence[Size], *, ahead: bool) -> Bundle:
        """Order material from the dealer, and tell server1 to expect it."""
        number, self.number = self.number, self.number + len(sizes)
        flat: list[Scalar] = [n for size in sizes for n in (size.batch, size.length)]
        bundle = await self.server.expect(number, sizes, ahead=ahead)
        for peer in (self.server.other, self.server.dealer):
            answer, audit, extent = sizes[0].kind
            await frames.send(
                peer,
                ORDER,
                what="deal",
                stream=number,
                sizes=flat,
                answer=answer,
                audit=audit,
                extent=extent,
                ahead=ahead,
            )
        return bundle
