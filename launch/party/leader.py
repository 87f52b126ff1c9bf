"""server0: takes requests from the queue, orders what is dealt, and tells server1 what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpcnet.aio.tasks import race
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import HAVE, LOAD_STREAM, ORDER
from mpcnet.launch.party.queue import Request, fits, layout
from mpcnet.launch.party.server import Bundle, Server
from mpcnet.models.families.bert import Model
from mpcnet.models.private.program import Size
from mpcnet.runtime.correction_buffer import planned_bytes
from mpcnet.transport.wire import Scalar

NO_BUNDLE = 0  # stream numbers of requests begin behind that of the load


async def lead(server: Server, model: Model) -> None:
    """Serve until asked to stop: one run after the other, and material dealt ahead whenever some is missing."""
    leader = _Leader(server, model)
    while not server.node.stopping.is_set():
        await leader.order_ahead()
        first = await race(server.edge.clients.waiting(), server.node.stopping.wait(), leader.arrived())
        if first == 0:
            await frames.send(server.dealer, ORDER, what="begin")
            if await leader.serve_group():
                await server.finished()
            await frames.send(server.dealer, ORDER, what="end")


@dataclass(slots=True)
class _Leader:
    server: Server
    model: Model
    number: int = LOAD_STREAM + 1  # of the next stream
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
        limit = self.server.node.settings.buffer_mib << 20
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

    async def serve_group(self) -> bool:
        """The next run: requests that both servers have, and material for them. False if there are none."""
        clients, settings = self.server.edge.clients, self.server.node.settings
        self.resting = False
        with clients.taken(clients.queue.group(settings.batch_tokens)) as group:
            sizes = [request.size for request in group]
            bundle, rooms = await self._ask(group, self._prepared(sizes))
            if not group:
                return False
            if bundle is None:
                bundle = await self._deal(layout([request.size for request in group], settings.streams), ahead=False)
            await self.order_ahead()  # the dealer works on it while we compute
            await frames.send(self.server.other, ORDER, what="run", stream=bundle.number)
            await self.server.answer(self.model, group, bundle, rooms)
        return True

    def _prepared(self, sizes: Sequence[Size]) -> Bundle | None:
        """Complete material in which such requests fit, the smallest; it is taken out of the buffer."""
        fitting = [
            bundle
            for bundle in self.ahead
            if bundle.buffer.complete and bundle.buffer.failed is None and fits(sizes, bundle.sizes)
        ]
        chosen = min(fitting, key=lambda bundle: sum(size.batch * size.length for size in bundle.sizes), default=None)
        if chosen is not None:
            self.ahead.remove(chosen)
        return chosen

    async def _ask(self, group: list[Request], bundle: Bundle | None) -> tuple[Bundle | None, tuple[int, int]]:
        """Leave in `group` what server1 has too, and hears that it will run.

        Returns `bundle` if server1's half is good, and the bytes that both have room for beside all other bundles.
        """
        other = self.server.other
        number = NO_BUNDLE if bundle is None else bundle.number
        names: list[Scalar] = [request.name for request in group]
        sizes: list[Scalar] = [n for request in group for n in (request.size.batch, request.size.length)]
        answers: list[Scalar] = [request.size.answer for request in group]
        audits: list[Scalar] = [request.size.audit for request in group]
        room = self.server.receiver.room(None if bundle is None else bundle.buffer)
        await frames.send(
            other, ORDER, what="ask", stream=number, ids=names, sizes=sizes, answers=answers, audits=audits, room=room
        )
        header = await frames.receive_bare(other, HAVE)
        rooms = (room, frames.room(header))
        found, usable = header.fields.get("found"), header.fields.get("usable")
        if (
            not isinstance(found, list)
            or len(found) != len(group)
            or not all(type(x) is bool for x in [*found, usable])
        ):
            raise RemoteProtocolError(f"{other.name}: want what it has of {len(group)} requests, got something else")
        missing = [request for request, there in zip(group, found, strict=True) if not there]
        self.server.edge.clients.fail(missing, "server1 has not got this request, or got another size or answer")
        group[:] = [request for request in group if request not in missing]
        if bundle is not None and not usable:
            bundle.buffer.discard()
            return None, rooms
        if bundle is not None and not group:
            self.ahead.append(bundle)  # for another group
        return bundle, rooms

    async def _deal(self, sizes: Sequence[Size], *, ahead: bool) -> Bundle:
        """Order material from the dealer, and tell server1 to expect it."""
        number, self.number = self.number, self.number + len(sizes)
        flat: list[Scalar] = [n for size in sizes for n in (size.batch, size.length)]
        bundle = await self.server.expect(number, sizes, ahead=ahead)
        for peer in (self.server.other, self.server.dealer):
            answer, audit = sizes[0].kind
            await frames.send(
                peer, ORDER, what="deal", stream=number, sizes=flat, answer=answer, audit=audit, ahead=ahead
            )
        return bundle
