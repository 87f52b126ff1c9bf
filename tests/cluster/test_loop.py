"""Virtual time, processes, and threads that are none."""

import asyncio
import random
import time

import pytest

from tests.cluster.loop import PROCESS, Stuck, VirtualLoop


def loop() -> VirtualLoop:
    return VirtualLoop(random.Random(1))


def test_time_jumps() -> None:
    virtual, began_s = loop(), time.monotonic()

    async def wait() -> float:
        await asyncio.sleep(100_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50_000):
                await asyncio.Event().wait()
        return virtual.time()

    assert virtual.run(wait()) == 150_000
    assert time.monotonic() - began_s < 60


def test_who_waits_for_nothing_is_told_of() -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match=r"nothing will ever happen again: world in .*wait_for_ever|Event.wait"):
        loop().run(wait_for_ever())


def test_a_stopped_process_has_no_turns() -> None:
    virtual, said = loop(), []

    async def talk() -> None:
        while True:
            said.append(virtual.time())
            await asyncio.sleep(1)

    async def stop() -> None:
        PROCESS.set("talker")
        talking = asyncio.ensure_future(talk())
        PROCESS.set("world")
        await asyncio.sleep(2.5)
        virtual.stop_process("talker")
        await asyncio.sleep(10)
        virtual.continue_process("talker")
        await asyncio.sleep(1.2)
        talking.cancel()

    virtual.run(stop())
    assert said == [0, 1, 2, 12.5, 13.5]


def test_a_thread_waits_for_the_loop() -> None:
    """It blocks on a condition, and the loop goes on; who is woken looks again."""
    virtual, happened, ready = loop(), [], []
    condition = virtual.condition()

    def work() -> str:
        happened.append("begins")
        with condition:
            condition.wait_for(lambda: len(ready) == 2)
        happened.append("goes on")
        return "done"

    virtual.waiting_calls = (work,)

    async def main() -> str:
        working = asyncio.ensure_future(asyncio.to_thread(work))
        for number in range(2):
            await asyncio.sleep(1)
            happened.append(f"gives {number}")
            ready.append(number)
            condition.notify()
        return await working

    assert virtual.run(main()) == "done"
    assert happened == ["begins", "gives 0", "gives 1", "goes on"]


def test_errors_of_threads_and_callbacks() -> None:
    virtual = loop()

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        virtual.call_soon(divmod, 1, 0)
        await asyncio.sleep(1)

    virtual.run(main())
    assert len(virtual.errors) == 1 and "ZeroDivisionError" in virtual.errors[0]
