"""server1: does what server0 orders, with its own half of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mpcnet.errors import LocalInputError, RemoteProtocolError, describe
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import HAVE, ORDER
from mpcnet.launch.party.leader import NO_BUNDLE
from mpcnet.launch.party.queue import Request
from mpcnet.launch.party.server import Bundle, Server
from mpcnet.launch.party.service import unless
from mpcnet.launch.party.upload import MAX_BATCH
from mpcnet.models.families.bert import Config, Model
from mpcnet.models.private.program import Size, wanted_answer
from mpcnet.transport.wire import Header

MOST_REQUESTS = 1024  # of one run
GRACE_S = 2.0  # a client dials both servers at once: its request may reach us later than server0


async def follow(server: Server, model: Model) -> None:
    """Follow server0's orders until asked to stop; a run that was announced is finished first."""
    follower = _Follower(server, model)
    while order := await unless(server.node.stopping, follower.order()):
        if order.fields.get("what") == "ask":
            if await follower.run(order):
                await server.finished()
        else:
            await follower.store(order)


@dataclass(slots=True)
class _Follower:
    server: Server
    model: Model
    bundles: dict[int, Bundle] = field(default_factory=dict)  # by their first stream's number

    async def order(self) -> Header:
        return await frames.receive_bare(self.server.other, ORDER, patient=True)

    async def store(self, order: Header) -> None:
        """Expect material, or throw some away."""
        what = order.fields.get("what")
        if what == "deal":
            await self._expect(order)
        elif what == "drop":
            self._drop(_number(order))
        else:
            raise RemoteProtocolError(describe(f"{self.server.other.name}, order", "deal, drop, or ask and run", what))

    async def _expect(self, order: Header) -> None:
        number, sizes = deal_order(order, self.server.node.config)
        self.bundles[number] = await self.server.expect(number, sizes, ahead=order.fields.get("ahead") is True)

    def _drop(self, number: int) -> None:
        if bundle := self.bundles.pop(number, None):
            if bundle.buffer.failed is not None:
                self.server.node.say(f"run {number}: dealt in vain: {bundle.buffer.failed}", "warning")
            bundle.buffer.discard()

    async def run(self, order: Header) -> bool:
        """Say which of the requests we have too, and if our half of the material is good; then run as ordered.

        False if we have none of them.
        """
        clients, number, other = self.server.edge.clients, _number(order), self.server.other
        grace_s = min(GRACE_S, self.server.node.settings.timeout_s / 2)
        found = self._of_one_size(order, await clients.find(_names(order), grace_s))
        usable = number == NO_BUNDLE or (number in self.bundles and self.bundles[number].buffer.failed is None)
        if not usable:
            self._drop(number)
        asked = self.bundles.get(number)
        rooms = (frames.room(order), self.server.receiver.room(None if asked is None else asked.buffer))
        with clients.taken([request for request in found if request is not None]) as group:
            await frames.send(other, HAVE, found=[r is not None for r in found], usable=usable, room=rooms[1])
            while group:
                order = await self.order()
                if order.fields.get("what") == "run":
                    await self.server.answer(self.model, group, self._material(_number(order), group), rooms)
                    break
                await self.store(order)
            return bool(group)

    def _of_one_size(self, order: Header, found: Sequence[Request | None]) -> list[Request | None]:
        """Without the requests that have another size or kind at server0: they cost nobody else the session."""
        given = [order.fields.get(name) for name in ("sizes", "answers", "audits")]
        lists = [each for each in given if isinstance(each, list)]
        if [len(each) for each in lists] != [2 * len(found), len(found), len(found)]:
            raise RemoteProtocolError(
                f"{self.server.other.name}, order: want sizes, an answer and an audit for each request, got others"
            )
        flat, answers, audits = lists
        sizes = zip(found, flat[::2], flat[1::2], answers, audits, strict=True)
        torn = [r for r, *size in sizes if r and [r.size.batch, r.size.length, *r.size.kind] != size]
        self.server.edge.clients.fail(torn, "server0 has got another size or answer of this request")
        return [None if request in torn else request for request in found]

    def _material(self, number: int, group: Sequence[Request]) -> Bundle:
        bundle = self.bundles.pop(number, None)
        if bundle is None:
            raise RemoteProtocolError(f"{self.server.other.name}: it orders run {number}, which was not dealt")
        rows, length = sum(r.size.batch for r in group), max(r.size.length for r in group)
        if rows > sum(size.batch for size in bundle.sizes) or length > bundle.sizes[0].length:
            raise RemoteProtocolError(f"{self.server.other.name}: run {number}: too little was dealt for its requests")
        if any(request.size.kind != bundle.sizes[0].kind for request in group):
            raise RemoteProtocolError(f"{self.server.other.name}: run {number}: another kind of answer was dealt for")
        return bundle


def deal_order(order: Header, config: Config) -> tuple[int, list[Size]]:
    """The first stream's number, and the sizes of all streams, of an order to deal.

    :raises RemoteProtocolError: it is malformed.
    """
    number, positions = frames.whole_number(order, "stream", 1, (1 << 32) - 1), config.formats.longest
    try:
        answer = wanted_answer(config, order.fields.get("answer"))
    except LocalInputError as error:
        raise RemoteProtocolError(f"order, {error}") from error
    flat = frames.whole_numbers(order.fields.get("sizes"), "order, sizes", 1, max(MAX_BATCH * MOST_REQUESTS, positions))
    audit = order.fields.get("audit") is True
    sizes = [Size(batch, length, answer, audit) for batch, length in zip(flat[::2], flat[1::2], strict=False)]
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
