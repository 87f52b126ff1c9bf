"""Dial and listen: a TCP connection, mutual TLS 1.3, the role from the certificate, then a `Channel`.

With TLS 1.3 a client believes the connection to be up before the server has looked at the client's certificate.
So the listener ends the greeting with a control frame `welcome`, or an abort that says why not, and `dial`
returns only after it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Collection
from contextlib import suppress

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import ChannelBusy, ChannelClosed, ChannelTimeout, LocalConfigError, MpcError, describe
from mpcnet.transport.channel import NO_SESSION, receive_control, send_control
from mpcnet.transport.identity import Identifies, Identity, Roster
from mpcnet.transport.tls_channel import LINGER_S, TlsChannel

__all__ = ["Identity", "Roster", "Server", "TlsChannel", "dial", "listen", "parse_address"]

GREETING_S = 10.0  # TLS and the welcome: three round trips and some elliptic curves, with room for a loaded machine
CHANNEL_S = 120.0  # default idle limit of a channel: longer than any party computes between two frames
FIRST_S, LONGEST_S = 0.05, 1.0  # between attempts to dial: a start in any order is quick
BACKLOG = 128  # connections in their greeting, or on their way out, at once: one more, and the oldest is dropped
WELCOME = "welcome"

OnWait = Callable[[str, str, str], None]  # role, address, reason
OnRefused = Callable[[str, MpcError], None]  # address of the peer, reason


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`.

    :raises LocalConfigError: it is not.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise LocalConfigError(describe("address", "host:port", repr(text)))
    return host.removeprefix("[").removesuffix("]"), int(port)


async def dial(
    address: str,
    identity: Identity,
    roster: Identifies,
    expected_role: str,
    timeout_s: float,
    *,
    channel_timeout_s: float = CHANNEL_S,
    linger_s: float = LINGER_S,
    on_wait: OnWait | None = None,
) -> TlsChannel:
    """Connect to the party `expected_role`; while it cannot be reached, try again for `timeout_s`.

    :raises ChannelTimeout: it could not be reached in time.
    :raises RemoteIdentityError: it is somebody else, or it refuses our certificate.
    :raises RemoteProtocolError: what answers does not speak this protocol.
    :raises RemoteAbort: it refused us and said why.
    """
    loop = asyncio.get_running_loop()
    context = identity.context(server_side=False)
    host, port = parse_address(address)
    end_s, backoff = loop.time() + timeout_s, Backoff(FIRST_S, LONGEST_S)

    def new_channel() -> TlsChannel:
        where = f"{expected_role} at {address}"
        return TlsChannel(context, server_side=False, where=where, timeout_s=GREETING_S, linger_s=linger_s)

    while True:
        try:
            async with asyncio.timeout(min(GREETING_S, max(end_s - loop.time(), 0.001))):
                _, channel = await loop.create_connection(new_channel, host, port)
                await _greet(channel, roster, [expected_role], dialled=True)
            channel.keep_alive(channel_timeout_s)
            return channel
        except TimeoutError:
            reason = "no answer"
        except OSError as error:
            reason = _reason(error)
        except (ChannelClosed, ChannelTimeout) as error:
            reason = str(error)
        if loop.time() + backoff.next_s >= end_s:
            raise ChannelTimeout(f"waited {timeout_s:g} s for {expected_role} at {address}: {reason}; is it running?")
        if on_wait is not None:
            on_wait(expected_role, address, reason)
        await backoff.take()


async def _greet(channel: TlsChannel, roster: Identifies, accept: Collection[str], *, dialled: bool) -> None:
    """TLS, identity, welcome; a failure ends the channel and tells the peer.

    :raises MpcError: the greeting failed.
    """
    try:
        connection = await channel.shaken()
        try:
            shown = roster.identify(connection, accept, channel.peer)
        except MpcError as error:
            channel.open(channel.peer)  # so that the reason can be sent
            channel.abort(str(error))
            raise
        channel.open(shown.role, shown.pins)
        if dialled:
            await receive_control(channel, WELCOME)
        else:
            await send_control(channel, NO_SESSION, WELCOME)
    except BaseException:
        channel.abort("the greeting failed")
        raise


class Server:
    """Listens until closed. Channels that were handed over are no longer its business."""

    def __init__(self, listener: socket.socket, greet: Callable[[socket.socket, str], asyncio.Task[None]]) -> None:
        self._listener = listener
        self._greet = greet
        self._greetings: dict[asyncio.Task[None], str] = {}  # oldest first
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def address(self) -> str:
        """Where it listens; the port is the real one if 0 was asked for."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Stop listening, end the greetings that are under way."""
        await end_tasks(self._accepting, *self._greetings)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, peer = await loop.sock_accept(self._listener)
            except OSError:  # out of descriptors, or the caller is gone already
                await asyncio.sleep(FIRST_S)
                continue
            connected.setblocking(False)
            if len(self._greetings) >= BACKLOG:  # a greeting takes milliseconds: who takes longest is a stranger
                await end_tasks(next(iter(self._greetings)))
            where = f"{peer[0]}:{peer[1]}"
            greeting = self._greet(connected, where)
            self._greetings[greeting] = where
            greeting.add_done_callback(self._greetings.pop)
            await asyncio.sleep(0)  # it begins: only then it closes its socket if it is cancelled


