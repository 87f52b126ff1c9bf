"""What is done to a cluster: each fault of a scenario, and the end of parties in order."""

from __future__ import annotations

import asyncio

from tests.cluster.flips import Flip
from tests.cluster.roles import SERVERS
from tests.cluster.scenario import LASTS_S, Fault
from tests.cluster.tamper import Tamper
from tests.cluster.world import World

CALM_S = 150.0  # after the last fault everybody has an answer or an error by then, and somebody new is served
END_S = 30.0  # a party that is stopped in order ends by then


async def happen(world: World, fault: Fault) -> None:
    await asyncio.sleep(fault.at_s)
    await asyncio.wait([world.seen.after_frames(fault.frames)], timeout=LASTS_S - fault.at_s)
    role, seconds = fault.whom[0], fault.seconds
    world.note("fault", fault.what, *fault.whom, round(seconds, 3))
    match fault.what:
        case "reset":
            world.network.reset(*fault.whom)
        case "silence":
            world.network.break_line(fault.whom[0], fault.whom[1], seconds)
        case "tamper":
            sender, receiver, way = fault.whom
            world.seen.tampers.append(Tamper(sender, receiver, way, int(seconds)))
        case "flip":
            world.seen.words.flips.append(Flip(role, fault.whom[1], int(seconds)))
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
                await stop(world, role)
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
        await asyncio.wait([world.seen.after_frames(1)], timeout=LASTS_S)
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


async def stop(world: World, *roles: str) -> None:
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
