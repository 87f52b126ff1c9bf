"""Tapes instead of memory: the same corrections, no limit, no trace on disk afterwards, and disks that fail."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import HEAVY, SESSION, Bundle, Shape, Trio, check, nothing_left
from dealing import FRAME, WHOLE, Deal, bundle_bytes, first_frame, same, use
from limits import LIMIT_S

from mpcnet.errors import LocalStateError, LocalStorageError
from mpcnet.runtime.sealed_tape import SealedTapes


def left(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tape"))


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
async def test_tapes_give_what_memory_gives(tmp_path: Path, limit_bytes: int) -> None:
    shapes = (Shape(4), Shape(3, HEAVY, dealt=2), Shape(2, dealt=0), Shape(5, HEAVY))
    bundles = [Bundle(*shapes), Bundle(*shapes, first=5)]
    all_tapes = [SealedTapes.open(tmp_path / str(party)) for party in (0, 1)]
    trio = Trio(limit_bytes, all_tapes=all_tapes)
    on_disk = check(await trio.run(*bundles, to_disk=True), *bundles)
    in_memory = check(await Trio().run(*bundles), *bundles)
    assert all(np.array_equal(a, b) for a, b in zip(on_disk, in_memory, strict=True))
    assert not left(tmp_path)
    for tapes in all_tapes:
        tapes.close()
    await nothing_left()


async def test_a_tape_takes_no_memory_and_no_limit(tapes: SealedTapes, folder: Path) -> None:
    """It arrives whole behind a bundle that fills the memory's limit, and is burned when it is first used."""
    first, second, deal = Bundle(Shape(1)), Bundle(Shape(9, HEAVY), first=2), Deal(FRAME, tapes=tapes)
    deal.receiver.expect(first.streams)
    buffer = deal.receiver.expect(second.streams, to_disk=True)
    async with asyncio.timeout(LIMIT_S):
        await deal.send(first, second)
        await buffer.ready(WHOLE)
        assert buffer.complete and buffer.nbytes == 0 and deal.receiver.nbytes == FRAME
        [tape] = left(folder)
        assert tape.stem == f"{SESSION[:8].hex()}-2" and tape.stat().st_size > sum(bundle_bytes(second))
        same(await buffer.next(0), second, 0)
        same(await buffer.next(0), second, 1)
        assert not left(folder)
        assert buffer.nbytes == 8 * HEAVY  # one record is read ahead
        for position in range(2, 10):
            same(await buffer.next(0), second, position)
    assert buffer.nbytes == 0
    await deal.close()


async def test_a_bundle_without_any_correction_needs_no_tape(tapes: SealedTapes, folder: Path) -> None:
    bundle, deal = Bundle(Shape(2, dealt=0)), Deal(tapes=tapes)
    buffer = deal.receiver.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await buffer.ready(WHOLE)
    await use(buffer, bundle)
    assert not left(folder)
    await deal.close()


async def test_tapes_need_a_folder() -> None:
    deal = Deal()
    with pytest.raises(LocalStateError, match="no folder"):
        deal.receiver.expect(Bundle(Shape(1)).streams, to_disk=True)
    await deal.close()


@pytest.mark.parametrize("frames", [0, 2, None])
@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_tape_that_is_discarded(tapes: SealedTapes, folder: Path, frames: int | None, words: int) -> None:
    """While it arrives, and when it is complete; what comes later is dropped, and the file is gone."""
    first, second, deal = Bundle(Shape(9, words)), Bundle(Shape(3), first=2), Deal(tapes=tapes)
    buffer, later = (
        deal.receiver.expect(first.streams, to_disk=True),
        deal.receiver.expect(second.streams, to_disk=True),
    )
    sent = deal.frames(first)
    cut = len(sent) if frames is None else frames
    async with asyncio.timeout(LIMIT_S):
        for header, payload in sent[:cut]:
            await deal.dealer.channel.send(header, *payload)
        if frames is None:
            await buffer.ready(WHOLE)
        buffer.discard()
        for header, payload in sent[cut:]:
            await deal.dealer.channel.send(header, *payload)
        await buffer.settled()
        await deal.send(second)
        await later.ready(WHOLE)
        assert [tape.stem[-2:] for tape in left(folder)] == ["-2"]
        await use(later, second)
    await deal.close()


@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_tape_that_is_discarded_while_it_is_read(tapes: SealedTapes, words: int) -> None:
    """Its file is closed, behind a record that is being read ahead."""
    closed = threading.Event()
    bundle, deal = Bundle(Shape(9, words)), Deal(tapes=BadDrawer(tapes, "close", 0, closed.set))
    buffer = deal.receiver.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await buffer.ready(WHOLE)
    await first_frame(buffer)
    buffer.discard()
    assert buffer.nbytes == 0
    with pytest.raises(LocalStateError, match="discarded"):
        await first_frame(buffer)
    assert await asyncio.to_thread(closed.wait, LIMIT_S)
    await deal.close()


