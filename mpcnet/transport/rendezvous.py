"""Connect the computing parties, and do so again whenever one of them comes back.

::

    dealer  <--  server0  <--  server1          an arrow points at who listens
       ^------------------------'
    server0, server1  <--  replicas             if the settings name them
    server0, server1  <--  owner, client        they come and go

A party without an address cannot be dialled (it may be behind NAT): whoever would dial it is dialled instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import end_tasks, race, together
from mpcnet.errors import (
    ChannelClosed,
    ChannelError,
    LocalConfigError,
    MpcError,
    RemoteAbort,
    RemoteError,
    RemoteProtocolError,
)
from mpcnet.transport.channel import Channel, receive_control, send_control
from mpcnet.transport.handshake import Peer
from mpcnet.transport.identity import Identifies, Identity
from mpcnet.transport.tls import OnRefused, Server, listen

PAIRS = (("server1", "server0"), ("server0", "dealer"), ("server1", "dealer"))  # who dials, who listens
SERVERS = ("server0", "server1")
VISITORS = ("owner", "client")
REPLICAS = ("replica0", "replica1")  # of the servers
MET, JOIN = "met", "join"

Greet = Callable[[Channel], Awaitable[Peer]]
Dial = Callable[[str], Awaitable[Peer]]
OnFailure = Callable[[str, MpcError], None]  # role of the peer, reason


def dials(role: str, addresses: Collection[str]) -> tuple[str, ...]:
    """Whom `role` dials; `addresses` are the roles that can be dialled.

    :raises LocalConfigError: two that must connect have no address, or a server has none.
    """
    if missing := [server for server in SERVERS if server not in addresses]:
        raise LocalConfigError(
            f"addresses: want one for {' and '.join(missing)}, whom owner and clients dial; got none"
        )
    if role.partition(":")[0] in (*VISITORS, *REPLICAS):
        return SERVERS
    return tuple(sorted(to for dialler, to in _pairs(addresses) if dialler == role))


def awaits(role: str, addresses: Collection[str], replicas: Sequence[str] = ()) -> tuple[str, ...]:
    """Which computing parties dial `role`; all of the deployment's `replicas` dial both servers."""
    found = tuple(sorted(dialler for dialler, to in _pairs(addresses) if to == role))
    return (*found, *replicas) if role in SERVERS else found


def _pairs(addresses: Collection[str]) -> list[tuple[str, str]]:
    return [(a, b) if b in addresses else (b, a) for a, b in PAIRS]


