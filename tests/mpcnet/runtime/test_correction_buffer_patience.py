"""How long a dealer that sends nothing is waited for, on invented time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from around import Around
from bundles import Bundle, InventedTime, Shape, in_invented_time, peers, replaced
from dealing import FRAME, PARTY, WHOLE, Deal, first_frame, use

from mpcnet.errors import ChannelTimeout
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.transport.channel import Expect
from mpcnet.transport.wire import Header


@contextmanager
def timing_out(loop: InventedTime, after_s: float) -> Iterator[None]:
    """What happens inside ends with the dealer's silence, after this time."""
    start = loop.time()
    with pytest.raises(ChannelTimeout, match=r"^stream 1, segment \d \(op\d\): waited 5 s for dealer to send a frame"):
        yield
    assert loop.time() - start == pytest.approx(after_s)


def invented(test: Callable[[InventedTime], Awaitable[None]]) -> Callable[[], None]:
    """The test, on a loop of invented time."""

    def run() -> None:
        async def main(loop: InventedTime) -> None:
            await test(loop)

        in_invented_time(main)

    return run


async def silence(loop: InventedTime) -> None:
    """Patience counts from when we began to wait, not from when nobody cared; and anew from each frame."""
    bundle, deal = Bundle(Shape(9)), Deal(patience_s=5.0)
    buffer = deal.receiver.expect(bundle.streams)
    await asyncio.sleep(100)
    with timing_out(loop, 5.0):
        await buffer.ready(WHOLE)
    with timing_out(loop, 5.0):
        await first_frame(buffer)
    for header, payload in deal.frames(bundle)[:3]:
        await asyncio.sleep(4)
        await deal.dealer.channel.send(header, *payload)
        waiting = asyncio.ensure_future(buffer.ready(WHOLE))
    with timing_out(loop, 5.0):
        await waiting
    await deal.close()


async def slow_frames(loop: InventedTime) -> None:
    """A dealer that sends something now and then is waited for."""
    bundle, deal = Bundle(Shape(9)), Deal(patience_s=5.0)
    buffer = deal.receiver.expect(bundle.streams)
    waiting, start = asyncio.ensure_future(buffer.ready(WHOLE)), loop.time()
    for header, payload in deal.frames(bundle):
        await asyncio.sleep(4)
        await deal.dealer.channel.send(header, *payload)
    await waiting
    assert loop.time() - start == pytest.approx(4 * len(deal.frames(bundle)))
    await use(buffer, bundle)
    await deal.close()


class SlowPayload(Around):
    """A channel over which a payload takes long, once its header is here: the channel itself watches that."""

    def __init__(self, inner: Any, seconds: float) -> None:
        super().__init__(inner)
        self.seconds = seconds

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        assert patient
        header: Header = await self.inner.receive(expect, patient=patient)
        await asyncio.sleep(self.seconds)
        return header


async def slow_payloads(loop: InventedTime) -> None:
    bundle, (dealer, end) = Bundle(Shape(3)), peers("dealer", "server0")
    deal = Deal()
    await deal.close()
    deal.dealer = dealer
    deal.receiver = CorrectionReceiver(replaced(end, SlowPayload(end.channel, 60.0)), PARTY, 1 << 30, 5.0)
    deal.receiving = asyncio.ensure_future(deal.receiver.run())
    buffer = deal.receiver.expect(bundle.streams)
    await deal.send(bundle)
    await buffer.ready(WHOLE)
    await use(buffer, bundle)
    await deal.close()


async def full_buffer(loop: InventedTime) -> None:
    """Nobody owes anything while we do not read."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(FRAME, patience_s=5.0)
    deal.receiver.expect(first.streams)
    later = deal.receiver.expect(second.streams)
    sending = deal.sending(first, second)
    waiting = asyncio.ensure_future(later.settled())
    await asyncio.sleep(100)
    assert not waiting.done()
    for task in (waiting, sending):
        task.cancel()
    await asyncio.wait([waiting, sending])
    await deal.close()


test_silence = invented(silence)
test_slow_frames = invented(slow_frames)
test_slow_payloads = invented(slow_payloads)
test_full_buffer = invented(full_buffer)
