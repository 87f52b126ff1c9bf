"""The probe of a link that the processes make themselves: over their own channels, TLS on the loopback, shaped.

Both ends are in one process. That changes nothing that a link of 0.1 ms or 1 Gbit/s would show.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from mpcnet.launch.deployment.certs import create_deployment
from mpcnet.launch.netem.tcp_probe import ECHOES, SMALL, WARM_ECHOES, Flood, flood_for, tcp_settings
from mpcnet.rounds import Part
from mpcnet.transport.channel import Channel
from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.latency import Link, parse_link, shaped
from mpcnet.transport.tls import dial, listen
from mpcnet.transport.wire import Header

ROLES = ("server0", "server1")
TIMEOUT_S = 10.0
LEAST_FRAME, MOST_FRAME = 4096, 1 << 20  # bytes
WARM_FRAMES = 8  # there is no slow start, but memory that is touched for the first time
FRAMES_PER_S = 100  # a frame is 10 ms of the link: its end is what a receiver sees


async def probe(link: Link) -> dict[str, object]:
    """The fields of `tcp_probe.dial`, of channels over `link`."""
    flood = flood_for(link.rtt_s)
    nbytes = int(min(MOST_FRAME, max(LEAST_FRAME, link.bandwidth_bps / 8 / FRAMES_PER_S)))
    with tempfile.TemporaryDirectory(prefix="mpcnet-probe-") as name:
        create_deployment(Path(name), ROLES)
        async with _pair(Path(name), link) as (server0, server1):
            trips = await _echoes(server0, server1)
        async with _pair(Path(name), link) as (server0, server1):
            there = await _goodput(server0, server1, nbytes, flood)
        async with _pair(Path(name), link) as (server0, server1):
            back = await _goodput(server1, server0, nbytes, flood)
    return {"round_trips_s": trips, "goodput_bps": there, "goodput_back_bps": back, **tcp_settings()}


@contextlib.asynccontextmanager
async def _pair(folder: Path, link: Link) -> AsyncIterator[tuple[Channel, Channel]]:
    """The channels of server0 and server1 to each other; what is on its way at the end is dropped."""
    identities = [Identity.in_folder(folder / role) for role in ROLES]
    roster = Roster.load(folder / ROLES[0] / "roster.json")
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
    """Bits per second of payload, from the end of some first frames to the end of the last."""

    async def send() -> None:
        payload = memoryview(bytes(nbytes))
        while True:
            await source.send(_frame(nbytes), payload)

    sender = asyncio.create_task(send())
    buffer = memoryview(bytearray(nbytes))
    for _ in range(WARM_FRAMES):
        await _receive(target, buffer)
    start_s = last_s = time.perf_counter()
    count = 0
    while last_s < start_s + flood.span_s:
        await _receive(target, buffer)
        count, last_s = count + 1, time.perf_counter()
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    return 8 * nbytes * count / (last_s - start_s)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(probe(parse_link(sys.argv[1])))))
