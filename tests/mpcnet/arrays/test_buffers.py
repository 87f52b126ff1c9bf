"""Arrays outside the heap, whose memory is used again; that it goes back to the system is in test_heap.py."""

import asyncio
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bundles import Bundle, Shape
from dealing import WHOLE, Deal
from limits import LIMIT_S

from mpcnet.arrays import buffers, ring
from mpcnet.arrays.ring import Bytes


def is_apart(array: Bytes) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


@pytest.mark.parametrize("nbytes", [0, 1, buffers.LEAST_BYTES - 1, buffers.LEAST_BYTES, buffers.HUGE_BYTES + 5])
def test_an_array_to_write(nbytes: int) -> None:
    array = buffers.Buffers().empty(nbytes)
    assert array.shape == (nbytes,) and array.dtype == np.uint8 and array.flags.writeable
    array[:] = 7
    assert int(array.sum()) == 7 * nbytes
    assert is_apart(array) == (sys.platform == "linux" and nbytes >= buffers.LEAST_BYTES)


class Used:
    """A pool, and what was taken from it by name."""

    def __init__(self) -> None:
        self.pool, self.taken = buffers.Buffers(), dict[str, mmap.mmap]()

    def take(self, name: str, mib: int) -> int:
        self.taken[name] = self.pool._take(mib << 20)
        return id(self.taken[name])

    def give(self, *names: str) -> None:
        for name in names:
            self.pool._give(self.taken.pop(name))

    def mib(self) -> tuple[int, int]:
        """In use, and kept."""
        return self.pool._used_bytes >> 20, self.pool._kept_bytes >> 20


@pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")
def test_most_of_what_was_used_is_used_again() -> None:
    used = Used()
    first = [used.take(name, 2) for name in "abcdefgh"]
    used.give("a")
    assert used.mib() == (14, 0), "what is dropped first goes back"
    used.give(*"bcd")
    assert used.mib() == (8, 6)
    assert used.take("a", 2) == first[1] and used.mib() == (10, 4)
    used.give(*"aefgh")
    assert used.mib() == (0, 14)
    again = [used.take(name, 2) for name in "abcdefgh"]
    assert len(set(again) & set(first)) >= 7 and used.mib() == (16, 0)
    used.give(*"abcdefgh")
    used.pool.release()
    assert used.mib() == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")
def test_what_does_not_fit_another_run_makes_room_for_it() -> None:
    used = Used()
    for name in "abcdefgh":
        used.take(name, 2)
    used.give(*"abcdefgh")
    used.take("small", 1)
    assert used.mib() == (1, 14), "an eighth was free"
    used.take("large", 10)
    assert used.mib() == (11, 4) and sum(used.mib()) <= 16
    used.take("larger", 20)
    assert used.mib() == (31, 0)


VIEWS: dict[str, Callable[[Bytes], Any]] = {  # as what arrives is handed on
    "bytes": lambda taken: memoryview(taken)[8:].cast("B"),
    "slice of a slice": lambda taken: taken[8:][8:],
    "words": lambda taken: taken[8:].view("<i8").reshape(-1, 1)[3:],
    "tensor": lambda taken: torch.from_numpy(taken[8:].view("<i8"))[2:].reshape(-1),
    "stored": lambda taken: ring.from_stored(taken[8:], 64, (len(taken) // 8 - 1,)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")
@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_a_view_holds_its_memory(make: Callable[[Bytes], Any]) -> None:
    """Only when the last is gone another array may lie there: material in use would be overwritten by other material."""
    pool = buffers.Buffers()
    arrays = [pool.empty(1 << 20) for _ in range(8)]
    taken = arrays.pop()
    taken[:] = 1
    place, view = taken.ctypes.data, make(taken)
    before = torch.as_tensor(view).clone()
    del arrays[:4]
    del taken
    others = [pool.empty(1 << 20) for _ in range(4)]
    for other in others:
        other[:] = 2
        assert other.ctypes.data != place
    assert torch.equal(torch.as_tensor(view), before)
    del other, others, view
    again = [pool.empty(1 << 20) for _ in range(4)]
    assert place in [array.ctypes.data for array in again]


@pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")
async def test_what_is_dealt_lies_apart_if_it_is_large() -> None:
    bundle, deal = Bundle(Shape(2, words=buffers.LEAST_BYTES)), Deal(make=buffers.Buffers().empty)
    sending = deal.sending(bundle)
    buffer = deal.receiver.expect(bundle.streams)
    async with asyncio.timeout(LIMIT_S):
        await buffer.ready(WHOLE)
        await sending
        payloads = [tape.payload for tape in [await buffer.next(0) for _ in range(3)] if tape.payload is not None]
    assert payloads and all(is_apart(raw) == (raw.nbytes >= buffers.LEAST_BYTES) for raw in payloads)
    assert any(map(is_apart, payloads))
    await deal.close()
