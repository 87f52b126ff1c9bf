"""One seed: a cluster lives, is broken, is left alone, serves, and ends; what must hold is looked at all the time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import shutil
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

from mpcnet.launch.party import budget, clients, edge, queue
from mpcnet.models.private.program import Size
from mpcnet.runtime import correction_store, dealing, session
from mpcnet.transport import tls
from tests.cluster import model, network, visitors
from tests.cluster.loop import Stuck
from tests.cluster.scenario import LASTS_S, Fault, Scenario, scenario
from tests.cluster.tamper import Tamper
from tests.cluster.visitors import ask, visit
from tests.cluster.world import MEMORY_MIB, PARTIES, PING_S, SERVERS, TIMEOUT_S, World, alive, base, installed

CALM_S = 150.0  # after the last fault everybody has an answer or an error by then, and somebody new is served
SHORT_BYTES = (MEMORY_MIB // 2 << 20) - budget.RUNTIME_BYTES - budget.AHEAD_BYTES - (4 << 20)  # the dealer's, for runs
GONE_S = max(TIMEOUT_S, 3 * PING_S) + PING_S + 3.0
END_S = 30.0  # a party that is stopped in order ends by then


@contextlib.contextmanager
def many() -> Iterator[None]:
    """Runs inside share all that is made once. Garbage is collected between them only: whatever says something when
    it is collected (a task whose error nobody asked for) says it at the same moment each time.
    """
    with installed():
        run(0)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            gc.unfreeze()


@dataclass(frozen=True)
class Outcome:
    """What became of a seed. `broken` is empty if all held."""

    seed: int
    broken: tuple[str, ...]
    digest: str
    virtual_s: float
    answers: int
    errors: int
    trace: tuple[tuple[object, ...], ...]


def run(seed: int) -> Outcome:
    """Inside `many()`."""
    plan = scenario(random.Random(seed), model.TEXTS)

    async def live(world: World) -> None:
        world.settings = plan.settings
        if "ahead_runs" in plan.settings:
            world.settings = world.settings | {"ahead_sizes": (Size(1, 4),)}
        world.loop.work_s = plan.work_s
        world.cuts, world.gentle, world.short_of_memory = list(plan.cuts), plan.gentle, plan.short_of_memory
        world.note("scenario", plan)
        await _live(world, plan)

    with _knobs(plan):
        return living(seed, live)


def living(seed: int, live: Callable[[World], Coroutine[Any, Any, None]]) -> Outcome:
    """What becomes of a world that lives so. Inside `many()`."""
    world = World(seed, base() / f"seed-{seed}")
    with alive(world):
        try:
            world.loop.run(live(world))
        except Stuck as error:
            world.breaks(str(error))
    gc.collect()  # tasks whose errors nobody asked for say so when they are dropped
    world.broken += world.loop.errors
    shutil.rmtree(world.folder, ignore_errors=True)
    kinds = [event[1] for event in world.trace]
    return Outcome(
        seed, tuple(world.broken), world.digest(), world.loop.time(), kinds.count("answer"), kinds.count("error"),
        tuple(world.trace),
    )  # fmt: skip


KNOBS = {
    "AHEAD_BYTES": (dealing,),
    "KEPT_S": (clients,),
    "SILENT": (tls,),
    "BACKLOG": (tls,),
    "AT_ONCE": (tls,),
    "HEAVY_BYTES": (session, correction_store),
    "PER_CLIENT": (queue,),
    "MAX_CONNECTIONS": (edge,),
    "WINDOW": (network,),
}


@contextlib.contextmanager
def _knobs(plan: Scenario) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, modules in KNOBS.items():
            for module in modules:
                stack.enter_context(mock.patch.object(module, name, plan.knobs[name]))
        if plan.short_of_memory:
            stack.enter_context(mock.patch.object(budget, "RUN_FACTOR", _short()))
        yield


@cache
def _short() -> float:
    """With it a run of one sentence takes what who is short of memory has."""
    most = 2 * model.plans().infer(Size(1, 4, "logits", True)).peak_bytes
    return SHORT_BYTES / most


async def _live(world: World, plan: Scenario) -> None:
    visits = {each.name: world.spawn(each.name, visit(world, each)) for each in plan.visitors}
    happening = [asyncio.ensure_future(_start(world, role, plan.starts[role])) for role in PARTIES]
    happening += [asyncio.ensure_future(_happen(world, fault)) for fault in plan.faults]
    await asyncio.gather(*happening)
    healed_s = max([LASTS_S, *(line.broken_until_s for line in world.network.lines)])
    await asyncio.sleep(healed_s - world.loop.time())
    world.note("calm")
    await _all_served(world, visits)
    await _somebody_new_is_served(world, plan.last)
    await ending(world)


async def ending(world: World) -> None:
    """A cluster at rest is looked at, is stopped in order, and is looked at again."""
    await _all_gone(world)
    _look(world)
    await _stop(world, *PARTIES)
    await asyncio.sleep(5.0)
    _look_behind(world)


async def _start(world: World, role: str, at_s: float) -> None:
    await asyncio.sleep(at_s)
    world.start(role)


async def _happen(world: World, fault: Fault) -> None:
    await asyncio.sleep(fault.at_s)
    await asyncio.wait([world.after_frames(fault.frames)], timeout=LASTS_S - fault.at_s)
    role, seconds = fault.whom[0], fault.seconds
    world.note("fault", fault.what, *fault.whom, round(seconds, 3))
    match fault.what:
        case "reset":
            world.network.reset(*fault.whom)
        case "silence":
            world.network.break_line(fault.whom[0], fault.whom[1], seconds)
        case "tamper":
            sender, receiver, way = fault.whom
            world.tampers.append(Tamper(sender, receiver, way, int(seconds)))
        case "full disk":
            world.full_disks.add(role)
            await asyncio.sleep(seconds)
            world.full_disks.discard(role)
        case "no descriptors":
            world.network.no_descriptors.add(role)
            await asyncio.sleep(seconds)
            world.network.no_descriptors.discard(role)
        case "the dealer dies in a run":
            await _lose_the_dealer(world, seconds)
        case "stop":
            world.loop.stop_process(role)
            await asyncio.sleep(seconds)
            world.loop.continue_process(role)
        case _ if role in world.tasks:
            if fault.what == "restart":
                await _stop(world, role)
            else:
                await world.kill(role, told=fault.what == "kill")
            await asyncio.sleep(seconds)
            world.start(role)


async def _lose_the_dealer(world: World, seconds: float) -> None:
    """At a moment when a run has all its material at both servers: its answers come none the less."""
    runs = world.servers
    while not (len(runs) == len(SERVERS) and all(each._running and each._running.complete for each in runs.values())):
        if world.loop.time() > LASTS_S or "dealer" not in world.tasks:
            return
        await asyncio.wait([world.after_frames(1)], timeout=LASTS_S)
    lines = [line for role in SERVERS for line in world.edges[role].clients.queue._clients.values()]
    running = [request for line in lines for request in line if request.running and not request.ended.is_set()]
    world.note("in a run", *(request.client for request in running))
    await world.kill("dealer", told=True)
    await asyncio.sleep(seconds)
    world.start("dealer")
    ended = [asyncio.ensure_future(request.ended.wait()) for request in running]
    if ended:
        await asyncio.wait(ended, timeout=CALM_S)
    for request in running:
        if not request.ended.is_set() or request.failure not in ("", "its client has left"):
            world.breaks(f"{request.client} lost an answer with the dealer: {request.failure!r}")


async def _stop(world: World, *roles: str) -> None:
    """As SIGTERM: each ends in order."""
    stopped = {role: world.tasks.pop(role) for role in roles if role in world.tasks}
    for role, task in stopped.items():
        if task.done():
            world.ended(role, task)
        world.note("stop", role)
        world.nodes[role].stopping.set()
    await asyncio.wait(stopped.values(), timeout=END_S)
    for role, task in stopped.items():
        if not task.done():
            world.breaks(f"{role} was told to stop {END_S:g} s ago; {world.loop.waiting(role)}")
            task.cancel()
            await asyncio.wait([task])
        elif task.cancelled() or task.exception() is not None or task.result() != 0:
            world.breaks(f"{role} was told to stop, and ended with {task!r}")


async def _all_served(world: World, visits: dict[str, asyncio.Task[None]]) -> None:
    await asyncio.wait(visits.values(), timeout=CALM_S)
    for name, task in visits.items():
        if not task.done():
            world.breaks(f"{name} waits for ever: {world.loop.waiting(name)}")
            task.cancel()
            await asyncio.wait([task])
        elif (error := task.exception()) is not None:
            world.breaks(f"{name} raised {error!r} at {place_of(error)}")


async def _somebody_new_is_served(world: World, text: int) -> None:
    sizes = [Size(*tokens.ids.shape, "logits", False) for tokens in model.texts()]
    text = next(n % len(sizes) for n in range(text, text + len(sizes)) if _fits(world, sizes[n % len(sizes)]))
    end_s = world.loop.time() + CALM_S
    while True:
        asking = world.spawn("client:last", ask(world, "client:last", [text]))
        await asyncio.wait([asking], timeout=end_s - world.loop.time())
        if not asking.done():
            world.breaks(f"the last request waits for ever: {world.loop.waiting()}")
            asking.cancel()
            await asyncio.wait([asking])
            return
        if asking.result():
            return
        if world.loop.time() >= end_s:
            world.breaks("the service has not recovered")
            return
        await asyncio.sleep(1.0)


def _fits(world: World, size: Size) -> bool:
    return world.largest(size) >= size.batch


async def _all_gone(world: World) -> None:
    """Connections of clients end, of those too that vanished without a word; then their requests, and their answers."""
    end_s = world.loop.time() + GONE_S
    while world.loop.time() < end_s and any(_visits(each) for each in world.network.transports):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    end_s = world.loop.time() + visitors.WAIT_S + clients.PICKUP_S
    while world.loop.time() < end_s and any(_held(world, role) for role in SERVERS):  # noqa: ASYNC110
        await asyncio.sleep(5.0)
    await asyncio.sleep(0.5)


def _held(world: World, role: str) -> list[Any]:
    """The requests and answers that a server keeps."""
    if role not in world.edges:
        return []
    return [each for line in world.edges[role].clients.queue._clients.values() for each in line]


def _visits(transport: network.Transport) -> bool:
    return transport.owner not in PARTIES or transport.other not in PARTIES


def _look(world: World) -> None:
    """At a cluster at rest."""
    for role, task in world.tasks.items():
        if task.done():
            world.ended(role, task)
    if world.gentle and "kill" not in {event[1] for event in world.trace}:
        said = [event[4] for event in world.trace if event[1] == "say" and "session ended" in event[4]]
        if said:
            world.breaks(f"a client has ended a session: {said[0]}")
    for role in [role for role in SERVERS if role in world.edges]:
        if held := _held(world, role):
            world.breaks(f"{role} holds {len(held)} requests of clients that have left")
        edge = world.edges[role]
        places = edge._places.total() - edge._places["owner"]
        if places or edge.clients._attended or edge.clients._idle:
            world.breaks(f"{role} has {places} places taken by clients that have left")
        kept = world.receivers[role].nbytes
        if kept and "ahead_runs" not in world.settings:
            world.breaks(f"{role} holds {kept} bytes of corrections for nobody")
    for each in world.network.transports:
        if _visits(each):
            world.breaks(f"{each.owner} has a connection with {each.other}, which has left")


def _look_behind(world: World) -> None:
    """At what is left of a cluster that has ended."""
    if left := world.loop.waiting(but=asyncio.current_task()):
        world.breaks(f"tasks are left: {left}")
    for each in world.network.transports:
        world.breaks(f"{each.owner} has still a connection with {each.other}")
    for address in world.network.listeners:
        world.breaks(f"somebody still listens at {address}")
    for tape in world.folder.glob("**/*.tape"):
        world.breaks(f"a tape is left: {tape.name}")


def place_of(error: BaseException) -> str:
    """Where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
