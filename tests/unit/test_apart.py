"""Arrays outside the heap; that they go back to the system is in test_heap.py."""

import asyncio
import mmap
import sys

import numpy as np
import pytest
from bundles import GUARD_S, Bundle, Shape
from dealing import Deal

from mpcnet import apart
from mpcnet.ring import Bytes


def is_apart(array: Bytes) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


@pytest.mark.parametrize("nbytes", [0, 1, apart.LEAST_BYTES - 1, apart.LEAST_BYTES, apart.HUGE_BYTES + 5])
def test_an_array_to_write(nbytes: int) -> None:
    array = apart.empty(nbytes)
    assert array.shape == (nbytes,) and array.dtype == np.uint8 and array.flags.writeable
    array[:] = 7
    assert int(array.sum()) == 7 * nbytes
    assert is_apart(array) == (sys.platform == "linux" and nbytes >= apart.LEAST_BYTES)


@pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")
async def test_what_is_dealt_lies_apart_if_it_is_large() -> None:
    bundle, deal = Bundle(Shape(2, words=apart.LEAST_BYTES)), Deal()
    sending = deal.sending(bundle)
    stock = deal.intake.expect(bundle.streams)
    async with asyncio.timeout(GUARD_S):
        await stock.ready()
        await sending
        payloads = [tape.payload for tape in [await stock.next(0) for _ in range(3)] if tape.payload is not None]
    assert payloads and all(is_apart(raw) == (raw.nbytes >= apart.LEAST_BYTES) for raw in payloads)
    assert any(map(is_apart, payloads))
    await deal.close()
