"""A computing party's life: session after session with the other two, until it is asked to stop.

A session is one set of connections between server0, server1 and dealer, fresh seeds, and weights loaded under fresh
masks. Whatever breaks it breaks it for all three; each then connects anew, and nothing of the old one is used again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import end_tasks, together
from mpcnet.errors import ChannelError, LocalInputError, LocalStorageError, RemoteError
from mpcnet.launch.party.monitor import Monitor, cause_of
from mpcnet.launch.party.node import Node, end
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import SERVERS, VISITORS, Rendezvous, awaits, dials, meet, watch

T = TypeVar("T")
LONG_S = 30.0  # a session that lasted so long was a good one: the next begins without delay

Session = Callable[[Mapping[str, Peer]], Coroutine[None, None, None]]


async def unless(stopping: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of `work`; None if we are to stop before it is there."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await end_tasks(task, stop)


async def outlasting(work: Callable[[], Awaitable[None]], at_rest: Callable[[], Awaitable[None]]) -> None:
    """`work`; if a peer that is gone ends it, only when we are at rest."""
    try:
        await work()
    except (ChannelError, RemoteError):
        await at_rest()
        raise


async def _at_once() -> None:
    pass


@dataclass(slots=True)
class Service:
    """One party's port and monitor, which outlive its sessions."""

    node: Node
    on_visitor: Callable[[Channel], None]
    at_rest: Callable[[], Awaitable[None]] = _at_once  # what a session may still finish when a peer is gone

    async def run(self, session: Session) -> None:
        """Until asked to stop; `session` returns only then.

        :raises LocalError: a setting of ours, or a port that is taken.
        """
        node = self.node
        rendezvous = Rendezvous(self._awaited, node.greet, self.on_visitor)
        monitor = Monitor(node.metrics, node.settings.monitor_port) if node.settings.monitor_port else None
        try:
            if monitor is not None:
                monitor.start()
            await self._listen(rendezvous)
            await self._sessions(rendezvous, session)
        finally:
            await rendezvous.close()
            if monitor is not None:
                monitor.close()

    @property
    def _awaited(self) -> tuple[str, ...]:
        return awaits(self.node.role, self.node.settings.addresses, self.node.settings.replicas)

    async def _listen(self, rendezvous: Rendezvous) -> None:
        node = self.node
        settings = node.settings
        if node.identity.role() != node.role:
            raise LocalInputError(f"we are to be {node.role}, our certificate says {node.identity.role()}")
        accept = (*self._awaited, *(VISITORS if node.role in SERVERS else ()))
        if node.role in settings.addresses and accept:
            address = settings.listen or settings.addresses[node.role]
            await rendezvous.open(address, node.identity, node, accept, settings.timeout_s, node.refused)

    async def _sessions(self, rendezvous: Rendezvous, session: Session) -> None:
        node, backoff = self.node, Backoff()
        while True:
            for name in self._awaited:
                node.waiting(name, "has not dialled us")
            dialled = dials(node.role, node.settings.addresses)
            meeting = meet(dialled, self._awaited, self._dial, rendezvous, lambda name, e: node.waiting(name, str(e)))
            peers = await unless(node.stopping, meeting)
            if peers is None:
                return
            began_s = time.monotonic()
            if await self._session(rendezvous, session, peers):
                return
            if time.monotonic() - began_s > LONG_S:
                backoff = Backoff()
            await unless(node.stopping, backoff.take())

    async def _dial(self, role: str) -> Peer:
        return await self.node.dial(role, float("inf"))

    async def _session(self, rendezvous: Rendezvous, session: Session, peers: Mapping[str, Peer]) -> bool:
        """True if it ended because we are to stop."""
        node = self.node
        node.metrics.session_began()
        try:
            await together(session(peers), outlasting(lambda: watch(rendezvous, peers, self._awaited), self.at_rest))
        except (RemoteError, ChannelError, LocalStorageError) as error:  # a tape that fails ends its session only
            cause = cause_of(error)
            node.metrics.session_ended(cause)
            node.metrics.abort(cause)
            node.say(f"the session ended: {error}; connecting anew", "warning", cause=cause)
            await end(peers.values(), node.role, error)
            return node.stopping.is_set()
        except BaseException as error:
            node.metrics.abort(cause_of(error))
            await end(peers.values(), node.role, error)
            raise
        node.metrics.session_ended("stopped")
        node.say("stopping")
        for peer in peers.values():
            peer.channel.abort(f"{node.role} is stopping")
        with suppress(ChannelError):
            await asyncio.gather(*(peer.channel.close() for peer in peers.values()))
        return True
