"""Tasks with an owner: whatever is started here has ended when the call returns, whichever way it returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first failure itself, not a group of failures."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__


async def together(main: Coroutine[Any, Any, T], *beside: Coroutine[Any, Any, None]) -> T:
    """The result of `main`; whatever runs `beside` it ends with it. The first failure of any of them ends all.

    One of `beside` that returns is done; that is no failure.
    """
    first = asyncio.ensure_future(main)
    tasks = [first, *map(asyncio.ensure_future, beside)]
    try:
        running = set(tasks)
        while not first.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:  # in order, so that of two failures at once the first one's is told
                if task in done:
                    task.result()
        return first.result()
    finally:
        await end_tasks(*tasks)


async def race(*contenders: Awaitable[Any]) -> int:
    """Which of them is done first (of several, the first in order); the others are cancelled.

    :raises BaseException: what the first one raised.
    """
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        index = next(index for index, task in enumerate(tasks) if task in done)
        tasks[index].result()
        return index
    finally:
        await end_tasks(*tasks)


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs, and wait until it has ended; what they raise was told, or does not matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def to_its_end(work: Awaitable[T]) -> T:
    """The result of `work`. Who is cancelled here, be it twice, waits for its end first."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()


class Tasks:
    """Tasks that nobody waits for, held as long as they run."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin `work`."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def end(self) -> None:
        """Cancel all of them; returns when they have ended."""
        await end_tasks(*self._running)
