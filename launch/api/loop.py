"""An event loop on a thread of its own: for callers without one, and for those whose own is busy (a notebook's is)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from mpcnet.errors import LocalStateError
from mpcnet.launch.party.node import loop_factory

T = TypeVar("T")
END_S = 10.0  # for a call that was interrupted to part from the servers


class LoopThread:
    """The thread runs until :meth:`close`; it does not keep the process alive."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        """`first` is what the thread does before all else."""
        self._loop = (loop_factory() or asyncio.new_event_loop)()
        self._thread = threading.Thread(target=self._run, args=(first,), name="mpcnet", daemon=True)
        self._thread.start()

    def _run(self, first: Callable[[], None]) -> None:
        first()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()  # and does not wait for threads: a calibration that was interrupted runs on for minutes

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, from any other thread. Ctrl-C cancels it, and returns when it has ended.

        :raises LocalStateError: the thread has ended.
        """
        if not self._thread.is_alive():
            work.close()
            raise LocalStateError("client: want an open one, got one that was closed; make another")
        tasks: list[asyncio.Task[T]] = []
        # A queue, not a Future: an interrupt can leave a Future's lock held, and the loop would wait for it for ever.
        ended: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(ended.put)

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        try:
            self._loop.call_soon_threadsafe(begin)
            return ended.get().result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(cancel)  # behind `begin`, if that was reached
            if not (tasks and tasks[0].done()):
                with suppress(Empty):
                    ended.get(timeout=END_S)
            raise

    @property
    def running(self) -> bool:
        """False once the thread has ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let the thread end soon."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has just ended, and closed its loop
                self._loop.call_soon_threadsafe(self._loop.stop)

    def close(self) -> None:
        """End the thread. Closing again does nothing."""
        self.stop()
        self._thread.join()
