"""A party with a proper certificate and handshake that misbehaves once, in the midst of a run."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from launch.node import Node
from mpcnet.channel import Expect
from mpcnet.errors import ChannelClosed, MpcError
from mpcnet.mesh import Peer
from mpcnet.rounds import Part
from mpcnet.tls import TlsChannel
from mpcnet.wire import PREFIX, Header, encode

Misdeed = Callable[["RogueChannel", Header, bytes], Awaitable[None]]


class RogueChannel:
    """A channel that does `misdeed` in place of its frame number `when` of a kind, and is honest before and after."""

    def __init__(self, inner: TlsChannel, kind: str, when: int, misdeed: Misdeed) -> None:
        self.inner, self.kind, self.when, self.misdeed = inner, kind, when, misdeed
        self.count = 0
        self.did = asyncio.Event()

    @property
    def peer(self) -> str:
        return self.inner.peer

    @property
    def sent_bytes(self) -> int:
        return self.inner.sent_bytes

    @property
    def received_bytes(self) -> int:
        return self.inner.received_bytes

    async def send(self, header: Header, *payload: memoryview) -> None:
        self.count += header.kind == self.kind and header.stream > 0
        if self.count == self.when and not self.did.is_set():
            self.did.set()
            await self.misdeed(self, header, b"".join(payload))
        else:
            await self.inner.send(header, *payload)

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        return await self.inner.receive(expect, patient=patient)

    async def gone(self) -> MpcError:
        return await self.inner.gone()

    async def close(self) -> None:
        await self.inner.close()

    def abort(self, reason: str) -> None:
        self.inner.abort(reason)

    def write(self, data: bytes) -> None:
        """Any bytes at all, inside TLS."""
        self.inner._tls.write(memoryview(data))
        self.inner._flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class RogueNode(Node):
    """A node whose channel to `victim` is a rogue one."""

    victim: str
    frames: str
    misdeed: Misdeed
    when: int = 4
    made: list[RogueChannel] = field(default_factory=list)

    def _shaped(self, peer: Peer) -> Peer:
        shaped = Node._shaped(self, peer)
        if peer.name != self.victim:
            return shaped
        self.made.append(RogueChannel(peer.channel, self.frames, self.when, self.misdeed))
        return replace(shaped, channel=self.made[-1])


async def garbage(channel: RogueChannel, header: Header, payload: bytes) -> None:
    channel.write(b"\r\nthis is no frame, and it never was one\r\n" * 4)


async def cut(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """All but the last byte, and an end in good order."""
    channel.write((encode(header) + payload)[:-1])
    channel.inner._fail(ChannelClosed(f"{channel.peer}: cut by the test"))


async def stall(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """All but the last byte, and nothing more."""
    channel.write((encode(header) + payload)[:-1])
    await channel.inner._tcp.lost.wait()


async def silence(channel: RogueChannel, header: Header, payload: bytes) -> None:
    await channel.inner._tcp.lost.wait()


async def long_header(channel: RogueChannel, header: Header, payload: bytes) -> None:
    channel.write(PREFIX.pack(b"MPCN", 1, 0, 2**31, 0))


async def long_payload(channel: RogueChannel, header: Header, payload: bytes) -> None:
    channel.write(PREFIX.pack(b"MPCN", 1, 0, 64, 2**60))


async def twice(channel: RogueChannel, header: Header, payload: bytes) -> None:
    for _ in range(2):
        await channel.inner.send(header, memoryview(payload))


async def lost(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """Nothing now; the next frame comes in this one's place."""


def forge(**changes: object) -> Misdeed:
    """The right frame, but for these fields of its header."""

    async def misdeed(channel: RogueChannel, header: Header, payload: bytes) -> None:
        made = {name: value(getattr(header, name)) if callable(value) else value for name, value in changes.items()}
        await channel.inner.send(replace(header, **made), memoryview(payload))

    return misdeed


async def too_large(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """A well-formed frame of a terabyte: nobody may allocate for it."""
    channel.write(encode(replace(header, parts=(Part(64, (1 << 37,)),))) + payload)


async def flattened(channel: RogueChannel, header: Header, payload: bytes) -> None:
    parts = tuple(Part(part.bits, (*part.shape, 1)) for part in header.parts)
    await channel.inner.send(replace(header, parts=parts), memoryview(payload))