class Rendezvous:
    """Our one port. Owner and clients are handed on; of each computing party the newest connection is kept."""

    def __init__(self, awaited: Collection[str], greet: Greet, on_visitor: Callable[[Channel], None]) -> None:
        self._greet, self._on_visitor = greet, on_visitor
        self._newest: dict[str, Peer] = {}
        self._awaited = tuple(awaited)
        self._changed = asyncio.Event()
        self._greetings: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._on_refused: OnRefused | None = None

    async def open(
        self, address: str, identity: Identity, roster: Identifies, accept: Collection[str], timeout_s: float,
        on_refused: OnRefused,
    ) -> None:  # fmt: skip
        """Listen.

        :raises MpcError: as :func:`mpcnet.transport.tls.listen`.
        """
        self._on_refused = on_refused
        self._server = await listen(
            address, identity, roster, accept, self.arrive, channel_timeout_s=timeout_s, on_refused=on_refused
        )

    def arrive(self, channel: Channel) -> None:
        """Somebody whose certificate is accepted."""
        if channel.peer not in self._awaited:
            self._on_visitor(channel)
            return
        greeting = asyncio.get_running_loop().create_task(self._welcome(channel))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _welcome(self, channel: Channel) -> None:
        try:
            peer = await self._greet(channel)
        except MpcError as error:
            channel.abort(str(error))
            if self._on_refused is not None:
                self._on_refused(channel.peer, error)
            return
        except asyncio.CancelledError:
            channel.abort("we do not listen any more")
            raise
        if older := self._newest.pop(peer.name, None):
            older.channel.abort(f"{peer.name} has connected anew")
        self._newest[peer.name] = peer
        self._changed.set()

    async def take(self, name: str) -> Peer:
        """The newest connection of a computing party, as soon as there is one that was not taken yet."""
        await self.returned([name])
        return self._newest.pop(name)

    async def returned(self, names: Collection[str]) -> str:
        """Wait until one of these has a connection that was not taken; returns its name."""
        while True:
            for name in names:
                if name in self._newest:
                    return name
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Stop listening; connections that nobody took end."""
        if self._server is not None:
            await self._server.close()
        await end_tasks(*self._greetings)
        for peer in self._newest.values():
            peer.channel.abort(f"{peer.own_role} does not listen any more")
        await asyncio.gather(*(peer.channel.close() for peer in self._newest.values()), return_exceptions=True)


async def meet(
    dialled: Collection[str], awaited: Collection[str], dial: Dial, rendezvous: Rendezvous, on_failure: OnFailure
) -> dict[str, Peer]:
    """Live connections with all of them at the same time, however long that takes and whatever happens meanwhile.

    When it returns the others have theirs too, and will not look for new ones unless one of these ends.
    """
    backoff = Backoff()
    while True:
        held: dict[str, Peer] = {}
        heard: dict[str, asyncio.Future[None]] = {}
        try:
            while len(held) < len(dialled) + len(awaited):  # one may be lost again while the tasks end
                await _hold_all(held, heard, dialled, awaited, dial, rendezvous, on_failure)
            await together(_all_have_met(held, heard), watch(rendezvous, held, awaited))
            return held
        except BaseException as error:
            for peer in held.values():
                peer.channel.abort(f"{peer.own_role} gave up before all were connected")
            if not isinstance(error, (ChannelError, RemoteError)):
                raise
            on_failure(" and ".join(held), error)
        finally:
            await end_tasks(*heard.values())
        await backoff.take()


async def _hold_all(
    held: dict[str, Peer], heard: dict[str, asyncio.Future[None]], dialled: Collection[str], awaited: Collection[str],
    dial: Dial, rendezvous: Rendezvous, on_failure: OnFailure,
) -> None:  # fmt: skip
    """Add to `held` until there is one of each. Those whom we dialled speak first, and are `heard` meanwhile: an unread
    frame would hide that a connection has ended."""
    changed = asyncio.Event()

    async def keep(name: str) -> None:
        """Hold the newest connection to `name`; find another when it ends."""
        while True:
            if name not in held:
                held[name] = await (_reach(name, dial, on_failure) if name in dialled else rendezvous.take(name))
                if name in dialled:
                    heard[name] = asyncio.ensure_future(_hear(held[name]))
                changed.set()
            others = (_misspoken(heard[name]),) if name in heard else ()
            await race(held[name].channel.gone(), rendezvous.returned([name]), *others)
            older = held.pop(name)
            if name in heard:
                await end_tasks(heard.pop(name))
            older.channel.abort(f"{older.own_role} has connected anew")

    async def all_held() -> None:
        while len(held) < len(dialled) + len(awaited):
            changed.clear()
            await changed.wait()

    await together(all_held(), *(keep(name) for name in (*dialled, *awaited)))


async def _misspoken(hearing: asyncio.Future[None]) -> None:
    """Never returns.

    :raises RemoteProtocolError: what was heard is something else. That a connection has ended is noticed otherwise.
    """
    await asyncio.wait([hearing])
    if (error := hearing.exception()) is not None and not isinstance(error, (ChannelError, RemoteAbort)):
        raise error
    await asyncio.Event().wait()


async def _all_have_met(peers: Mapping[str, Peer], heard: Mapping[str, asyncio.Future[None]]) -> None:
    """Tell each other that all are connected.

    Whoever was dialled speaks first, and is listened to from the start (`heard`). So nothing is ever sent over a
    connection that still lies unused, where an unread frame would hide that it has ended, and sessions would begin with
    dead connections again and again.
    """

    async def exchange(name: str, peer: Peer) -> None:
        if name in heard:
            await heard[name]
        await send_control(peer.channel, peer.session, MET)
        if name not in heard:
            await _hear(peer)

    await asyncio.gather(*(exchange(name, peer) for name, peer in peers.items()))


async def _hear(peer: Peer) -> None:
    await receive_control(peer.channel, MET, peer.session, fields=(), patient=True)


async def _reach(name: str, dial: Dial, on_failure: OnFailure) -> Peer:
    """Dial until it works; a party that refuses us may be started anew with other settings."""
    backoff = Backoff()
    while True:
        try:
            return await dial(name)
        except (ChannelError, RemoteError) as error:
            on_failure(name, error)
        await backoff.take()


async def join(role: str, peers: Mapping[str, Peer]) -> bytes:
    """Close the triangle: all three know that they are in one session of all three; returns its public id.

    The id is that of the servers' own channel. Both servers name it to the dealer, which answers when the two agree.

    :raises RemoteProtocolError: the servers are not connected with each other, but with somebody before.
    """
    if role == "dealer":
        found = await asyncio.gather(*(_joined(peers[name]) for name in SERVERS))
        if found[0] != found[1]:
            raise RemoteProtocolError("server0 and server1 are in different sessions; both have to connect anew")
        for name in SERVERS:
            await _say_join(peers[name], found[0])
        return found[0]
    other = peers["server1" if role == "server0" else "server0"]
    await _say_join(peers["dealer"], other.session)
    if await _joined(peers["dealer"]) != other.session:
        raise RemoteProtocolError("dealer: its session is not ours; all have to connect anew")
    await _say_join(other, other.session)
    await _joined(other)
    return other.session


async def _say_join(peer: Peer, session: bytes) -> None:
    await send_control(peer.channel, peer.session, JOIN, id=session)


async def _joined(peer: Peer) -> bytes:
    header = await receive_control(peer.channel, JOIN, peer.session, fields=("id",))
    value = header.fields.get("id")
    if not isinstance(value, bytes) or len(value) != 16:
        raise RemoteProtocolError(f"{peer.name}: want a session id of 16 bytes to join, got another")
    return value


async def watch(rendezvous: Rendezvous, peers: Mapping[str, Peer], awaited: Collection[str]) -> None:
    """Beside a session: ends it as soon as a connection is gone or a party has come anew.

    :raises MpcError: why.
    """
    names = list(peers)
    index = await race(rendezvous.returned(awaited), *(peers[name].channel.gone() for name in names))
    if index == 0:
        raise ChannelClosed(f"{await rendezvous.returned(awaited)} has connected anew")
    raise await peers[names[index - 1]].channel.gone()
