"""Corrections ahead of their use: one reader, bounded memory, tapes on disk, and what happens when somebody fails."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import (
    GUARD_S,
    HEAVY,
    SESSION,
    Bundle,
    InventedTime,
    Shape,
    Trio,
    check,
    in_invented_time,
    nothing_left,
    peers,
    replaced,
    wire,
)
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from tapes import failing

from mpcnet.channel import CONTROL, Expect
from mpcnet.drawer import Drawer
from mpcnet.errors import ChannelClosed, ChannelTimeout, LocalStateError, LocalStorageError, MpcError, RemoteProtocolError
from mpcnet.mesh import Peer
from mpcnet.randomness import Tape
from mpcnet.stock import Intake, Stock
from mpcnet.stream import DEAL, DEALT, turns
from mpcnet.wire import Header

FRAME = 24  # bytes of the one correction of a light segment; those of every second segment go to server0
PARTY = 0


class Deal:
    """An intake of server0's, and a dealer that sends what the test says."""

    def __init__(self, limit_bytes: int = 1 << 30, patience_s: float = 5.0, drawer: Any = None) -> None:
        self.dealer, self.end = peers("dealer", "server0", high_water=1)
        self.intake = Intake(self.end, PARTY, limit_bytes, patience_s, drawer)
        self.receiving = asyncio.ensure_future(self.intake.run())

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
        """The intake ends as it was told, and leaves nothing behind."""
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


async def use(stock: Stock, bundle: Bundle) -> None:
    """Every segment of the bundle is what was dealt for it."""
    for position, (index, _) in enumerate(turns(bundle.streams)):
        same(await stock.next(index), bundle, position)


# --- order, facts, the end of a bundle ------------------------------------------------------------------------


async def test_what_was_dealt_comes_out_in_order() -> None:
    first, second = Bundle(Shape(4), Shape(1, HEAVY), Shape(2, dealt=3)), Bundle(Shape(3), first=4)
    deal = Deal()
    stocks = [deal.intake.expect(bundle.streams) for bundle in (first, second)]
    assert stocks[0].facts == {} and not stocks[0].complete
    sending = deal.sending(first, second)
    async with asyncio.timeout(GUARD_S):
        for stock in stocks:
            await stock.ready()
        await sending
    assert all(stock.complete and stock.facts == {"seconds": 1.5} and stock.failed is None for stock in stocks)
    held = [sum(bundle_bytes(bundle)) for bundle in (first, second)]
    assert [stock.nbytes for stock in stocks] == held and deal.intake.nbytes == sum(held)
    await use(stocks[0], first)
    await use(stocks[1], second)
    assert deal.intake.nbytes == 0
    await deal.close()


def bundle_bytes(bundle: Bundle) -> list[int]:
    """Sizes of server0's frames."""
    sizes = [sum(correction.part.nbytes for correction in c[PARTY]) for _, _, c in bundle.corrections()]
    return [size for size in sizes if size]


async def test_calls_out_of_order_and_behind_the_end() -> None:
    bundle, deal = Bundle(Shape(1, dealt=0), Shape(0, dealt=0)), Deal()
    stock = deal.intake.expect(bundle.streams)
    with pytest.raises(LocalStateError, match="streams 1, 2: stream 1 of the bundle is not the next"):
        await stock.next(1)
    await use(stock, bundle)
    with pytest.raises(LocalStateError, match="not the next"):
        await stock.next(0)
    await deal.close()


async def test_nothing_is_received_that_is_not_expected() -> None:
    """Else a frame that somebody else has to read would be taken, or a deadline would run."""
    deal, bundle = Deal(), Bundle(Shape(3))
    sending = deal.sending(bundle)
    await quiet()
    assert deal.end.channel.received_bytes == 0 and not wire(deal.end).inner._receiving
    stock = deal.intake.expect(bundle.streams)
    await use(stock, bundle)
    await sending
    await quiet()
    assert stock.complete and not wire(deal.end).inner._receiving
    await deal.close()


