"""An event loop on its own thread: callers with a running loop, interrupts, and its end."""

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from mpcnet.errors import LocalStateError
from mpcnet.launch.api.loop import LoopThread


async def thread() -> threading.Thread:
    return threading.current_thread()


async def test_calls_from_a_running_loop() -> None:
    """As in a notebook."""
    first: list[threading.Thread] = []
    loop = LoopThread(lambda: first.append(threading.current_thread()))
    found = loop.call(thread())
    assert found is not threading.current_thread() and found.daemon and first == [found]
    loop.close()
    assert not found.is_alive() and not loop.running


def test_errors_are_the_callers() -> None:
    async def fail() -> None:
        raise ValueError("a reason")

    loop = LoopThread()
    with pytest.raises(ValueError, match="a reason"):
        loop.call(fail())
    loop.close()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C as in a program that does not handle it; tests before may have left another handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_cancels_the_call(interrupts: None) -> None:
    """And it has ended when the interrupt is raised; the thread goes on."""
    ended = []

    async def wait() -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    loop = LoopThread()
    with pytest.raises(KeyboardInterrupt):
        loop.call(wait())
    assert ended == [True]
    assert loop.call(thread()).is_alive()
    loop.close()


def test_nothing_is_called_after_the_end() -> None:
    loop = LoopThread()
    loop.close()
    loop.close()
    loop.stop()
    with pytest.raises(LocalStateError, match="client: want an open one, got one that was closed; make another"):
        loop.call(thread())
