"""A party with a proper certificate and handshake that misbehaves once, in the midst of a session."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from around import Around
from parties import OpenNode

from mpcnet.errors import ChannelClosed
from mpcnet.rounds import Part
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer
from mpcnet.transport.tls import TlsChannel
from mpcnet.transport.wire import PREFIX, Header, encode

Misdeed = Callable[["RogueChannel", Header, bytes], Awaitable[None]]
Which = Callable[[Header], bool]


def of_run(kind: str) -> Which:
    """Frames of this kind, in a run for a client."""
    return lambda header: header.kind == kind and header.stream > 0


def of_load(kind: str) -> Which:
    """Likewise while the weights are opened."""
    return lambda header: header.kind == kind and header.stream == 0


def of_stream(kind: str, number: int) -> Which:
    """Likewise in one stream."""
    return lambda header: header.kind == kind and header.stream == number


def named(name: str) -> Which:
    """Control frames of this name."""
    return lambda header: header.kind == "control" and header.label == name


class RogueChannel(Around):
    """Does `misdeed` in place of its frame number `when` of some, and is honest before and after."""

    def __init__(self, inner: Channel, node: "RogueNode") -> None:
        super().__init__(inner)
        self.node, self.count = node, 0

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        self.count += self.node.which(header)
        if self.count == self.node.when and not self.node.did.is_set():
            self.node.did.set()
            await self.node.misdeed(self, header, b"".join(payload))
        else:
            await self.inner.send(header, *payload, patient=patient)

    def write(self, data: bytes) -> None:
        """Any bytes at all, inside TLS."""
        self.inner._tls.write(memoryview(data))
        self.inner._flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class RogueNode(OpenNode):
    """A node that does `misdeed` to `victim`, once in its life."""

    victim: str
    which: Which
    misdeed: Misdeed
    when: int = 4
    did: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def greet(self, channel: TlsChannel) -> Peer:
        peer = await OpenNode.greet(self, channel)
        return replace(peer, channel=RogueChannel(peer.channel, self)) if peer.name == self.victim else peer


async def held(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """The right frame, but only when the test says so."""
    await channel.node.released.wait()
    await channel.inner.send(header, memoryview(payload))


async def garbage(channel: RogueChannel, header: Header, payload: bytes) -> None:
    channel.write(b"\r\nthis is no frame, and it never was one\r\n" * 4)


async def cut(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """All but the last byte, and an end in good order."""
    channel.write((encode(header) + payload)[:-1])
    channel.inner._fail(ChannelClosed(f"{channel.peer}: cut by the test"))


async def stall(channel: RogueChannel, header: Header, payload: bytes) -> None:
    """All but the last byte, and nothing more, no sign of life either."""
    channel.inner._beat.cancel()
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
