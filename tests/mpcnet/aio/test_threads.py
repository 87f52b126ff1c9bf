"""A thread ends before its caller does, however often the caller is cancelled."""

import asyncio
import threading

import pytest

from mpcnet.aio.threads import in_thread


async def begun(work: threading.Event) -> None:
    while not work.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_result_and_error() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled(times: int) -> None:
    """A run that is aborted from two sides cancels twice."""
    work, release, ended = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        work.set()
        release.wait()
        ended.set()

    task = asyncio.ensure_future(in_thread(wait))
    await begun(work)
    for _ in range(times):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
