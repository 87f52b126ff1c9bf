"""A channel carries frames to one peer; `MemoryChannel` is the one without a network.

Both directions of a channel are bounded: a sender waits when the peer does not read. Two parties that both
send before they receive must therefore do the two at once (`asyncio.gather`), as an exchange does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from mpcnet.errors import (
    ChannelClosed,
    ChannelParted,
    ChannelTimeout,
    LocalInputError,
    LocalStateError,
    MpcError,
    RemoteAbort,
    RemoteProtocolError,
    describe,
    one_line,
)
from mpcnet.transport.wire import FrameDecoder, Header, Stage, Value, encode

CONTROL = "control"
ABORT = "abort"
PING = "ping"
NO_SESSION = bytes(16)
HIGH_WATER = 1 << 20  # bytes queued before a sender waits: one slice of a large payload

Expect: TypeAlias = Callable[[Header], memoryview]


class Channel(Protocol):
    """An ordered, authenticated stream of frames to and from one peer."""

    @property
    def peer(self) -> str:
        """Role of the peer, from its certificate."""

    @property
    def pins(self) -> tuple[str, ...]:
        """The fingerprints of the certificate that the peer showed, and of its key; none without a network."""

    @property
    def sent_bytes(self) -> int:
        """Frames handed to the wire: prefix, header, payload; without what TLS and TCP add."""

    @property
    def received_bytes(self) -> int:
        """Frames delivered by `receive`, likewise."""

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        """Send one frame; the buffers may be reused when this returns. A `patient` sender waits for as long as the peer
        shows signs of life; others wait for the channel's timeout only.

        :raises ChannelClosed: the connection ended.
        :raises ChannelTimeout: the peer took nothing, or gave no sign of life, for the channel's timeout.
        :raises RemoteAbort: the peer gave up.
        """

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        """Receive one frame. `expect` sees the header before any payload memory exists, may raise, and returns
        the memory; the payload is read straight into it. A `patient` receiver waits for as long as the peer shows
        signs of life; others wait for a frame for the channel's timeout only.

        :raises ChannelClosed: the connection ended.
        :raises ChannelTimeout: no frame came, or no sign of life, for the channel's timeout.
        :raises RemoteAbort: the peer gave up.
        :raises RemoteProtocolError: the bytes are not a frame, or `expect` refused it.
        """

    async def gone(self) -> MpcError:
        """Wait until the channel has ended, whoever ended it; returns why. Needs no receiver."""

    async def close(self) -> None:
        """Orderly end: returns after the last frame has left."""

    def abort(self, reason: str, **advice: int) -> None:
        """Immediate end; the peer is told `reason`, a public line, if it can still be reached.

        `advice` is for its program: `final`, `largest` and `lost`, as in :class:`mpcnet.errors.RemoteAbort`.
        """


def abort_header(reason: str, **advice: int) -> Header:
    """The last frame of a party that gives up."""
    return Header(CONTROL, NO_SESSION, label=ABORT, fields={"reason": one_line(reason, 300), **advice})


def ping_header() -> Header:
    """A sign of life between frames; the channel's own, never delivered and never counted."""
    return Header(CONTROL, NO_SESSION, label=PING)


def is_ping(header: Header) -> bool:
    """True for a sign of life."""
    return header.kind == CONTROL and header.label == PING and not header.parts


def check_abort(header: Header, peer: str) -> None:
    """:raises RemoteAbort: `header` is the peer's last frame."""
    if header.kind == CONTROL and header.label == ABORT:
        reason, largest = header.fields.get("reason"), header.fields.get("largest")
        raise RemoteAbort(
            peer,
            reason if isinstance(reason, str) and reason else "no reason given",
            final=header.fields.get("final") is True,
            largest=largest if type(largest) is int and largest >= 0 else None,
            lost=header.fields.get("lost") is True,
        )


def check_payload(header: Header, payload: tuple[memoryview, ...]) -> None:
    """:raises LocalInputError: the payload is not as long as the header says."""
    given = sum(piece.nbytes for piece in payload)
    if given != header.payload_bytes:
        raise LocalInputError(describe(f"payload of {header.label!r}", f"{header.payload_bytes} bytes", given))


async def send_control(channel: Channel, session: bytes, name: str, **fields: Value) -> None:
    """Send a frame without payload: a name and some public fields."""
    await channel.send(Header(CONTROL, session, label=name, fields=fields))


async def receive_control(
    channel: Channel, name: str, session: bytes = NO_SESSION, *, fields: Collection[str] | None = None,
    patient: bool = False,
) -> Header:  # fmt: skip
    """Receive the control frame `name`, which must have no payload, and just these `fields` if they are given.

    :raises RemoteProtocolError: another frame came.
    """

    def expect(header: Header) -> memoryview:
        check_control(header, name, session, channel.peer)
        if header.parts:
            raise RemoteProtocolError(f"{channel.peer}: control frame {name!r} has a payload")
        if fields is not None and header.fields.keys() != set(fields):
            raise RemoteProtocolError(describe(f"{channel.peer}, {name}", f"fields {sorted(fields)}", "others"))
        return memoryview(b"")

    return await channel.receive(expect, patient=patient)


