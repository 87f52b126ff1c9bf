"""The probe of a link that the processes make themselves: over their own channels, TLS on the loopback, shaped.

Both ends are in one process. That changes nothing that a link of 0.1 ms or 1 Gbit/s would show.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from launch.certs import create_deployment
from launch.netem.tcp_probe import ECHOES, SMALL, WARM_ECHOES, Flood, flood_for, tcp_settings
from mpcnet.channel import Channel
from mpcnet.identity import Identity, Roster
from mpcnet.latency import Link, shaped
from mpcnet.rounds import Part
from mpcnet.tls import dial, listen
from mpcnet.wire import Header

ROLES = ("server0", "server1")
TIMEOUT_S = 10.0
LEAST_FRAME, MOST_FRAME = 4096, 1 << 20  # bytes
FRAMES_PER_S = 100  # a frame is 10 ms of the link: its end is what a receiver sees


async def probe(link: Link) -> dict[str, object]:
    """The fields of `tcp_probe.dial`, of channels over `link`."""
    flood = flood_for(link.rtt_s)
    nbytes = int(min(MOST_FRAME, max(LEAST_FRAME, link.bandwidth_bps / 8 / FRAMES_PER_S)))
    async with _pair(link) as (server0, server1):
        return {
            "round_trips_s": await _echoes(server0, server1),
            "goodput_bps": await _goodput(server0, server1, nbytes, flood),
            "goodput_back_bps": await _goodput(server1, server0, nbytes, flood),
            **tcp_settings(),
        }


@contextlib.asynccontextmanager
async def _pair(link: Link) -> AsyncIterator[tuple[Channel, Channel]]:
    """The channels of server0 and server1 to each other, with fresh keys."""
    with tempfile.TemporaryDirectory(prefix="mpcnet-probe-") as name:
        create_deployment(Path(name), ROLES)
        identities = [Identity.in_folder(Path(name) / role) for role in ROLES]
        roster = Roster.load(Path(name) / ROLES[0] / "roster.json")
        accepted: asyncio.Queue[Channel] = asyncio.Queue()
        server = await listen("127.0.0.1:0", identities[0], roster, [ROLES[1]], accepted.put_nowait)
        try:
            dialled = await dial(server.address, identities[1], roster, ROLES[0], TIMEOUT_S)
            ends = await accepted.get(), dialled
            yield shaped(ends[0], link), shaped(ends[1], link)
            for end in ends:
                end.abort("the probe is over")
        finally:
            await server.close()


def _frame(nbytes: int) -> Header:
    return Header("round", bytes(16), label="probe", parts=(Part(8, (nbytes,)),))


async def _receive(channel: Channel, buffer: memoryview) -> int:
    """Length of the next frame's payload."""
    return (await channel.receive(lambda header: buffer[: header.payload_bytes])).payload_bytes


async def _echoes(here: Channel, there: Channel) -> list[float]:
    buffer = memoryview(bytearray(SMALL))
    seconds = []
    for _ in range(WARM_ECHOES + ECHOES):
        start_s = time.perf_counter()
        for source, target in ((here, there), (there, here)):
            await source.send(_frame(len(SMALL)), buffer)
            await _receive(target, buffer)
        seconds.append(time.perf_counter() - start_s)
    return seconds[WARM_ECHOES:]


async def _goodput(source: Channel, target: Channel, nbytes: int, flood: Flood) -> float:
    """Bits per second of payload; the first frame starts the clock, as there is no slow start to wait for."""
    count = 0
    ended = False

    async def send() -> None:
        payload = memoryview(bytes(nbytes))
        while not ended:
            await source.send(_frame(nbytes), payload)
        await source.send(_frame(0))

    sender = asyncio.create_task(send())
    buffer = memoryview(bytearray(nbytes))
    await _receive(target, buffer)
    start_s = last_s = time.perf_counter()
    while not ended:
        await _receive(target, buffer)
        count, last_s = count + 1, time.perf_counter()
        ended = last_s - start_s >= flood.span_s
    while await _receive(target, buffer):  # what is still on its way
        pass
    await sender
    return 8 * nbytes * count / (last_s - start_s)
