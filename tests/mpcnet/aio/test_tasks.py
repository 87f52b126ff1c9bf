"""Tasks with an owner: results, failures, and that nothing is left running."""

import asyncio

import pytest

from mpcnet.aio.tasks import end_tasks, race, to_its_end, together


class Work:
    """A coroutine that waits until told; it knows whether it has ended."""

    def __init__(self) -> None:
        self.told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def __call__(self) -> object:
        try:
            return await self.told
        finally:
            await asyncio.sleep(0)  # an end takes a moment; whoever ends us has to wait for it
            self.ended = True


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_together_returns_what_main_returns_and_ends_the_rest() -> None:
    main, beside = Work(), Work()
    running = asyncio.ensure_future(together(main(), beside()))
    await settle()
    assert not running.done()
    main.told.set_result(7)
    assert await running == 7
    assert main.ended and beside.ended


async def test_together_goes_on_when_one_beside_is_done() -> None:
    main, first, second = Work(), Work(), Work()
    running = asyncio.ensure_future(together(main(), first(), second()))
    first.told.set_result(None)
    await settle()
    assert first.ended and not running.done() and not second.ended
    main.told.set_result("done")
    assert await running == "done" and second.ended


@pytest.mark.parametrize("failing", range(3))
async def test_the_first_failure_of_any_ends_all(failing: int) -> None:
    works = [Work(), Work(), Work()]
    running = asyncio.ensure_future(together(*(work() for work in works)))
    await settle()
    works[failing].told.set_exception(ValueError(f"number {failing}"))
    with pytest.raises(ValueError, match=f"number {failing}"):
        await running
    assert all(work.ended for work in works)


async def test_of_two_failures_at_once_the_first_in_order_is_told() -> None:
    async def fail(name: str) -> None:
        raise ValueError(name)

    for _ in range(20):  # the set of what is done has no order of its own
        with pytest.raises(ValueError, match="main"):
            await together(fail("main"), fail("one"), fail("two"))
        with pytest.raises(ValueError, match="one"):
            await together(asyncio.sleep(0, "main"), fail("one"), fail("two"))


async def test_together_cancelled_ends_all_before_it_returns() -> None:
    works = [Work(), Work()]
    running = asyncio.ensure_future(together(*(work() for work in works)))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(work.ended for work in works)


async def test_together_cancelled_twice_still_ends_all() -> None:
    works = [Work(), Work()]
    running = asyncio.ensure_future(together(*(work() for work in works)))
    await settle()
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()  # while it waits for their end
    with pytest.raises(asyncio.CancelledError):
        await running
    await settle()
    assert all(work.told.cancelled() for work in works) and len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("winner", range(3))
async def test_race_tells_who_was_first_and_ends_the_others(winner: int) -> None:
    works = [Work(), Work(), Work()]
    running = asyncio.ensure_future(race(*(work() for work in works)))
    await settle()
    works[winner].told.set_result(None)
    assert await running == winner
    assert all(work.ended for work in works)


async def test_of_several_at_once_the_first_in_order_wins() -> None:
    for _ in range(20):
        assert await race(asyncio.Event().wait(), asyncio.sleep(0), asyncio.sleep(0)) == 1


async def test_race_raises_what_the_first_raised_and_nothing_of_the_losers() -> None:
    first, second = Work(), Work()
    running = asyncio.ensure_future(race(first(), second()))
    first.told.set_exception(OSError("first"))
    with pytest.raises(OSError, match="first"):
        await running
    assert second.ended

    async def bad_loser() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("a loser's end")

    assert await race(bad_loser(), asyncio.sleep(0)) == 1


async def test_race_cancelled_ends_all() -> None:
    works = [Work(), Work()]
    running = asyncio.ensure_future(race(*(work() for work in works)))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(work.ended for work in works)


async def test_end_tasks_waits_for_the_end_and_forgets_what_was_raised() -> None:
    work = Work()
    failed, done = (asyncio.get_running_loop().create_future() for _ in range(2))
    failed.set_exception(ValueError("told already"))
    done.set_result(1)
    task = asyncio.ensure_future(work())
    await settle()
    await end_tasks(task, failed, done)
    assert work.ended and task.cancelled()
    await end_tasks()


@pytest.mark.parametrize("times", [1, 2])
async def test_to_its_end_whoever_is_cancelled(times: int) -> None:
    work = Work()
    task = asyncio.ensure_future(to_its_end(work()))
    for _ in range(times):
        await settle()
        task.cancel()
    await settle()
    assert not task.done()
    work.told.set_exception(ValueError("too late to matter"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended


async def test_to_its_end_gives_result_and_error() -> None:
    good, bad = Work(), Work()
    good.told.set_result(3)
    bad.told.set_exception(ValueError("no"))
    assert await to_its_end(good()) == 3
    with pytest.raises(ValueError, match="no"):
        await to_its_end(bad())
