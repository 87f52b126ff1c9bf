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
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

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
BACKLOG = 128  # connections in their greeting, or on their way out, at once
SILENT = 256  # connections that have said nothing: they take a descriptor each, and come in floods
WAITING = 1024  # connections that the system holds until we look; who comes beyond them tries again
AT_ONCE = 64  # connections that are taken before the loop may do something else
WELCOME = "welcome"

OnWait = Callable[[str, str, str], None]  # role, address, reason
OnRefused = Callable[[str, MpcError], None]  # address of the peer, reason
Greet = Callable[[socket.socket, str], Coroutine[Any, Any, None]]


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
            await receive_control(channel, WELCOME, fields=())
        else:
            await send_control(channel, NO_SESSION, WELCOME)
    except BaseException:
        channel.abort("the greeting failed")
        raise


class Server:
    """Listens until closed. Channels that were handed over are no longer its business.

    A connection costs a socket until it says its first word; who is honest does so at once. At most SILENT have not
    spoken yet, and at most BACKLOG are in their greeting, or on their way out; one more, and the oldest of its kind is
    dropped.
    """

    def __init__(self, listener: socket.socket, greet: Greet, on_refused: OnRefused | None) -> None:
        self._listener, self._greet, self._on_refused = listener, greet, on_refused
        self._silent: dict[socket.socket, tuple[str, asyncio.TimerHandle]] = {}  # oldest first, likewise
        self._greetings: dict[asyncio.Task[None], str] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._accept)

    @property
    def address(self) -> str:
        """Where it listens; the port is the real one if 0 was asked for."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Stop listening, end the greetings that are under way."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        while self._silent:
            self._drop(next(iter(self._silent)))
        await end_tasks(*self._greetings)

    def _accept(self) -> None:
        """All that wait, but for so many that others would: the system holds them, and drops who comes too often."""
        for _ in range(AT_ONCE):
            try:
                connected, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or the caller is gone already
                self._loop.remove_reader(self._listener)
                self._loop.call_later(FIRST_S, self._resume)
                return
            connected.setblocking(False)
            if len(self._silent) >= SILENT:
                self._drop(next(iter(self._silent)))
            patience = self._loop.call_later(GREETING_S, self._tire, connected)
            self._silent[connected] = f"{peer[0]}:{peer[1]}", patience
            self._loop.add_reader(connected, self._heard, connected)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _release(self, connected: socket.socket) -> str:
        """It is no longer one of the silent; returns where it came from."""
        where, patience = self._silent.pop(connected)
        patience.cancel()
        self._loop.remove_reader(connected)
        return where

    def _drop(self, connected: socket.socket) -> None:
        self._release(connected)
        connected.close()

    def _tire(self, connected: socket.socket) -> None:
        where, _ = self._silent[connected]
        self._drop(connected)
        if self._on_refused is not None:
            self._on_refused(where, ChannelTimeout(f"{where}: no greeting within {GREETING_S:g} s"))

    def _heard(self, connected: socket.socket) -> None:
        """Its first word is there, or its end."""
        living = [task for task in self._greetings if not task.cancelling()]
        if len(living) >= BACKLOG:  # a greeting takes milliseconds: who takes longest is a stranger
            living[0].cancel()
        where, begun = self._release(connected), False

        async def begin() -> None:
            nonlocal begun
            begun = True
            await self._greet(connected, where)

        def end(greeting: asyncio.Task[None]) -> None:
            del self._greetings[greeting]
            if not begun:  # cancelled at once: nobody else has the socket
                connected.close()

        greeting = self._loop.create_task(begin())
        self._greetings[greeting] = where
        greeting.add_done_callback(end)


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

    return Server(listener, serve, on_refused)


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
        listener.listen(WAITING)
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
