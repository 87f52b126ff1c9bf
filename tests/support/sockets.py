"""One listener as server0 on the loopback, and those who dial it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from limits import LIMIT_S

from mpcnet.errors import MpcError
from mpcnet.rounds import Part
from mpcnet.transport.tls import Identity, Roster, Server, TlsChannel, dial, listen, parse_address
from mpcnet.transport.wire import Header

SESSION = bytes(range(16))
both_loops = pytest.mark.parametrize("event_loop_policy", ["asyncio", "uvloop"], indirect=True)


class Place:
    """One listener as server0, and what came of it."""

    def __init__(self, deployment: Path) -> None:
        self.folder = deployment
        self.roster = Roster.load(deployment / "server0" / "roster.json")
        self.channels: asyncio.Queue[TlsChannel] = asyncio.Queue()
        self.refused: asyncio.Queue[MpcError] = asyncio.Queue()
        self.server: Server

    def identity(self, role: str) -> Identity:
        return Identity.in_folder(self.folder / role)

    async def start(self, accept=("server1", "client"), **options) -> None:
        self.server = await listen(
            "127.0.0.1:0",
            self.identity("server0"),
            self.roster,
            accept,
            self.channels.put_nowait,
            on_refused=lambda where, error: self.refused.put_nowait(error),
            linger_s=0.2,
            **options,
        )

    async def dial(self, role: str = "server1", **changes) -> TlsChannel:
        options = {
            "identity": self.identity(role),
            "roster": self.roster,
            "expected_role": "server0",
            "timeout_s": LIMIT_S,
            "linger_s": 0.2,
        } | changes
        return await dial(self.server.address, **options)

    async def pair(self, **options) -> tuple[TlsChannel, TlsChannel]:
        dialled = await self.dial(**options)
        return dialled, await self.channels.get()

    async def raw(self, role: str = "server1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A peer with a good certificate that does not keep to the protocol."""
        host, port = parse_address(self.server.address)
        context = self.identity(role).context(server_side=False)
        return await asyncio.open_connection(host, port, ssl=context)


def frame(nbytes: int, sequence: int = 0) -> Header:
    return Header("round", SESSION, 0, sequence, "test", parts=(Part(8, (nbytes,)),))


async def receive_bytes(channel: TlsChannel) -> tuple[Header, bytes]:
    memory = bytearray()

    def expect(header: Header) -> memoryview:
        memory.extend(bytes(header.payload_bytes))
        return memoryview(memory)

    return await channel.receive(expect), bytes(memory)


async def until(ready: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not ready():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def close(*channels: TlsChannel) -> None:
    await asyncio.gather(*(channel.close() for channel in channels))
