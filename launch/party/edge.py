"""A server's edge: owner and clients come and go as they like, whatever the computing parties are doing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from mpcnet.aio.tasks import Tasks
from mpcnet.errors import LocalBusyError, MpcError
from mpcnet.launch.party.clients import Clients
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.owner_side import OwnerSide
from mpcnet.transport.channel import Channel

MAX_CONNECTIONS = 512
OWNERS = 4  # places beside these that clients do not get: who waits for the owner must not keep it out


@dataclass(slots=True)
class Edge:
    """Who is here besides the computing parties, each with a task of its own."""

    node: Node
    clients: Clients = field(init=False)
    owner: OwnerSide = field(init=False)
    _tasks: Tasks = field(default_factory=Tasks)

    def __post_init__(self) -> None:
        self.clients = Clients(self.node, self._tasks)
        self.owner = OwnerSide(self.node)

    def arrive(self, channel: Channel) -> None:
        """Somebody whose certificate is that of an owner or a client."""
        places = MAX_CONNECTIONS + (OWNERS if channel.peer == "owner" else 0)
        if len(self._tasks) >= places and not self.clients.make_room():
            channel.abort(f"{self.node.role} has {MAX_CONNECTIONS} connections; try again in a moment")
            return
        self._tasks.start(self._host(channel))

    async def close(self) -> None:
        """Nobody is served any more; returns when their channels have ended."""
        await self._tasks.end()

    async def _host(self, channel: Channel) -> None:
        """One connection, from first to last. Whoever breaks the protocol is turned away; the service goes on."""
        try:
            peer = await self.node.greet(channel)
            if peer.name == "owner":
                await self.owner.serve(peer)
            else:
                await self.clients.serve(peer)
        except LocalBusyError as error:
            self.node.metrics.request_done("refused")
            channel.abort(f"{self.node.role}: {error}")
        except MpcError as error:
            self.node.say(f"turned away {channel.peer}: {error}", "warning")
            channel.abort(f"{self.node.role}: {error}")
        except asyncio.CancelledError:
            channel.abort(f"{self.node.role} is stopping")
            raise
        finally:
            with suppress(MpcError):
                await asyncio.shield(channel.close())