async def test_when_the_session_ends_tapes_are_removed(tapes: SealedTapes, folder: Path) -> None:
    first, second, deal = Bundle(Shape(5)), Bundle(Shape(5), first=2), Deal(tapes=tapes)
    buffer = deal.receiver.expect(first.streams, to_disk=True)
    deal.receiver.expect(second.streams, to_disk=True)
    await deal.send(first)
    for header, payload in deal.frames(second)[:2]:
        await deal.dealer.channel.send(header, *payload)
    await buffer.ready(WHOLE)
    assert left(folder)
    await deal.close()
    assert not left(folder)


class BadDrawer:
    """A folder, its writers, tapes and readers in one: `act` comes before their calls of one name, but for some."""

    def __init__(self, inner: Any, call: str, good: int, act: Callable[[], None]) -> None:
        self.inner, self.call, self.good, self.act = inner, call, good, act

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def called(*args: object) -> Any:
            if name == self.call:
                self.good -= 1
                if self.good < 0:
                    self.act()
            found = method(*args)
            return BadDrawer(found, self.call, self.good, self.act) if name in ("write", "finish", "burn") else found

        return called


def full_disk() -> None:
    raise LocalStorageError("tape 1: No space left on device")


class Held:
    """Keeps whoever calls it until the test says go on."""

    def __init__(self) -> None:
        self.begun, self.on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.on.wait(LIMIT_S)


@pytest.mark.parametrize(("call", "good"), [("write", 0), ("append", 0), ("append", 3), ("finish", 0)])
async def test_a_disk_that_fails_while_a_bundle_arrives(tapes: SealedTapes, call: str, good: int) -> None:
    """That bundle can not be used; the next one can."""
    first, second = Bundle(Shape(9)), Bundle(Shape(9), first=2)
    deal = Deal(tapes=BadDrawer(tapes, call, good, full_disk))
    buffer, later = deal.receiver.expect(first.streams, to_disk=True), deal.receiver.expect(second.streams)
    waiting = [asyncio.ensure_future(buffer.ready(WHOLE)), asyncio.ensure_future(first_frame(buffer))]
    async with asyncio.timeout(LIMIT_S):
        await deal.send(first, second)
        for task in waiting:
            with pytest.raises(LocalStorageError, match="tape 1: No space"):
                await task
        await buffer.settled()
        assert buffer.failed == "tape 1: No space left on device" and not buffer.complete
        await use(later, second)
    await deal.close()


@pytest.mark.parametrize(("call", "good"), [("burn", 0), ("next", 0), ("next", 2)])
@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_disk_that_fails_while_a_bundle_is_used(tapes: SealedTapes, call: str, good: int, words: int) -> None:
    bundle, deal = Bundle(Shape(9, words)), Deal(tapes=BadDrawer(tapes, call, good, full_disk))
    buffer = deal.receiver.expect(bundle.streams, to_disk=True)
    async with asyncio.timeout(LIMIT_S):
        await deal.send(bundle)
        await buffer.ready(WHOLE)
        assert buffer.failed is None
        for _ in range(2):
            with pytest.raises(LocalStorageError, match="No space"):
                await use(buffer, bundle) if buffer.failed is None else await first_frame(buffer)
    assert buffer.failed is not None and not deal.receiving.done()
    await deal.close()


@pytest.mark.parametrize("call", ["burn", "next"])
async def test_a_reader_that_is_cancelled_loses_the_buffer(tapes: SealedTapes, call: str) -> None:
    """The record that was read is lost: what follows must not be taken for it."""
    held, bundle = Held(), Bundle(Shape(9, HEAVY))
    deal = Deal(tapes=BadDrawer(tapes, call, 0, held))
    buffer = deal.receiver.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await buffer.ready(WHOLE)
    reading = asyncio.ensure_future(first_frame(buffer))
    assert await asyncio.to_thread(held.begun.wait, LIMIT_S)
    reading.cancel()
    held.on.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(LocalStateError, match="discarded"):
        await first_frame(buffer)
    assert buffer.nbytes == 0
    await deal.close()


async def test_a_session_that_ends_while_a_record_is_written(tapes: SealedTapes, folder: Path) -> None:
    """It ends with the record, and then the file goes."""
    held, bundle = Held(), Bundle(Shape(9))
    deal = Deal(tapes=BadDrawer(tapes, "append", 1, held))
    deal.receiver.expect(bundle.streams, to_disk=True)
    sending = deal.sending(bundle)
    assert await asyncio.to_thread(held.begun.wait, LIMIT_S)
    deal.receiving.cancel()
    await asyncio.sleep(0)
    assert not deal.receiving.done() and left(folder)
    held.on.set()
    await asyncio.wait([deal.receiving])
    assert not left(folder)
    sending.cancel()
    await asyncio.wait([sending])
    await deal.close()
