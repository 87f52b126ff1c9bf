"""An event loop whose clock jumps to the next timer, and which runs the processes of a whole cluster by turns.

A callback belongs to the process in whose context it was made. Within a process callbacks keep asyncio's order; which
process is next is drawn from the seed. A stopped process (SIGSTOP) has no turns. Work for threads runs one at a time:
while it runs nothing else does, and when it waits for a condition the loop goes on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
WORLD = "world"  # whoever looks at the cluster from outside
PROCESS: ContextVar[str] = ContextVar("process", default=WORLD)
TICK_S = 1e-6
MOST_TURNS = 300_000  # then it is a livelock


class Stuck(AssertionError):
    """Nothing will ever happen again, or things happen and nothing comes of it."""


class Task(asyncio.Task[T]):
    """Sets of tasks have one order, whatever their addresses."""

    number = 0
    process = WORLD

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """See above. `draw` decides all that a real machine leaves open."""

    def __init__(self, draw: random.Random) -> None:
        self.turns = 0
        self.errors: list[str] = []  # of callbacks, and of tasks that nobody asked for theirs
        self.work_s = 0.002  # work in a thread takes up to so long
        self._draw = draw
        self._now_s = 0.0
        self._ready: dict[str, deque[asyncio.Handle]] = {}
        self._awake: list[str] = []  # processes that have something to do, and may
        self._stopped: dict[str, int] = {}
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = itertools.count(1)
        self._threads = _Threads(self)
        self.network: Any = None  # set by who makes it
        self.waiting_calls: tuple[Any, ...] = ()  # of those for threads, which may wait for the loop; they get a thread

    # --- time and turns -----------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """The result of `main`.

        :raises Stuck: it will not end.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            asyncio._set_running_loop(None)
            self._threads.close()

    def time(self) -> float:
        return self._now_s

    def stop_process(self, name: str) -> None:
        """It gets no turns any more; what happens to it meanwhile waits."""
        self._stopped[name] = self._stopped.get(name, 0) + 1
        if name in self._awake:
            self._awake.remove(name)

    def continue_process(self, name: str) -> None:
        if name not in self._stopped:
            return
        self._stopped[name] -= 1
        if not self._stopped[name]:
            del self._stopped[name]
            if self._ready.get(name):
                self._awake.append(name)

    def release_process(self, name: str) -> None:
        """It goes on, however often it was stopped."""
        if name in self._stopped:
            self._stopped[name] = 1
            self.continue_process(name)

    def _turn(self) -> None:
        """All that one process has to do now; if none has anything, time goes on to the next timer."""
        awake = self._awake
        while not awake:
            self._pass_time()
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Stuck(f"{self.turns} turns, and no end: {self.waiting()}")
        index = int(self._draw.random() * len(awake)) if len(awake) > 1 else 0
        name = awake[index]
        queue = self._ready[name]
        for _ in range(len(queue)):
            handle = queue.popleft()
            if not handle.cancelled():
                handle._run()
        if not queue and name in awake:
            awake.remove(name)

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"nothing will ever happen again: {self.waiting()}")
        self._now_s = timers[0][0]
        while timers and timers[0][0] <= self._now_s:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                self._add(handle)

    def _add(self, handle: asyncio.Handle) -> None:
        name = handle._context.get(PROCESS, WORLD)  # type: ignore[attr-defined]
        queue = self._ready.get(name)
        if queue is None:
            queue = self._ready[name] = deque()
        if not queue and name not in self._stopped and name not in self._awake:
            self._awake.append(name)
        queue.append(handle)

    def waiting(self, process: str | None = None, *, but: asyncio.Task[Any] | None = None) -> str:
        """Who waits, and where; of one process, or of all. Empty if nobody does."""
        found = []
        for task in sorted(asyncio.all_tasks(self) - {but}, key=hash):
            name = getattr(task, "process", WORLD)
            if process in (None, name):
                found.append(f"{name} in {_place(task)}")
        return "; ".join(found)

    # --- asyncio's interface ------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._add(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        tick_s = max(delay, TICK_S) if delay > 0 else 0.0  # or a remainder of 1e-15 s would be now, again and again
        return self.call_at(self._now_s + tick_s, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if when <= self._now_s:
            self._add(handle)
        elif when != float("inf"):
            heapq.heappush(self._timers, (when, next(self._number), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        made = Task.__new__(Task)
        made.number = next(self._number)  # before it is put into asyncio's set of all tasks
        made.process = PROCESS.get() if context is None else context.get(PROCESS, WORLD)
        made.__init__(coro, loop=self, name=name or f"Task-{made.number}", context=context)  # type: ignore[misc]
        return made

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """After a while the call is made at once; or first, and the while passes behind it."""
        done: asyncio.Future[T] = self.create_future()
        wait_s = self._draw.random() ** 4 * self.work_s
        start = self._threads.start if _called(func) in self.waiting_calls else self._work
        if self._draw.random() < 0.5:
            self.call_later(wait_s, start, lambda: func(*args), done, 0.0)
        else:
            self.call_soon(start, lambda: func(*args), done, wait_s)
        return done

    def _work(self, call: Callable[[], T], done: asyncio.Future[T], wait_s: float) -> None:
        """Without a thread, which nobody would notice; but it is not a task's either."""
        asyncio._set_running_loop(None)
        try:
            settle = _settling(done, call(), None)
        except BaseException as error:
            settle = _settling(done, None, error)
        finally:
            asyncio._set_running_loop(self)
        self.call_later(wait_s, settle)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {error!r}")

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, f"{host}:{port}")

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        fd.watch.begin(lambda: callback(*args), lambda: fd.readable)

    def remove_reader(self, fd: Any) -> bool:
        return bool(fd.watch.end())

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:
        sock.attach(protocol_factory())
        return sock, sock.protocol

    def condition(self) -> Condition:
        """In the place of `threading.Condition`."""
        return Condition(self, self._threads)


class _Threads:
    """A pool of threads of which one runs at a time, and never beside the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._hub = threading.Semaphore(0)
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    def start(self, call: Callable[[], T], done: asyncio.Future[T], wait_s: float) -> None:
        worker = self._idle.pop() if self._idle else self._new()
        worker.job = call, done, wait_s
        self.switch_to(worker)

    def _new(self) -> _Worker:
        worker = _Worker(self)
        self._all.append(worker)
        worker.start()
        return worker

    def switch_to(self, worker: _Worker) -> None:
        """In the loop: until the worker has finished, or waits."""
        worker.turn.release()
        self._hub.acquire()

    def switch_back(self, worker: _Worker) -> None:
        """In the worker: until it is resumed."""
        self._hub.release()
        worker.turn.acquire()

    def finished(self, worker: _Worker, settle: Callable[[], None], wait_s: float) -> None:
        self._idle.append(worker)
        self._loop.call_later(wait_s, settle)

    def close(self) -> None:
        for worker in self._all:
            if worker in self._idle:
                worker.job = None
                worker.turn.release()
                worker.join()


class _Worker(threading.Thread):
    def __init__(self, threads: _Threads) -> None:
        super().__init__(daemon=True, name="virtual")
        self.turn = threading.Semaphore(0)
        self.job: Any = None
        self._threads = threads

    def run(self) -> None:
        while True:
            self.turn.acquire()
            if self.job is None:
                return
            call, done, wait_s = self.job
            try:
                result, error = call(), None
            except BaseException as raised:
                result, error = None, raised
            self._threads.finished(self, _settling(done, result, error), wait_s)
            self.job = call = done = result = error = None
            self._threads._hub.release()


def _settling(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> Callable[[], None]:
    def settle() -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    return settle


class Condition:
    """`threading.Condition` for a thread that waits for the loop."""

    def __init__(self, loop: VirtualLoop, threads: _Threads) -> None:
        self._loop, self._threads = loop, threads
        self._waiting: list[tuple[_Worker, Context]] = []

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready():
            worker = threading.current_thread()
            assert isinstance(worker, _Worker), "the loop itself would wait"
            self._waiting.append((worker, copy_context()))
            self._threads.switch_back(worker)

    def notify_all(self) -> None:
        woken, self._waiting = self._waiting, []
        for worker, context in woken:
            self._loop.call_soon(self._threads.switch_to, worker, context=context)

    notify = notify_all


def _called(func: Any) -> Any:
    """What a thread is to call, as it is defined; `asyncio.to_thread` gives partial(context.run, call, ...)."""
    call = func.args[0] if getattr(func, "args", ()) else func
    while isinstance(call, partial):
        call = call.func
    return getattr(call, "__func__", call)


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost of our own lines that a task waits in."""
    waits, found = task.get_coro(), "its beginning"
    while waits is not None:
        frame = getattr(waits, "cr_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        waits = getattr(waits, "cr_await", None)
    return found
