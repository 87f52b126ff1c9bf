"""A dealer that sends what a test says, and the receiver of server0 that receives it."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from bundles import SESSION, Bundle, nothing_left, peers

from mpcnet.arrays.ring import Bytes
from mpcnet.randomness.source import Tape
from mpcnet.runtime.correction_buffer import CorrectionBuffer, CorrectionReceiver
from mpcnet.runtime.stream import DEAL, DEALT, in_heap, turns
from mpcnet.transport.channel import CONTROL
from mpcnet.transport.wire import Header

FRAME = 24  # bytes of the one correction of a light segment; those of every second segment go to server0
PARTY = 0
WHOLE = 1 << 20  # segments: more than any bundle has, so all of it


class Deal:
    """A receiver of server0's, and a dealer that sends what the test says."""

    def __init__(
        self,
        limit_bytes: int = 1 << 30,
        patience_s: float = 5.0,
        tapes: Any = None,
        make: Callable[[int], Bytes] = in_heap,
    ) -> None:
        self.dealer, self.end = peers("dealer", "server0", high_water=1)
        self.receiver = CorrectionReceiver(self.end, PARTY, limit_bytes, patience_s, tapes, make)
        self.receiving = asyncio.ensure_future(self.receiver.run())

    def frames(self, bundle: Bundle) -> list[tuple[Header, list[memoryview]]]:
        """All of a bundle, in order."""
        found = []
        for index, sequence, corrections in bundle.corrections():
            if sent := corrections[PARTY]:
                header = bundle.streams[index].header(DEAL, SESSION, sequence, [c.part for c in sent])
                found.append((header, [correction.payload.data for correction in sent]))
        return [*found, (Header(CONTROL, SESSION, label=DEALT, fields={"seconds": 1.5}), [])]

    async def send(self, *bundles: Bundle) -> None:
        for bundle in bundles:
            for header, payload in self.frames(bundle):
                await self.dealer.channel.send(header, *payload)

    def sending(self, *bundles: Bundle) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.send(*bundles))

    async def close(self) -> None:
        """The receiver ends as it was told, and leaves nothing behind."""
        self.receiving.cancel()
        await asyncio.wait([self.receiving])
        await nothing_left()


async def quiet() -> None:
    """Let everybody go on as far as they can; there are no threads."""
    for _ in range(100):
        await asyncio.sleep(0)


def same(tape: Tape, bundle: Bundle, position: int) -> None:
    """The corrections at this position of the bundle."""
    sent = bundle.corrections()[position][2][PARTY]
    assert tape.parts == tuple(correction.part for correction in sent)
    whole = np.concatenate([correction.payload for correction in sent]) if sent else None
    assert (tape.payload is None) == (whole is None)
    assert whole is None or (tape.payload is not None and np.array_equal(tape.payload, whole))


async def use(buffer: CorrectionBuffer, bundle: Bundle) -> None:
    """Every segment of the bundle is what was dealt for it."""
    for position, (index, _) in enumerate(turns(bundle.streams)):
        same(await buffer.next(index), bundle, position)


def bundle_bytes(bundle: Bundle) -> list[int]:
    """Sizes of server0's frames."""
    sizes = [sum(correction.part.nbytes for correction in c[PARTY]) for _, _, c in bundle.corrections()]
    return [size for size in sizes if size]


async def first_frame(buffer: CorrectionBuffer) -> Tape:
    """Segments until one that has a frame."""
    while not (tape := await buffer.next(0)).parts:
        pass
    return tape