def check_control(header: Header, name: str, session: bytes, peer: str) -> None:
    """:raises RemoteProtocolError: `header` is not the control frame `name` of this session."""
    if header.kind != CONTROL or header.label != name:
        got = f"{header.kind} frame {header.label[:80]!r}"
        raise RemoteProtocolError(describe(f"{peer}, next frame", f"control frame {name!r}", got))
    if header.session != session:
        raise RemoteProtocolError(f"{peer}: control frame {name!r} belongs to another session")
    if (header.stream, header.sequence, header.chain) != (0, 0, bytes(len(header.chain))):
        raise RemoteProtocolError(f"{peer}: control frame {name!r} belongs to no stream, got a place in one")


@dataclass(eq=False, slots=True)
class _Pipe:
    """One direction: whole frames in a queue."""

    frames: deque[tuple[bytes, bytes]] = field(default_factory=deque)
    queued_bytes: int = 0
    ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, head: bytes, payload: bytes) -> None:
        self.frames.append((head, payload))
        self.queued_bytes += len(head) + len(payload)
        self.changed.set()

    def take(self) -> tuple[bytes, bytes]:
        head, payload = self.frames.popleft()
        self.queued_bytes -= len(head) + len(payload)
        self.changed.set()
        return head, payload

    def end(self) -> None:
        self.ended = True
        self.changed.set()

    async def until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self.changed.clear()  # all who wait are woken by the next `set`, then look again
            await self.changed.wait()


class MemoryChannel:
    """One end of a `memory_pair`. Frames are encoded and decoded as on a wire, and counted the same."""

    def __init__(self, peer: str, out: _Pipe, into: _Pipe, timeout_s: float | None, high_water: int) -> None:
        self.peer = peer
        self.pins: tuple[str, ...] = ()
        self.sent_bytes = 0
        self.received_bytes = 0
        self._out, self._into = out, into
        self._timeout_s, self._high_water = timeout_s, high_water
        self._failure: MpcError | None = None
        self._receiving = False

    def __repr__(self) -> str:
        return f"MemoryChannel(peer={self.peer!r})"

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        """See :class:`Channel`."""
        head = encode(header)
        check_payload(header, payload)
        if self._failure is not None or self._out.ended:
            raise self._closed()
        body = b"".join(payload)
        self._out.put(head, body)
        self.sent_bytes += len(head) + len(body)
        await self._wait(self._out, lambda: self._out.queued_bytes <= self._high_water, "take our frames", patient)

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        """See :class:`Channel`."""
        if self._receiving:
            raise LocalStateError(f"two receivers on the channel to {self.peer}")
        self._receiving = True
        try:
            await self._wait(self._into, lambda: bool(self._into.frames), "send a frame", patient)
            return self._deliver(expect)
        finally:
            self._receiving = False

    def _deliver(self, expect: Expect) -> Header:
        decoder, header, payload = self._first()
        decoder.accept(expect(header))
        if payload:
            decoder.get_buffer()[:] = payload
        self._into.take()
        self.received_bytes += decoder.frame_bytes
        return header

    def _first(self) -> tuple[FrameDecoder, Header, bytes]:
        """The first frame that waits, with its header decoded.

        :raises RemoteAbort: it is the peer's last; nothing more is received.
        """
        decoder = FrameDecoder(self.peer)
        head, payload = self._into.frames[0]
        while decoder.stage in (Stage.PREFIX, Stage.HEADER):
            buffer = decoder.get_buffer()
            buffer[:] = head[: len(buffer)]
            head = head[len(buffer) :]
            decoder.advance(len(buffer))
        header = decoder.header
        assert header is not None
        try:
            check_abort(header, self.peer)
        except RemoteAbort as error:
            self._failure = error
            raise
        return decoder, header, payload

    async def gone(self) -> MpcError:
        """See :class:`Channel`. As on a socket, an end comes after the frames before it; an abort needs no receiver."""
        await self._into.until(self._over)
        return self._closed()

    def _over(self) -> bool:
        if self._failure is None and self._into.frames:
            with suppress(RemoteAbort):
                self._first()
        return self._failure is not None or (self._into.ended and not self._into.frames)

    async def close(self) -> None:
        """See :class:`Channel`. The queue keeps what the peer has yet to read."""
        self._end("closed here")

    def abort(self, reason: str, **advice: int) -> None:
        """See :class:`Channel`."""
        if self._failure is None:
            self._out.put(encode(abort_header(reason, **advice)), b"")
        self._end(f"aborted here: {reason}")

    def _end(self, why: str) -> None:
        self._failure = self._failure or ChannelClosed(f"channel to {self.peer}: {why}")
        self._out.end()
        self._into.end()

    def _closed(self) -> MpcError:
        return self._failure or ChannelParted(f"{self.peer} closed the channel")

    async def _wait(self, pipe: _Pipe, ready: Callable[[], bool], what: str, patient: bool = False) -> None:
        def settled() -> bool:
            return self._failure is not None or pipe.ended or ready()

        try:
            async with asyncio.timeout(None if patient else self._timeout_s):
                await pipe.until(settled)
        except TimeoutError:
            raise ChannelTimeout(f"waited {self._timeout_s:g} s for {self.peer} to {what}") from None
        if self._failure is not None or not ready():
            raise self._closed()


def memory_pair(
    role_a: str, role_b: str, *, timeout_s: float | None = None, high_water: int = HIGH_WATER
) -> tuple[MemoryChannel, MemoryChannel]:
    """The two ends of a channel: the first is held by `role_a` (its peer is `role_b`), the second by `role_b`."""
    there, back = _Pipe(), _Pipe()
    return (
        MemoryChannel(role_b, there, back, timeout_s, high_water),
        MemoryChannel(role_a, back, there, timeout_s, high_water),
    )
