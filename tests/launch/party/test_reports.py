"""A server's public report as a client reads it: whatever it is, no more goes wrong than that request."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from mpcnet.arrays import ring
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import client, frames
from mpcnet.launch.party.control_frames import RESULT
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.handshake import Peer


async def read(text: bytes) -> client._Result:
    server, end = memory_pair("server0", "client")
    peers = [Peer(channel, role, bytes(16), (b"", b"")) for channel, role in ((server, "server0"), (end, "client"))]
    values = ring.pack(ring.zeros((1, 4), 32), 32)
    arrays = [(Part(32, (1, 4)), values), (Part(8, (len(text),)), np.frombuffer(text, np.uint8))]
    _, found = await asyncio.gather(
        frames.send(peers[0], RESULT, arrays), client._result(peers[1], _node(), Size(1, 4)), return_exceptions=False
    )
    return found


def _node() -> client.Node:
    from tests.cluster import model
    from tests.cluster.world import World, base

    return replace(World(0, base()).node("client"), config=model.config())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "want a report of names and values, got list"),
        (b"7", "want a report of names and values, got int"),
    ],
)
async def test_no_report(text: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        await read(text)


@pytest.mark.parametrize("seconds", [b'"x"', b"[1]", b"1" + b"0" * 400, b"1e999", b"null"])
async def test_seconds_that_nobody_believes(seconds: bytes) -> None:
    assert client._seconds((await read(b'{"seconds_queued": ' + seconds + b"}")).report, "seconds_queued") == 0.0
