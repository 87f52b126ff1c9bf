"""A computing server: in each session it loads the owner's weights, then server0 leads and server1 follows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mpcnet.aio.tasks import together
from mpcnet.errors import LocalInputError
from mpcnet.launch.party import notify
from mpcnet.launch.party.budget import of_server
from mpcnet.launch.party.edge import Edge
from mpcnet.launch.party.expiry import tell_expiry
from mpcnet.launch.party.follower import follow
from mpcnet.launch.party.forward import Forward
from mpcnet.launch.party.leader import lead
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.recording import Recording
from mpcnet.launch.party.server import Server
from mpcnet.launch.party.service import Service, outlasting
from mpcnet.launch.party.witness import Witness
from mpcnet.models.private.program import Plans
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.runtime.sealed_tape import SealedTapes
from mpcnet.transport.handshake import Peer, agree_seed
from mpcnet.transport.rendezvous import REPLICAS, SERVERS, join


async def main(node: Node) -> int:
    """A server's whole life.

    :raises LocalError: a setting, a file or a port of ours is wrong; trouble with others does not end it.
    """
    if node.role not in SERVERS:
        raise LocalInputError(f"party: want role server0 or server1, got {node.role}")
    plans = await asyncio.to_thread(Plans, node.config)
    budget = await asyncio.to_thread(of_server, node.settings, plans)
    edge = Edge(node, plans, budget)

    async def session(peers: Mapping[str, Peer]) -> None:
        other = peers[SERVERS[1 - node.party]]
        seed, refresh = await asyncio.gather(agree_seed(peers["dealer"], "masks"), agree_seed(other, "refresh"))
        name = await join(node.role, peers)
        node.say(f"connected with {', '.join(peers)}: session {name.hex()[:8]}", session=name.hex())
        settings = node.settings
        limit_bytes, memory = budget.buffer_bytes, node.buffers.empty
        receiver = CorrectionReceiver(peers["dealer"], node.party, limit_bytes, settings.timeout_s, tapes, memory)
        own, others = (peers.get(REPLICAS[party]) for party in (node.party, 1 - node.party))
        forward = None if own is None else Forward(own)
        witness = None if others is None else Witness(others, name, refresh, settings.timeout_s)
        recording = Recording(node, peers["dealer"], other, seed, refresh, forward, witness is not None)
        server = Server(node, peers, edge, plans, seed, refresh, receiver, recording, witness)

        async def work() -> None:
            model = await server.load(name)
            if model is not None:
                node.ready()
                notify.ready()
                await (lead if node.party == 0 else follow)(server, model)

        serving[:] = [server]
        try:
            beside = [] if forward is None else [forward.run()]
            await together(work(), outlasting(receiver.run, server.at_rest), *beside)
        finally:
            receiver.close()

    async def at_rest() -> None:
        for server in serving:
            await server.at_rest()

    tapes, serving = _tapes(node), list[Server]()
    try:
        await together(Service(node, edge.arrive, at_rest).run(session), tell_expiry(node))
    finally:
        await edge.close()
        if tapes is not None:
            tapes.close()
    return 0


def _tapes(node: Node) -> SealedTapes | None:
    """The folder of tapes, if the settings name one."""
    if not node.settings.tapes:
        return None
    tapes = SealedTapes.open(node.settings.folder / node.settings.tapes)
    if tapes.leftovers:
        node.say(f"removed {tapes.leftovers} tape(s) of an earlier process: nobody can open them", "warning")
    return tapes
