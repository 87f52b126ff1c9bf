"""What a server keeps of its runs, if its settings name a folder: records, of which the oldest give way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.launch.party.node import Node
from mpcnet.models.private import program
from mpcnet.models.private.program import Size
from mpcnet.protocols.share import Shared
from mpcnet.runtime.record import FACTS, INPUT, SUFFIX, Frames, RecordWriter, folder_key
from mpcnet.transport.handshake import Peer, Seed

FORMAT = 1
MASK = 1 << 16  # the place of a stream's padding mask among its inputs
LOAD = 0  # the number of the record of loading


def path(folder: Path, session: bytes, number: int) -> Path:
    """Of the run, or the loading, that begins with this stream."""
    return folder / f"{session.hex()}-{number}{SUFFIX}"


class Unrecorded:
    """What a server keeps of a run if it keeps no records: nothing."""

    frames: Frames | None = None

    def weights(self, shares: Iterable[tuple[str, Shared]]) -> Iterable[tuple[str, Shared]]:
        """The same, noted as they are used."""
        return shares

    def tokens(self, streams: Sequence[Sequence[Shared]], keeps: Sequence[Tensor]) -> None:
        """A run's inputs, by stream."""

    def end(self) -> bytes:
        """It is whole; returns a digest of the contents of all frames, b"" if they are not looked at."""
        return b""


@dataclass(frozen=True, slots=True)
class Recording:
    """The records of one session. `masks` is the seed in common with the dealer, `refresh` with the other server."""

    node: Node
    dealer: Peer
    other: Peer
    masks: Seed
    refresh: Seed

    @property
    def folder(self) -> Path:
        return self.node.settings.folder / self.node.settings.record

    def begin(self, number: int, sizes: Sequence[Size]) -> Unrecorded:
        """A record of a run, or of loading if there are no sizes; none if the settings name no folder.

        :raises LocalConfigError: the folder cannot be used.
        """
        if not self.node.settings.record:
            return Unrecorded()
        writer = RecordWriter(path(self.folder, self.other.session, number), folder_key(self.folder))
        facts = {
            "format": FORMAT, "role": self.node.role, "program": program.digest(self.node.config), "number": number,
            "sizes": [[size.batch, size.length, *size.kind] for size in sizes],
            "dealer": self.dealer.session, "other": self.other.session,
            "masks": self.masks.reveal(), "refresh": self.refresh.reveal(),
        }  # fmt: skip
        writer.add(FACTS, 0, 0, msgpack.packb(facts))
        return Record(self, writer, max(1, len(sizes)))

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
    """One that is kept. Calls block."""

    def __init__(self, recording: Recording, writer: RecordWriter, streams: int) -> None:
        self._recording, self._writer = recording, writer
        self.frames = Frames(recording.node.party, streams, writer)

    def weights(self, shares: Iterable[tuple[str, Shared]]) -> Iterator[tuple[str, Shared]]:
        """See :class:`Unrecorded`."""
        for index, (name, share) in enumerate(shares):
            self._writer.add(INPUT, 0, index, ring.pack(share.value, share.bits))
            yield name, share

    def tokens(self, streams: Sequence[Sequence[Shared]], keeps: Sequence[Tensor]) -> None:
        """See :class:`Unrecorded`."""
        for index, (arrays, keep) in enumerate(zip(streams, keeps, strict=True)):
            for place, share in enumerate(arrays):
                self._writer.add(INPUT, index, place, ring.pack(share.value, share.bits))
            self._writer.add(INPUT, index, MASK, keep.to(torch.uint8).numpy().reshape(-1))

    def end(self) -> bytes:
        """See :class:`Unrecorded`."""
        self._writer.finish()
        self._recording.kept(self._writer)
        assert self.frames is not None
        return self.frames.digest