async def listen(
    address: str,
    identity: Identity,
    roster: Identifies,
    accept_roles: Collection[str],
    on_channel: Callable[[TlsChannel], None],
    *,
    channel_timeout_s: float = CHANNEL_S,
    linger_s: float = LINGER_S,
    on_refused: OnRefused | None = None,
) -> Server:
    """Serve `accept_roles` (`client` stands for every client); each greeted channel goes to `on_channel`.

    Whoever cannot be greeted is dropped and reported to `on_refused`; the listener goes on.

    :raises ChannelBusy: the port is in use.
    :raises LocalConfigError: the address is not ours, or the identity cannot be loaded.
    """
    loop = asyncio.get_running_loop()
    context = identity.context(server_side=True)
    listener = await _bind(address)

    async def serve(connected: socket.socket, where: str) -> None:
        channel = TlsChannel(context, server_side=True, where=where, timeout_s=GREETING_S, linger_s=linger_s)
        try:
            error = await greeted(channel, connected, where)
            if error is None:
                channel.keep_alive(channel_timeout_s)
                on_channel(channel)
                return
            if on_refused is not None:
                on_refused(where, error)
            with suppress(MpcError):
                await channel.close()  # who is refused may read why, and counts as a greeting until then
        except BaseException:
            channel.abandon()
            raise

    async def greeted(channel: TlsChannel, connected: socket.socket, where: str) -> MpcError | None:
        """Why not, if it is refused."""
        try:
            async with asyncio.timeout(GREETING_S):
                await loop.connect_accepted_socket(lambda: channel, connected)
                await _greet(channel, roster, accept_roles, dialled=False)
        except TimeoutError:
            return ChannelTimeout(f"{where}: no greeting within {GREETING_S:g} s")
        except OSError as error:
            return ChannelClosed(f"{where}: {_reason(error)}")
        except MpcError as error:
            return error
        return None

    return Server(listener, lambda connected, where: loop.create_task(serve(connected, where)))


async def _bind(address: str) -> socket.socket:
    host, port = parse_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LocalConfigError(f"cannot listen on {address}: {_reason(error)}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ChannelBusy(
                f"cannot listen on {address}: the port is in use; end its owner or take another"
            ) from None
        raise LocalConfigError(f"cannot listen on {address}: {_reason(error)}") from None
    return listener


def _reason(error: OSError) -> str:
    """`Connection refused`, without what the loop wrote around it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__  # getaddrinfo's numbers are its own
