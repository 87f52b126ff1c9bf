"""Where the corrections of one bundle lie until they are used: in memory, or on a sealed tape on disk.

Payloads are taken in the order in which they were put, each once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mpcnet.aio.threads import in_thread
from mpcnet.arrays.ring import Bytes
from mpcnet.runtime.sealed_tape import SealedTape, SealedTapes, TapeReader, TapeWriter
from mpcnet.runtime.stream import HEAVY_BYTES


class CorrectionStore(Protocol):
    """Its memory is counted by whoever owns it."""

    @property
    def nbytes(self) -> int:
        """Held in memory now."""

    @property
    def readable(self) -> bool:
        """The next payload can be taken."""

    async def put(self, payload: Bytes) -> None:
        """Add a payload, which must not change any more.

        :raises LocalStorageError: the disk is full or failed; the store is of no further use.
        """

    async def finish(self) -> None:
        """The last payload was put.

        :raises LocalStorageError: the disk is full or failed; the store is of no further use.
        """

    async def check(self) -> None:
        """Between `finish` and the first `take`: every payload can be taken, as far as can be known.

        :raises LocalStorageError: the disk failed, or somebody changed the file; the store is of no further use.
        """

    async def take(self) -> Bytes:
        """The next payload. After an error, or when cancelled, the store is of no further use.

        :raises LocalStorageError: the disk failed, or somebody changed the file.
        """

    def discard(self) -> None:
        """Release memory and disk. Not while `put` or `finish` runs. Idempotent."""


@dataclass(slots=True, repr=False)
class MemoryStore:
    """Payloads in memory."""

    nbytes: int = 0
    _payloads: deque[Bytes] = field(default_factory=deque)

    @property
    def readable(self) -> bool:
        """See :class:`CorrectionStore`."""
        return bool(self._payloads)

    async def put(self, payload: Bytes) -> None:
        """See :class:`CorrectionStore`."""
        self._payloads.append(payload)
        self.nbytes += payload.nbytes

    async def finish(self) -> None:
        """See :class:`CorrectionStore`."""

    async def check(self) -> None:
        """See :class:`CorrectionStore`."""

    async def take(self) -> Bytes:
        """See :class:`CorrectionStore`."""
        payload = self._payloads.popleft()
        self.nbytes -= payload.nbytes
        return payload

    def discard(self) -> None:
        """See :class:`CorrectionStore`."""
        self._payloads.clear()
        self.nbytes = 0


class TapeStore:
    """Payloads on a tape, which can be read when it is finished, and is burned when the first one is taken."""

    def __init__(self, tapes: SealedTapes, name: str, lengths: Sequence[int]) -> None:
        """`lengths` are those of the payloads that will come, in order, in bytes."""
        self.readable = False
        self._tapes, self._name = tapes, name
        self._lengths = deque(lengths)  # of those that were not taken
        self._writer: TapeWriter | None = None
        self._tape: SealedTape | None = None
        self._reader: TapeReader | None = None
        self._ahead: asyncio.Future[Bytes] | None = None

    @property
    def nbytes(self) -> int:
        """See :class:`CorrectionStore`: the record that is read ahead."""
        return 0 if self._ahead is None else self._lengths[0]

    async def put(self, payload: Bytes) -> None:
        """See :class:`CorrectionStore`."""
        if self._writer is None:
            self._writer = await in_thread(self._tapes.write, self._name)
        await in_thread(self._writer.append, payload.data)

    async def finish(self) -> None:
        """See :class:`CorrectionStore`."""
        if self._writer is not None:
            self._tape = await in_thread(self._writer.finish)
        self.readable = True

    async def check(self) -> None:
        """See :class:`CorrectionStore`. It is burned, and read twice: most of it comes from the system's cache then."""
        reader = await self._burn()
        await in_thread(reader.check)
        self._read_ahead(reader)

    async def _burn(self) -> TapeReader:
        assert self._tape is not None
        self._reader = await in_thread(self._tape.burn)
        return self._reader

    async def take(self) -> Bytes:
        """See :class:`CorrectionStore`."""
        if self._reader is None:
            self._read_ahead(await self._burn())
        assert self._reader is not None
        record = self._reader.next() if self._ahead is None else await self._ahead
        self._ahead = None
        self._lengths.popleft()
        if self._lengths:
            self._read_ahead(self._reader)
        else:
            self._reader.close()
        return record

    def discard(self) -> None:
        """See :class:`CorrectionStore`."""
        if self._writer is not None:
            self._writer.discard()
        if self._tape is not None:
            self._tape.discard()
        if self._reader is not None:
            if self._ahead is None:
                self._reader.close()
            else:
                self._ahead.add_done_callback(self._close)
                self._ahead = None

    def _read_ahead(self, reader: TapeReader) -> None:
        """A large record is read in a thread, beside the work on the one before it; a small one when it is wanted."""
        if self._lengths[0] > HEAVY_BYTES:
            self._ahead = asyncio.get_running_loop().run_in_executor(None, reader.next)

    def _close(self, read: asyncio.Future[Bytes]) -> None:
        if not read.cancelled():
            read.exception()  # seen: nobody waits for this record any more
        if self._reader is not None:
            self._reader.close()
