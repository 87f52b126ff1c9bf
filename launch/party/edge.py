"""A server's edge: owner and clients come and go as they like, whatever the computing parties are doing."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from mpcnet.aio.tasks import Tasks, to_its_end
from mpcnet.errors import LocalBusyError, LocalSizeError, MpcError
from mpcnet.launch.party.budget import Budget
from mpcnet.launch.party.clients import Clients
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.owner_side import OwnerSide
from mpcnet.models.private.program import Plans
from mpcnet.transport.channel import Channel

MAX_CONNECTIONS = 512  # of clients
PER_IDENTITY = 64  # of one certificate, the owner's too


@dataclass(slots=True)
class Edge:
    """Who is here besides the computing parties, each with a task of its own.

    Places go by identity: nobody has more than PER_IDENTITY, and if all are taken, a newcomer gets that of an idle
    client with more places than it has. The owner needs none of them.
    """

    node: Node
    plans: Plans
    budget: Budget
    clients: Clients = field(init=False)
    owner: OwnerSide = field(init=False)
    _places: Counter[str] = field(default_factory=Counter)  # by role
    _tasks: Tasks = field(default_factory=Tasks)

    def __post_init__(self) -> None:
        self.clients = Clients(self.node, self.plans, self.budget)
        self.owner = OwnerSide(self.node)

    def arrive(self, channel: Channel) -> None:
        """Somebody whose certificate is that of an owner or a client."""
        if reason := self._full(channel.peer):
            channel.abort(f"{self.node.role}: {reason}; try again in a moment")
            return
        self._places[channel.peer] += 1
        self._tasks.start(self._host(channel))

    def _full(self, role: str) -> str:
        """Why there is no place for one more of this role; "" if there is one."""
        held = self._places[role]
        if held >= PER_IDENTITY:
            return f"{role} has {held} connections"
        if role == "owner" or self._places.total() - self._places["owner"] < MAX_CONNECTIONS:
            return ""
        if self.clients.make_room(lambda idle: self._places[idle.peer] > held):
            return ""
        return f"clients have {MAX_CONNECTIONS} connections"

    async def close(self) -> None:
        """Nobody is served any more; returns when their channels have ended."""
        await self._tasks.end()

    async def _host(self, channel: Channel) -> None:
        """One connection, from first to last. Whoever breaks the protocol is turned away; the service goes on."""
        role = channel.peer
        try:
            peer = await self.node.greet(channel)
            if peer.name == "owner":
                await self.owner.serve(peer)
            else:
                await self.clients.serve(peer)
        except LocalBusyError as error:
            self.node.metrics.request_done("refused")
            channel.abort(f"{self.node.role}: {error}")
        except LocalSizeError as error:
            self.node.metrics.request_done("refused")
            channel.abort(f"{self.node.role}: {error}", final=True, largest=error.largest)
        except MpcError as error:
            self.node.turned_away(role, error)
            channel.abort(f"{self.node.role}: {error}", final=True)
        except asyncio.CancelledError:
            channel.abort(f"{self.node.role} is stopping")
            raise
        finally:
            self._places[role] -= 1
            with suppress(MpcError):
                await to_its_end(channel.close())
