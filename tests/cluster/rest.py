"""What must hold of a cluster at rest, and of what is left when all have ended."""

from __future__ import annotations

import asyncio
from typing import Any

from mpcnet.launch.party import clients
from tests.cluster import network, visitors
from tests.cluster.faults import stop
from tests.cluster.replaced import PING_S
from tests.cluster.roles import SERVERS
from tests.cluster.world import TIMEOUT_S, World

GONE_S = max(TIMEOUT_S, 3 * PING_S) + PING_S + 3.0


async def ending(world: World) -> None:
    """A cluster at rest is looked at, is stopped in order, and is looked at again."""
    await _all_gone(world)
    _look(world)
    await stop(world, *world.parties)
    await asyncio.sleep(5.0)
    _look_behind(world)


async def _all_gone(world: World) -> None:
    """Connections of clients end, of those too that vanished without a word; then their requests, and their answers."""
    end_s = world.loop.time() + GONE_S
    while world.loop.time() < end_s and any(_visits(world, each) for each in world.network.transports):  # noqa: ASYNC110
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


def _visits(world: World, transport: network.Transport) -> bool:
    return transport.owner not in world.parties or transport.other not in world.parties


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
        kept = world.receivers[role].nbytes if role in world.receivers else 0  # it may never have met the dealer
        if kept and "ahead_runs" not in world.settings:
            world.breaks(f"{role} holds {kept} bytes of corrections for nobody")
    for (role, does), held in world.passing.items():
        if held._nbytes:
            world.breaks(f"{role} holds {held._nbytes} bytes that it {does}, though all runs have ended")
    for each in world.network.transports:
        if _visits(world, each):
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