# --- the limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit_bytes", "held"), [(0, 1), (1, 1), (2 * FRAME, 2), (3 * FRAME - 1, 2), (6 * FRAME, 6)])
async def test_at_the_limit_the_dealer_is_kept_waiting(limit_bytes: int, held: int) -> None:
    bundle, deal = Bundle(*[Shape(7)] * 3), Deal(limit_bytes)
    stock = deal.intake.expect(bundle.streams)
    sending = deal.sending(bundle)
    async with asyncio.timeout(GUARD_S):
        await stock.ready()
        for position, (index, _) in enumerate(turns(bundle.streams)):
            await quiet()
            left = bundle_bytes(bundle)[sum(1 for c in bundle.corrections()[:position] if c[2][PARTY]) :]
            assert deal.intake.nbytes == sum(left[:held])
            same(await stock.next(index), bundle, position)
        await sending
        await stock.settled()
    await deal.close()


async def test_ready_returns_at_the_limit_and_for_bundles_behind_it() -> None:
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(2 * FRAME)
    stocks = [deal.intake.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(GUARD_S):
        for stock in stocks:
            await stock.ready()
            assert not stock.complete
        assert deal.intake.nbytes == 2 * FRAME
        for stock, bundle in zip(stocks, (first, second), strict=True):
            await use(stock, bundle)
        await sending
    await deal.close()


@pytest.mark.parametrize("limit_bytes", [0, FRAME, 5 * FRAME])
async def test_a_bundle_that_is_used_before_an_older_one(limit_bytes: int) -> None:
    """The older one is received all the same, over the limit: nobody waits for ever."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(limit_bytes)
    stocks = [deal.intake.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(GUARD_S):
        await use(stocks[1], second)
        assert stocks[0].complete and deal.intake.nbytes == sum(bundle_bytes(first))
        await use(stocks[0], first)
        await sending
    await deal.close()


@few
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 200), st.integers(0, 3))
def test_memory_is_bounded_whatever_is_dealt(rounds: list[int], limit_bytes: int, dealt: int) -> None:
    async def main() -> None:
        bundles = [Bundle(Shape(rounds[0], dealt=2)), Bundle(*[Shape(n, dealt=dealt) for n in rounds], first=2)]
        deal = Deal(limit_bytes)
        stocks = [deal.intake.expect(bundle.streams) for bundle in bundles]
        sending = deal.sending(*bundles)
        bound = max(limit_bytes, *(size for bundle in bundles for size in [0, *bundle_bytes(bundle)]))
        for stock, bundle in zip(stocks, bundles, strict=True):
            for position, (index, _) in enumerate(turns(bundle.streams)):
                await quiet()
                assert deal.intake.nbytes <= bound
                same(await stock.next(index), bundle, position)
        await sending
        await stocks[-1].settled()
        await deal.close()

    asyncio.run(main())


# --- not wanted any more --------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 1, 5])
@pytest.mark.parametrize("limit_bytes", [0, 3 * FRAME, 1 << 30])
async def test_discarded_in_the_midst(limit_bytes: int, used: int) -> None:
    """Its memory is free, the rest of it is dropped, and the next bundle is whole."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(limit_bytes)
    stocks = [deal.intake.expect(bundle.streams) for bundle in (first, second)]
    sending = deal.sending(first, second)
    async with asyncio.timeout(GUARD_S):
        for position in range(used):
            same(await stocks[0].next(0), first, position)
        stocks[0].discard()
        assert stocks[0].nbytes == 0
        for call in (stocks[0].ready, lambda: stocks[0].next(0)) if not used % 2 else (stocks[0].ready,):
            with pytest.raises(LocalStateError, match="streams 1: it was discarded"):
                await call()
        await stocks[0].settled()
        await use(stocks[1], second)
        await sending
    assert not stocks[0].complete
    await deal.close()


async def test_discarded_while_somebody_waits_for_it() -> None:
    deal = Deal()
    stock = deal.intake.expect(Bundle(Shape(3)).streams)
    waiting = [asyncio.ensure_future(stock.ready()), asyncio.ensure_future(first_frame(stock))]
    await quiet()
    stock.discard()
    for task in waiting:
        with pytest.raises(LocalStateError, match="discarded"):
            await task
    await deal.close()


async def first_frame(stock: Stock) -> Tape:
    """Segments until one that has a frame."""
    while not (tape := await stock.next(0)).parts:
        pass
    return tape


# --- the dealer fails -----------------------------------------------------------------------------------------


async def test_a_dealer_that_dies_in_mid_bundle() -> None:
    """Whoever waits is told where, and whoever asks later."""
    bundle, deal = Bundle(Shape(9), Shape(9)), Deal()
    stock, later = deal.intake.expect(bundle.streams), deal.intake.expect(Bundle(Shape(1), first=3).streams)
    for header, payload in deal.frames(bundle)[:4]:
        await deal.dealer.channel.send(header, *payload)
    waiting = [asyncio.ensure_future(s.ready()) for s in (stock, later)]
    await quiet()
    await deal.dealer.channel.close()
    words = r"stream \d, segment \d \(op\d\): dealer closed the channel"
    for task in (*waiting, deal.receiving):
        with pytest.raises(ChannelClosed, match=words):
            await task
    for call in (stock.ready, stock.settled, lambda: first_frame(stock), later.ready):
        with pytest.raises(ChannelClosed, match=words):
            await call()
    with pytest.raises(ChannelClosed, match=words):
        await deal.intake.expect(Bundle(Shape(1), first=4).streams).ready()
    assert deal.intake.nbytes == 0
    await deal.close()


async def test_when_the_session_ends_stocks_are_released() -> None:
    bundle, deal = Bundle(Shape(5)), Deal()
    stock = deal.intake.expect(bundle.streams)
    await deal.send(bundle)
    await stock.ready()
    assert stock.nbytes > 0
    waiting = asyncio.ensure_future(deal.intake.expect(Bundle(Shape(2), first=2).streams).ready())
    await quiet()
    await deal.close_with(waiting) if hasattr(deal, "close_with") else deal.receiving.cancel()
    with pytest.raises(LocalStateError, match="not read any more"):
        await waiting
    with pytest.raises(LocalStateError, match="not read any more"):
        await stock.next(0)
    assert stock.nbytes == deal.intake.nbytes == 0
    await deal.close()


FORGED: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "repeated": (lambda f: [*f[:2], f[1]], r"segment 3 \(result\): dealer: want kind deal|want (stream|sequence)"),
    "reordered": (lambda f: [f[0], f[2]], "dealer: want (stream|sequence)"),
    "of another program": (lambda f: [(replace(f[0][0], chain=bytes(8)), f[0][1])], "want transcript"),
    "of another session": (lambda f: [(replace(f[0][0], session=bytes(16)), f[0][1])], "want session ours, got another"),
    "a round": (lambda f: [(replace(f[0][0], kind="round"), f[0][1])], "want kind deal, got round"),
    "too soon at the end": (lambda f: [f[0], f[-1]], "want kind deal, got control"),
    "more at the end": (lambda f: [*f[:-1], f[-2]], "want control frame 'dealt', got deal frame"),
    "with a payload at the end": (lambda f: [*f[:-1], (replace(f[-1][0], parts=f[0][0].parts), f[0][1])], "payload"),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_frame_that_is_not_planned_is_refused_with_its_place(what: str) -> None:
    forge, words = FORGED[what]
    bundle, deal = Bundle(Shape(3), Shape(2)), Deal()
    stock = deal.intake.expect(bundle.streams)
    ready = asyncio.ensure_future(stock.ready())
    for header, payload in forge(deal.frames(bundle)):
        sending = asyncio.ensure_future(deal.dealer.channel.send(header, *payload))
        await quiet()
    for task in (deal.receiving, ready):
        with pytest.raises(RemoteProtocolError, match=rf"^stream \d, segment \d \(\w+\): dealer: .*{words}|{words}"):
            await task
    sending.cancel()
    await asyncio.wait([sending])
    await deal.close()


# --- patience -------------------------------------------------------------------------------------------------


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
    stock = deal.intake.expect(bundle.streams)
    await asyncio.sleep(100)
    with timing_out(loop, 5.0):
        await stock.ready()
    with timing_out(loop, 5.0):
        await first_frame(stock)
    for header, payload in deal.frames(bundle)[:3]:
        await asyncio.sleep(4)
        await deal.dealer.channel.send(header, *payload)
        waiting = asyncio.ensure_future(stock.ready())
    with timing_out(loop, 5.0):
        await waiting
    await deal.close()


async def slow_frames(loop: InventedTime) -> None:
    """A dealer that sends something now and then is waited for."""
    bundle, deal = Bundle(Shape(9)), Deal(patience_s=5.0)
    stock = deal.intake.expect(bundle.streams)
    waiting, start = asyncio.ensure_future(stock.ready()), loop.time()
    for header, payload in deal.frames(bundle):
        await asyncio.sleep(4)
        await deal.dealer.channel.send(header, *payload)
    await waiting
    assert loop.time() - start == pytest.approx(4 * len(deal.frames(bundle)))
    await use(stock, bundle)
    await deal.close()


class SlowPayload:
    """A channel over which a payload takes long, once its header is here: the channel itself watches that."""

    def __init__(self, inner: Any, seconds: float) -> None:
        self.inner, self.seconds, self.peer = inner, seconds, inner.peer

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
    deal.intake = Intake(replaced(end, SlowPayload(end.channel, 60.0)), PARTY, 1 << 30, 5.0)  # type: ignore[arg-type]
    deal.receiving = asyncio.ensure_future(deal.intake.run())
    stock = deal.intake.expect(bundle.streams)
    await deal.send(bundle)
    await stock.ready()
    await use(stock, bundle)
    await deal.close()


async def full_stock(loop: InventedTime) -> None:
    """Nobody owes anything while we do not read."""
    first, second, deal = Bundle(Shape(9)), Bundle(Shape(9), first=2), Deal(FRAME, patience_s=5.0)
    deal.intake.expect(first.streams)
    later = deal.intake.expect(second.streams)
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
test_full_stock = invented(full_stock)


# --- tapes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit_bytes", [0, 1 << 30])
async def test_tapes_give_what_memory_gives(tmp_path: Path, limit_bytes: int) -> None:
    shapes = (Shape(4), Shape(3, HEAVY, dealt=2), Shape(2, dealt=0), Shape(5, HEAVY))
    bundles = [Bundle(*shapes), Bundle(*shapes, first=5)]
    drawers = [Drawer.open(tmp_path / str(party)) for party in (0, 1)]
    trio = Trio(limit_bytes, drawers=drawers)
    on_disk = check(await trio.run(*bundles, to_disk=True), *bundles)
    in_memory = check(await Trio().run(*bundles), *bundles)
    assert all(np.array_equal(a, b) for a, b in zip(on_disk, in_memory, strict=True))
    assert not list(tmp_path.rglob("*.tape"))
    for drawer in drawers:
        drawer.close()
    await nothing_left()


async def test_a_tape_takes_no_memory_and_no_limit(drawer: Drawer, folder: Path) -> None:
    """It arrives whole behind a bundle that fills the memory's limit, and is burned when it is first used."""
    first, second, deal = Bundle(Shape(1)), Bundle(Shape(9, HEAVY), first=2), Deal(FRAME, drawer=drawer)
    deal.intake.expect(first.streams)
    stock = deal.intake.expect(second.streams, to_disk=True)
    async with asyncio.timeout(GUARD_S):
        await deal.send(first, second)
        await stock.ready()
        assert stock.complete and stock.nbytes == 0 and deal.intake.nbytes == FRAME
        [tape] = folder.glob("*.tape")
        assert tape.stem == f"{SESSION[:8].hex()}-2" and tape.stat().st_size > sum(bundle_bytes(second))
        same(await stock.next(0), second, 0)
        same(await stock.next(0), second, 1)
        assert not list(folder.glob("*.tape"))
        assert stock.nbytes == 8 * HEAVY  # one record is read ahead
        for position in range(2, 10):
            same(await stock.next(0), second, position)
    assert stock.nbytes == 0
    await deal.close()


async def test_a_bundle_without_any_correction_needs_no_tape(drawer: Drawer, folder: Path) -> None:
    bundle, deal = Bundle(Shape(2, dealt=0)), Deal(drawer=drawer)
    stock = deal.intake.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await stock.ready()
    await use(stock, bundle)
    assert not list(folder.iterdir())
    await deal.close()


async def test_tapes_need_a_drawer() -> None:
    deal = Deal()
    with pytest.raises(LocalStateError, match="no drawer"):
        deal.intake.expect(Bundle(Shape(1)).streams, to_disk=True)
    await deal.close()


@pytest.mark.parametrize("frames", [0, 2, None])
@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_tape_that_is_discarded(drawer: Drawer, folder: Path, frames: int | None, words: int) -> None:
    """While it arrives, and when it is complete; what comes later is dropped, and the file is gone."""
    first, second, deal = Bundle(Shape(9, words)), Bundle(Shape(3), first=2), Deal(drawer=drawer)
    stock, later = deal.intake.expect(first.streams, to_disk=True), deal.intake.expect(second.streams, to_disk=True)
    sent = deal.frames(first)
    cut = len(sent) if frames is None else frames
    async with asyncio.timeout(GUARD_S):
        for header, payload in sent[:cut]:
            await deal.dealer.channel.send(header, *payload)
        if frames is None:
            await stock.ready()
        stock.discard()
        for header, payload in sent[cut:]:
            await deal.dealer.channel.send(header, *payload)
        await stock.settled()
        await deal.send(second)
        await later.ready()
        assert [tape.stem[-2:] for tape in folder.glob("*.tape")] == ["-2"]
        await use(later, second)
    await deal.close()


@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_tape_that_is_discarded_while_it_is_read(drawer: Drawer, folder: Path, words: int) -> None:
    bundle, deal = Bundle(Shape(9, words)), Deal(drawer=drawer)
    stock = deal.intake.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await stock.ready()
    await first_frame(stock)
    stock.discard()
    assert stock.nbytes == 0
    with pytest.raises(LocalStateError, match="discarded"):
        await first_frame(stock)
    await deal.close()


async def test_when_the_session_ends_tapes_are_removed(drawer: Drawer, folder: Path) -> None:
    first, second, deal = Bundle(Shape(5)), Bundle(Shape(5), first=2), Deal(drawer=drawer)
    stock = deal.intake.expect(first.streams, to_disk=True)
    deal.intake.expect(second.streams, to_disk=True)
    await deal.send(first)
    for header, payload in deal.frames(second)[:2]:
        await deal.dealer.channel.send(header, *payload)
    await stock.ready()
    assert list(folder.glob("*.tape"))
    await deal.close()
    assert not list(folder.glob("*.tape"))


class BadTape:
    """A writer, a sealed tape and a reader in one, whose disk fails at the n-th call of one kind."""

    def __init__(self, inner: Any, call: str, good: int) -> None:
        self.inner, self.call, self.good = inner, call, good

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def called(*args: object) -> Any:
            if name == self.call:
                self.good -= 1
                if self.good < 0:
                    raise LocalStorageError(f"tape 1: {name} failed: No space left on device")
            found = method(*args)
            return BadTape(found, self.call, self.good) if name in ("write", "finish", "burn") else found

        return called


@pytest.mark.parametrize(("call", "good"), [("write", 0), ("append", 0), ("append", 3), ("finish", 0)])
async def test_a_disk_that_fails_while_a_bundle_arrives(drawer: Drawer, call: str, good: int) -> None:
    """That bundle can not be used; the next one can."""
    first, second = Bundle(Shape(9)), Bundle(Shape(9), first=2)
    deal = Deal(drawer=BadTape(drawer, call, good))
    stock, later = deal.intake.expect(first.streams, to_disk=True), deal.intake.expect(second.streams)
    waiting = [asyncio.ensure_future(stock.ready()), asyncio.ensure_future(first_frame(stock))]
    async with asyncio.timeout(GUARD_S):
        await deal.send(first, second)
        for task in waiting:
            with pytest.raises(LocalStorageError, match=f"tape 1: {call} failed: No space"):
                await task
        await stock.settled()
        assert stock.failed == f"tape 1: {call} failed: No space left on device" and not stock.complete
        await use(later, second)
    await deal.close()


@pytest.mark.parametrize(("call", "good"), [("burn", 0), ("next", 0), ("next", 2)])
@pytest.mark.parametrize("words", [3, HEAVY])
async def test_a_disk_that_fails_while_a_bundle_is_used(drawer: Drawer, call: str, good: int, words: int) -> None:
    bundle, deal = Bundle(Shape(9, words)), Deal(drawer=BadTape(drawer, call, good))
    stock = deal.intake.expect(bundle.streams, to_disk=True)
    async with asyncio.timeout(GUARD_S):
        await deal.send(bundle)
        await stock.ready()
        assert stock.failed is None
        for _ in range(2):
            with pytest.raises(LocalStorageError, match=f"{call} failed"):
                await use(stock, bundle) if stock.failed is None else await first_frame(stock)
    assert stock.failed is not None and not deal.receiving.done()
    await deal.close()


async def test_a_reader_that_is_cancelled_loses_the_stock(drawer: Drawer) -> None:
    """The record that was read is lost: what follows it must not be taken for it."""
    bundle, deal = Bundle(Shape(9, HEAVY)), Deal(drawer=drawer)
    stock = deal.intake.expect(bundle.streams, to_disk=True)
    await deal.send(bundle)
    await stock.ready()
    reading = asyncio.ensure_future(first_frame(stock))
    while stock.nbytes == 0 and not reading.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
        if drawer_busy(stock):
            break
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(LocalStateError, match="discarded"):
        await first_frame(stock)
    await deal.close()
