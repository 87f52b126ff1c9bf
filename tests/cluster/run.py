"""One seed: a cluster lives, is broken, is left alone, serves, and ends; what must hold is looked at all the time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from mpcnet.models.private.program import Size
from tests.cluster import model
from tests.cluster.faults import CALM_S, happen
from tests.cluster.knobs import turned
from tests.cluster.loop import Stuck
from tests.cluster.replaced import alive, installed
from tests.cluster.rest import ending
from tests.cluster.roles import base
from tests.cluster.scenario import LASTS_S, Scenario, scenario
from tests.cluster.visitors import ask, visit
from tests.cluster.world import World


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
    plan = scenario(seed, model.TEXTS)

    async def live(world: World) -> None:
        world.settings = plan.settings | {"replicas": plan.replicas}
        if "ahead_runs" in plan.settings:
            world.settings = world.settings | {"ahead_sizes": (Size(1, 4),)}
        world.loop.work_s = plan.work_s
        world.seen.cuts, world.gentle, world.short_of_memory = list(plan.cuts), plan.gentle, plan.short_of_memory
        world.note("scenario", plan)
        await _live(world, plan)

    with turned(plan):
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


async def _live(world: World, plan: Scenario) -> None:
    visits = {each.name: world.spawn(each.name, visit(world, each)) for each in plan.visitors}
    happening = [asyncio.ensure_future(_start(world, role, plan.starts[role])) for role in world.parties]
    happening += [asyncio.ensure_future(happen(world, fault)) for fault in plan.faults]
    await asyncio.gather(*happening)
    healed_s = max([LASTS_S, *(line.broken_until_s for line in world.network.lines)])
    await asyncio.sleep(healed_s - world.loop.time())
    world.note("calm")
    await _all_served(world, visits)
    await _somebody_new_is_served(world, plan.last)
    if plan.flips_only:
        world.seen.words.named()
    await ending(world)


async def _start(world: World, role: str, at_s: float) -> None:
    await asyncio.sleep(at_s)
    world.start(role)


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


def place_of(error: BaseException) -> str:
    """Where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
