"""The TCP connection below a channel: flow control, and an end that loses nothing.

A socket closed with unread bytes is reset, and the reset can overtake the last frame. So an end is: our FIN behind
the last byte, then read and drop until the peer's FIN, or for `linger_s`.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress


class TcpConnection:
    """Wraps asyncio's transport, which is there once `connected` was called."""

    def __init__(self, *, high_water: int, linger_s: float) -> None:
        self.linger_s = linger_s
        self.lost = asyncio.Event()
        self._abandoned = False
        self.cut = False  # it ended with bytes that the peer did not take
        self._high_water = high_water
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connected(self, transport: asyncio.Transport) -> None:
        """The connection is up."""
        self._transport = transport
        transport.set_write_buffer_limits(high=self._high_water)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def disconnected(self) -> None:
        """The connection is gone; whoever waits is woken."""
        self.lost.set()
        self._writable.set()

    def read(self, wanted: bool) -> None:
        """Read the socket, or leave the bytes to the kernel, which then slows the peer down."""
        if self._transport is not None and not self._transport.is_closing():
            if wanted and not self._transport.is_reading():
                self._transport.resume_reading()
            elif not wanted and self._transport.is_reading():
                self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Queue `data`; nothing happens on a connection that has ended."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0

    def pause_writing(self) -> None:
        """Over the high-water mark."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Below it again, or no longer worth waiting for."""
        self._writable.set()

    async def drained(self, timeout_s: float | None) -> None:
        """Wait until the queue is below the high-water mark; without a timeout, as long as the connection lives.

        :raises TimeoutError: it is not after `timeout_s`.
        """
        if not self._writable.is_set():
            async with asyncio.timeout(timeout_s):
                await self._writable.wait()

    def end(self, *, peer_ended: bool) -> None:
        """Begin the end described above; `lost` is set when it is over."""
        if self._transport is None:
            self.lost.set()
        elif self._abandoned:
            return  # `lost` is about to be set
        elif peer_ended:
            self._transport.close()
        elif not self._transport.is_closing():
            self.read(True)
            with suppress(OSError):  # asyncio's own loop raises it after a reset
                self._transport.write_eof()
        self._linger()

    def abandon(self) -> None:
        """Drop the connection and what is queued."""
        self._abandoned = True
        if self._transport is not None:
            self._transport.abort()

    def _linger(self) -> None:
        if self._transport is not None and not self.lost.is_set():
            unsent = self._transport.get_write_buffer_size()
            asyncio.get_running_loop().call_later(self.linger_s, self._look_at_end, unsent)

    def _look_at_end(self, unsent_before: int) -> None:
        if self._transport is None or self.lost.is_set():
            return
        unsent = self._transport.get_write_buffer_size()
        if 0 < unsent < unsent_before:
            self._linger()  # the peer still takes our last frames
            return
        self.cut = unsent > 0
        self.abandon()
