"""What a server passes on to its replica: all that it receives, so that the replica can compute the same."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpcnet.arrays.ring import Bytes
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import BEGIN, ENTRY
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Value

AHEAD_BYTES = 64 << 20  # that have not left; then a run waits for the link to the replica

Frame = tuple[str, list[tuple[Part, Bytes]], dict[str, Value]]


class Forward:
    """To one replica, in order, beside the run. The replica has its server's view: what goes there is secret."""

    def __init__(self, replica: Peer) -> None:
        self._replica = replica
        self._frames: deque[Frame] = deque()
        self._nbytes = 0
        self._changed = asyncio.Event()

    async def begin(self, facts: Mapping[str, Any]) -> None:
        """A run, or the loading; `facts` are those of a record."""
        seeds = [(sharing.SEED, np.frombuffer(facts[name], np.uint8)) for name in ("masks", "refresh")]
        sizes, requests = facts["sizes"], facts["requests"]
        answer, audit, extent = sizes[0][2:] if sizes else (None, False, 0)
        await self._put((BEGIN, seeds, {
            "stream": facts["number"], "dealer": facts["dealer"], "other": facts["other"], "ids": facts["ids"],
            "answer": answer, "audit": audit, "extent": extent, "sizes": [n for size in sizes for n in size[:2]],
            "requests": [n for size in requests for n in size],
        }))  # fmt: skip

    async def tell(self, kind: bytes, index: int, sequence: int, pieces: Sequence[Bytes]) -> None:
        """An entry of a record; returns when there is room for it."""
        arrays = [(Part(8, (piece.nbytes,)), piece) for piece in pieces]
        await self._put((ENTRY, arrays, {"of": kind.decode(), "index": index, "sequence": sequence}))

    async def _put(self, frame: Frame) -> None:
        while self._nbytes > AHEAD_BYTES:
            await self._change()
        self._frames.append(frame)
        self._nbytes += _nbytes(frame)
        self._changed.set()

    async def run(self) -> None:
        """Send until cancelled.

        :raises MpcError: the replica is gone.
        """
        while True:
            while not self._frames:
                await self._change()
            frame = self._frames.popleft()
            name, arrays, fields = frame
            await frames.send(self._replica, name, arrays, **fields)
            self._nbytes -= _nbytes(frame)
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _nbytes(frame: Frame) -> int:
    return sum(raw.nbytes for _, raw in frame[1])
