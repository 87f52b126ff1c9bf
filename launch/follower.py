"""server1: does what server0 orders, with its own half of everything."""

from __future__ import annotations

from launch import frames
from launch.guests import MAX_BATCH
from launch.leader import NO_BUNDLE
from launch.server import Bundle, Server
from launch.service import unless
from launch.wire_names import HAVE, ORDER
from models.bert import Model
from models.program import Size
from mpcnet.errors import RemoteProtocolError, describe
from mpcnet.wire import Header

MOST_REQUESTS = 1024  # of one run
GRACE_S = 2.0  # a client dials both servers at once: its request may reach us later than server0


async def follow(server: Server, model: Model) -> None:
    """Follow server0's orders until asked to stop; a run that has begun is finished first."""
    bundles: dict[int, Bundle] = {}
    while order := await unless(server.node.stopping, frames.receive_bare(server.other, ORDER, patient=True)):
        what, where = order.fields.get("what"), f"{server.other.name}, order"
        if what == "deal":
            number, sizes = deal_order(order, server.node.config.numbers.longest)
            bundles[number] = await server.expect(number, sizes, ahead=order.fields.get("ahead") is True)
        elif what == "ask":
            await _tell(server, order, bundles)
        elif what == "run":
            await _run(server, model, order, bundles)
        else:
            raise RemoteProtocolError(describe(where, "deal, ask or run", what))


def deal_order(order: Header, positions: int) -> tuple[int, list[Size]]:
    """The first stream's number, and the sizes of all streams, of an order to deal.

    :raises RemoteProtocolError: it is malformed.
    """
    number = frames.whole_number(order, "stream", 1, (1 << 32) - 1)
    flat = frames.whole_numbers(order.fields.get("sizes"), "order, sizes", 1, max(MAX_BATCH * MOST_REQUESTS, positions))
    sizes = [Size(batch, length) for batch, length in zip(flat[::2], flat[1::2], strict=False)]
    if not sizes or len(flat) % 2 or any(size.length > positions for size in sizes):
        raise RemoteProtocolError(f"order, sizes: want pairs of a batch and up to {positions} tokens, got others")
    return number, sizes


def _names(order: Header) -> list[bytes]:
    names = order.fields.get("ids")
    if not isinstance(names, list) or len(set(names)) != len(names) or len(names) > MOST_REQUESTS:
        raise RemoteProtocolError(f"order, ids: want up to {MOST_REQUESTS} different request ids, got others")
    return [name for name in names if isinstance(name, bytes)]


async def _tell(server: Server, order: Header, bundles: dict[int, Bundle]) -> None:
    """Which of server0's requests we have too, and whether our half of the material is good."""
    number = frames.whole_number(order, "stream", 0, (1 << 32) - 1)
    found = await server.guests.find(_names(order), min(GRACE_S, server.node.settings.timeout_s / 2))
    usable = number == NO_BUNDLE or (number in bundles and bundles[number].stock.failed is None)
    if not usable and number in bundles:
        bundles.pop(number).stock.discard()
    await frames.send(server.other, HAVE, found=[request is not None for request in found], usable=usable)


async def _run(server: Server, model: Model, order: Header, bundles: dict[int, Bundle]) -> None:
    number = frames.whole_number(order, "stream", 1, (1 << 32) - 1)
    bundle = bundles.pop(number, None)
    requests = [server.guests.queue.find(name) for name in _names(order)]
    present = [request for request in requests if request is not None]
    if bundle is None or not requests or len(present) < len(requests):
        raise RemoteProtocolError(f"{server.other.name}: it orders a run {number} of what we have not, or not any more")
    rows, length = sum(r.size.batch for r in present), max(r.size.length for r in present)
    if rows > sum(size.batch for size in bundle.sizes) or length > bundle.sizes[0].length:
        raise RemoteProtocolError(f"{server.other.name}: run {number}: its material is too small for its requests")
    await server.answer(model, present, bundle)
