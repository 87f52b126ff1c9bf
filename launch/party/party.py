"""A computing server: in each session it loads the owner's weights, then server0 leads and server1 follows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mpcnet.aio.tasks import together
from mpcnet.errors import LocalInputError
from mpcnet.launch.party import notify
from mpcnet.launch.party.expiry import tell_expiry
from mpcnet.launch.party.follower import follow
from mpcnet.launch.party.guests import Guests
from mpcnet.launch.party.leader import lead
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.server import Server
from mpcnet.launch.party.service import Service
from mpcnet.models.private.program import Plans
from mpcnet.runtime.correction_buffer import Intake
from mpcnet.runtime.sealed_tape import Drawer
from mpcnet.transport.handshake import Peer, agree_seed
from mpcnet.transport.rendezvous import SERVERS, join


async def main(node: Node) -> int:
    """A server's whole life.

    :raises LocalError: a setting, a file or a port of ours is wrong; trouble with others does not end it.
    """
    if node.role not in SERVERS:
        raise LocalInputError(f"party: want role server0 or server1, got {node.role}")
    plans = await asyncio.to_thread(Plans, node.config)
    guests = Guests(node)

    async def session(peers: Mapping[str, Peer]) -> None:
        seed = await agree_seed(peers["dealer"], "masks")
        name = await join(node.role, peers)
        node.say(f"connected with {', '.join(peers)}: session {name.hex()[:8]}", session=name.hex())
        settings = node.settings
        limit_bytes, memory = settings.stock_mib << 20, node.buffers.empty
        intake = Intake(peers["dealer"], node.party, limit_bytes, settings.timeout_s, drawer, memory)
        server = Server(node, peers, guests, plans, seed, intake)

        async def work() -> None:
            model = await server.load(name)
            if model is not None:
                node.metrics.ready()
                notify.ready()
                await (lead if node.party == 0 else follow)(server, model)

        await together(work(), intake.run())

    drawer = _drawer(node)
    try:
        await together(Service(node, guests.arrive).run(session), tell_expiry(node))
    finally:
        await guests.close()
        if drawer is not None:
            drawer.close()
    return 0


def _drawer(node: Node) -> Drawer | None:
    """The folder of tapes, if the settings name one."""
    if not node.settings.tapes:
        return None
    drawer = Drawer.open(node.settings.folder / node.settings.tapes)
    if drawer.leftovers:
        node.say(f"removed {drawer.leftovers} tape(s) of an earlier process: nobody can open them", "warning")
    return drawer
