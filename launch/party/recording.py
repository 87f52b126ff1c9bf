"""What a server keeps of its runs, and passes on to its replica: records, of which the oldest give way.

A file and a replica get the same: what is public of a run, two seeds, and entries of what was received. From these
:mod:`mpcnet.launch.party.again` computes the run once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from mpcnet.aio.threads import in_thread
from mpcnet.arrays.ring import Bytes
from mpcnet.launch.party.forward import Forward
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.request import Request
from mpcnet.models.private import program
from mpcnet.models.private.program import Size
from mpcnet.runtime.record import FACTS, INPUT, SUFFIX, Frames, RecordWriter, folder_key
from mpcnet.transport.handshake import Peer, Seed

FORMAT = 2
LOAD = 0  # the number of the record of loading


def path(folder: Path, session: bytes, number: int) -> Path:
    """Of the run, or the loading, that begins with this stream."""
    return folder / f"{session.hex()}-{number}{SUFFIX}"


class Unrecorded:
    """What a server keeps of a run if nobody wants it: nothing."""

    frames: Frames | None = None

    async def upload(self, index: int, pieces: Sequence[Bytes]) -> None:
        """What the owner, or client number `index` of the run, has given us."""

    async def end(self) -> bytes:
        """It is whole; returns a digest of the contents of all frames, b"" if they are not looked at."""
        return b""


@dataclass(frozen=True, slots=True)
class Recording:
    """The records of one session. `masks` is the seed in common with the dealer, `refresh` with the other server.

    `forward` goes to our replica, if we have one; `witness` says that the other server has one, which we tell digests.
    """

    node: Node
    dealer: Peer
    other: Peer
    masks: Seed
    refresh: Seed
    forward: Forward | None = None
    witness: bool = False

    @property
    def folder(self) -> Path:
        return self.node.settings.folder / self.node.settings.record

    async def begin(self, number: int, sizes: Sequence[Size], requests: Sequence[Request]) -> Unrecorded:
        """Of a run, or of loading if there are no sizes; of nothing if nobody wants it.

        :raises LocalConfigError: the folder cannot be used.
        """
        if not (self.node.settings.record or self.forward or self.witness):
            return Unrecorded()
        facts = {
            "format": FORMAT, "role": self.node.role, "program": program.digest(self.node.config), "number": number,
            "sizes": [[size.batch, size.length, *size.kind] for size in sizes],
            "requests": [[request.size.batch, request.size.length] for request in requests],
            "ids": [request.name for request in requests],
            "dealer": self.dealer.session, "other": self.other.session,
            "masks": self.masks.reveal(), "refresh": self.refresh.reveal(),
        }  # fmt: skip
        writer = await in_thread(self._writer, number, facts) if self.node.settings.record else None
        if self.forward is not None:
            await self.forward.begin(facts)
        return Record(self, writer, max(1, len(sizes)))

    def _writer(self, number: int, facts: dict[str, Any]) -> RecordWriter:
        writer = RecordWriter(path(self.folder, self.other.session, number), folder_key(self.folder))
        writer.add(FACTS, 0, 0, msgpack.packb(facts))
        return writer

    def kept(self, writer: RecordWriter) -> None:
        """One more. The oldest others give way if there are too many; this session's loading stays."""
        if writer.failed:
            self.node.say(f"record {writer.path.name}: not kept: {writer.failed}", "warning")
        stays = (path(self.folder, self.other.session, LOAD), writer.path)
        found = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
        total = sum(file.stat().st_size for file in found)
        for file in found:
            if total > self.node.settings.record_mib << 20 and file not in stays:
                total -= file.stat().st_size
                file.unlink()


class Record(Unrecorded):
    """One that is kept, or passed on."""

    def __init__(self, recording: Recording, writer: RecordWriter | None, streams: int) -> None:
        self._recording, self._writer = recording, writer
        forward = recording.forward
        self._tell = None if forward is None else forward.tell
        self.frames: Frames = Frames(recording.node.party, streams, writer, self._tell)

    async def upload(self, index: int, pieces: Sequence[Bytes]) -> None:
        """See :class:`Unrecorded`."""
        for place, piece in enumerate(pieces):
            if self._writer is not None:
                await in_thread(self._writer.add, INPUT, index, place, piece)
            if self._tell is not None:
                await self._tell(INPUT, index, place, [piece])

    async def end(self) -> bytes:
        """See :class:`Unrecorded`."""
        if self._writer is not None:
            await in_thread(self._writer.finish)
            await in_thread(self._recording.kept, self._writer)
        return self.frames.digest
