"""A channel over one TCP connection: frames over TLS over asyncio's (or uvloop's) BufferedProtocol.

Reading: prefix and header are read ahead, the payload only once a receiver has supplied its memory; until then the
socket is not read. So memory is bounded whatever the peer sends: one header and one staging buffer.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from mpcnet.errors import (
    ChannelClosed,
    ChannelParted,
    ChannelTimeout,
    LocalStateError,
    MpcError,
    RemoteProtocolError,
)
from mpcnet.transport.channel import HIGH_WATER, Expect, abort_header, check_abort, check_payload, is_ping, ping_header
from mpcnet.transport.tcp import TcpConnection
from mpcnet.transport.tls_engine import TlsEngine
from mpcnet.transport.wire import FrameDecoder, Header, Stage, encode

STAGING = 256 * 1024  # bytes read from the socket at once
SLICE = HIGH_WATER  # bytes encrypted before the loop may do something else
SMALL = 64 * 1024  # frames up to here are copied into one write
PING_S = 1.0  # between signs of life; three may be lost before a peer with a shorter timeout than that gives up
SILENT_S = 10.0  # a peer that gives no sign of life for so long is gone, however long a frame may take
LINGER_S = 2.0  # how long an end waits for the peer's; its FIN takes a round trip, unless it has frames to read


class TlsChannel(asyncio.BufferedProtocol):
    """See :class:`mpcnet.transport.channel.Channel`; made by `mpcnet.transport.tls.dial` and `listen`."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, where: str, timeout_s: float, linger_s: float = LINGER_S
    ) -> None:
        self.peer = where
        self.pins: tuple[str, ...] = ()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._tls = TlsEngine(context, server_side=server_side, where=where)
        self._decoder = FrameDecoder(where)
        self._staging = memoryview(bytearray(STAGING))
        self._tcp = TcpConnection(high_water=HIGH_WATER, linger_s=linger_s)
        self._shaken: asyncio.Future[None] = self._loop.create_future()
        self._open = False  # identity checked: frames may be read
        self._failure: MpcError | None = None
        self._gone = asyncio.Event()
        self._expect: Expect | None = None
        self._delivery: asyncio.Future[Header] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patient = False
        self._progress_s = 0.0  # when the last byte of a frame came
        self._heard_s = 0.0  # when any byte came
        self._beat: asyncio.TimerHandle | None = None
        self._sending = asyncio.Lock()
        self._mid_frame = False
        self._eof = False
        self._ending = False

    def __repr__(self) -> str:
        return f"TlsChannel(peer={self.peer!r})"

    # --- the channel ------------------------------------------------------------------------------------------

    async def shaken(self) -> ssl.SSLObject:
        """The TLS connection, once its handshake is done.

        :raises MpcError: it failed.
        """
        await asyncio.shield(self._shaken)
        return self._tls.connection

    def open(self, peer: str, pins: tuple[str, ...] = ()) -> None:
        """The peer is `peer`, which has been checked: from now on its frames are read."""
        self.peer = self._tls.where = peer
        self.pins = pins
        self._decoder = FrameDecoder(peer)
        self._open = True
        self._pump()

    def keep_alive(self, timeout_s: float) -> None:
        """From now on: signs of life to the peer, and an end if it gives none for SILENT_S, or `timeout_s` if that is
        less (but three of ours).
        """
        self.timeout_s = timeout_s
        self._heard_s = self._loop.time()
        self._beat = self._loop.call_later(PING_S, self._on_beat)

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        """See :class:`mpcnet.transport.channel.Channel`."""
        head = encode(header)
        check_payload(header, payload)
        async with self._sending:
            self._check_open()
            self._mid_frame = True
            try:
                await self._write(head, payload, None if patient else self.timeout_s)
            except BaseException as error:
                if not self._tcp.lost.is_set():  # else what did arrive can still be received
                    self._fail(error if isinstance(error, MpcError) else ChannelClosed(f"{self.peer}: a frame was cut"))
                    self._tcp.abandon()
                raise
            self._mid_frame = False
            self.sent_bytes += len(head) + header.payload_bytes

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        """See :class:`mpcnet.transport.channel.Channel`."""
        if self._delivery is not None:
            raise LocalStateError(f"two receivers on the channel to {self.peer}")
        if self._failure is not None:
            raise self._failure
        self._expect, self._patient = expect, patient
        delivery: asyncio.Future[Header] = self._loop.create_future()
        self._delivery = delivery
        self._progress_s = self._loop.time()
        self._pump()
        self._timer = self._loop.call_later(self.timeout_s, self._look_at_progress)
        try:
            return await delivery
        finally:
            self._timer.cancel()
            self._expect = self._delivery = None
            if self._decoder.stage is Stage.PAYLOAD:  # cancelled: the memory is the caller's again
                self._fail(ChannelClosed(f"{self.peer}: receiving a frame was cut off"))
                self._tcp.abandon()

    async def gone(self) -> MpcError:
        """See :class:`mpcnet.transport.channel.Channel`."""
        await self._gone.wait()
        assert self._failure is not None
        return self._failure

    async def close(self) -> None:
        """See :class:`mpcnet.transport.channel.Channel`.

        :raises ChannelTimeout: the peer did not take our last frames.
        """
        async with self._sending:
            self._fail(ChannelClosed(f"channel to {self.peer}: closed here"))
        await self._tcp.lost.wait()
        if self._tcp.cut:
            raise ChannelTimeout(f"{self.peer} did not take our last frames within {self._tcp.linger_s:g} s")

    def abort(self, reason: str, **advice: int) -> None:
        """See :class:`mpcnet.transport.channel.Channel`."""
        if self._failure is None:
            self._tell(reason, **advice)
            self._fail(ChannelClosed(f"channel to {self.peer}: aborted here: {reason}"))
        if self._mid_frame:
            self._tcp.abandon()

    def abandon(self) -> None:
        """Drop the connection and whatever is on its way: for a stranger for whom there is no room."""
        self._tcp.abandon()
        self._fail(ChannelClosed(f"channel to {self.peer}: dropped here"))

    # --- reading ----------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where to put what arrives."""
        return self._staging

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: it arrived."""
        self._heard_s = self._loop.time()
        if not self._ending:
            self._tls.feed(self._staging[:nbytes])
            self._pump()

    def eof_received(self) -> bool:
        """asyncio: the peer's FIN. False lets the transport close."""
        self._eof = True
        if not self._ending:
            self._tls.feed_eof()
            self._pump()
        return not self._ending

    def _pump(self) -> None:
        """Decrypt and decode as far as the memory at hand allows; read the socket only if that is wanted."""
        if self._ending:
            return
        try:
            if not self._shaken.done() and self._tls.handshake():
                self._shaken.set_result(None)
            if self._open:
                self._read_frames()
        except MpcError as error:
            if isinstance(error, RemoteProtocolError) and self._open:
                self._tell(str(error))
            self._fail(error)
            return
        self._flush()
        self._tcp.read((self._open and len(self._decoder.get_buffer()) > 0) or not self._shaken.done())

    def _read_frames(self) -> None:
        while True:
            view = self._decoder.get_buffer()
            if len(view):
                count = self._tls.read_into(view)
                if count is None:
                    return
                if count == 0:
                    raise ChannelParted(f"{self.peer} closed the channel")
                self._decoder.advance(count)
                if self._decoder.stage is Stage.PAYLOAD:
                    self._progress_s = self._heard_s
            header = self._decoder.header
            if self._decoder.stage is Stage.OFFERED and header is not None:
                check_abort(header, self.peer)
                if is_ping(header):
                    self._decoder.restart()
                    continue
                if self._expect is None or self._delivery is None or self._delivery.done():
                    return  # nobody receives, or not any more: a receiver that was cancelled has yet to end
                self._offer(header)
            if self._decoder.stage is Stage.COMPLETE and header is not None:
                self.received_bytes += self._decoder.frame_bytes
                self._decoder.restart()
                if self._delivery is not None and not self._delivery.done():
                    self._delivery.set_result(header)

    def _offer(self, header: Header) -> None:
        """Let the receiver look at the header; what it raises is raised where it waits."""
        assert self._expect is not None and self._delivery is not None
        expect, self._expect = self._expect, None
        try:
            self._decoder.accept(expect(header))
        except Exception as error:
            self._delivery.set_exception(error)

    def _look_at_progress(self) -> None:
        if self._delivery is None or self._delivery.done():
            return
        if self._patient and self._decoder.stage is not Stage.PAYLOAD:
            self._progress_s = self._loop.time()  # signs of life are looked at elsewhere
        idle_s = self._loop.time() - self._progress_s
        if idle_s < self.timeout_s:
            self._timer = self._loop.call_later(self.timeout_s - idle_s, self._look_at_progress)
        else:
            what = "the rest of a frame" if self._decoder.stage is Stage.PAYLOAD else "a frame"
            error = ChannelTimeout(f"waited {self.timeout_s:g} s for {self.peer} to send {what}")
            self._tell(f"waited {self.timeout_s:g} s for {what}")
            self._fail(error)

    def _on_beat(self) -> None:
        """A sign of life if nothing is on its way anyway; and look at the peer's, if we read at all."""
        if self._ending:
            return
        self._beat = self._loop.call_later(PING_S, self._on_beat)
        if not self._mid_frame and self._tcp.idle:
            self._tls.write(memoryview(encode(ping_header())))
            self._flush()
        if len(self._decoder.get_buffer()) == 0:
            self._heard_s = self._loop.time()  # we do not read now: the kernel holds what the peer sends
        silent_s = self._loop.time() - self._heard_s
        if silent_s > max(min(self.timeout_s, SILENT_S), 3 * PING_S):
            self._fail(ChannelTimeout(f"{self.peer} gave no sign of life for {silent_s:.1f} s"))

    # --- writing ----------------------------------------------------------------------------------------------

    async def _write(self, head: bytes, payload: tuple[memoryview, ...], timeout_s: float | None) -> None:
        if len(head) + sum(piece.nbytes for piece in payload) <= SMALL:
            head, payload = b"".join((head, *payload)), ()
        self._tls.write(memoryview(head))
        for piece in payload:
            flat = piece.cast("B") if piece.nbytes else memoryview(b"")
            for start in range(0, len(flat), SLICE):
                self._tls.write(flat[start : start + SLICE])
                if self._tls.pending >= SLICE:
                    await self._drain(timeout_s)
        await self._drain(timeout_s)

    async def _drain(self, timeout_s: float | None) -> None:
        self._flush()
        try:
            await self._tcp.drained(timeout_s)
        except TimeoutError:
            raise ChannelTimeout(f"waited {timeout_s:g} s for {self.peer} to take our frames") from None
        self._check_open()

    def _flush(self) -> None:
        self._tcp.write(self._tls.outgoing())

    def _tell(self, reason: str, **advice: int) -> None:
        """Give the peer our public reason, unless it would land in the midst of a frame."""
        if self._open and not self._mid_frame and not self._ending:
            try:
                self._tls.write(memoryview(encode(abort_header(reason, **advice))))
            except ChannelClosed:
                return  # it cannot be reached any more

    def pause_writing(self) -> None:
        """asyncio: over the high-water mark."""
        self._tcp.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: below it again."""
        self._tcp.resume_writing()

    # --- beginning and end ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: TCP is connected."""
        self._tcp.connected(cast(asyncio.Transport, transport))
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: TCP has ended. Whole frames that did arrive can still be received."""
        self._tcp.disconnected()
        self._staging = memoryview(b"")  # at once: who still holds us, if only in a traceback, may do so for long
        self._eof = True
        self._tls.feed_eof()
        self._pump()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._tcp.lost.is_set():
            raise ChannelClosed(f"{self.peer}: the connection ended without a goodbye; did the peer die?")

    def _fail(self, error: MpcError) -> None:
        """From now on every call raises `error`; begin the orderly end."""
        self._failure = self._failure or error
        if not self._shaken.done():
            self._shaken.set_exception(error)
            self._shaken.exception()  # seen, even if nobody waits for the handshake
        if self._delivery is not None and not self._delivery.done():
            self._delivery.set_exception(self._failure)
        self._tcp.resume_writing()
        self._end()

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._gone.set()
        if self._beat is not None:
            self._beat.cancel()
        self._tls.end()
        self._flush()
        self._tcp.end(peer_ended=self._eof)
