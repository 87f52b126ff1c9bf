"""Sealed, single-use tapes of dealt correlations on disk.

A tape is a file of records, written once and read once, in order, by the process that wrote it. Each tape has its own
AES-256-GCM key from the operating system's generator, held in memory only, so a restart can never use a correlation
again: its key is gone. On disk there is nothing but sealed bytes, back to back::

    record 0 | tag | record 1 | tag | ... | tag of the end

The nonce is the number of the record, and what is sealed with it names tape, number and length: a record cannot be
changed, swapped, dropped, repeated or moved to another tape. The end is an empty record of its own kind; its length is
that of all records. How many records there are, and how long they are, is remembered, never read from the disk.

All calls block (`asyncio.to_thread`). A cancelled caller's call goes on in its thread, so each tape has a lock.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from threading import Lock

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import (
    AEADDecryptionContext,
    AEADEncryptionContext,
    Cipher,
    algorithms,
    modes,
)

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalInputError, LocalStateError, LocalStorageError, describe
from mpcnet.runtime.tape_folder import TapeFolder, disk_failed

_KEY_BYTES = 32
_TAG_BYTES = 16
_PIECE = 1 << 20  # bytes sealed and written at a time: they stay in the cache, and no copy of a record is made
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SealedTapes:
    """A folder of sealed tapes, for this process only. `leftovers` is the number of dead tapes that were in it."""

    def __init__(self, folder: TapeFolder) -> None:
        self._folder = folder
        self.leftovers = folder.leftovers

    @classmethod
    def open(cls, folder: Path) -> SealedTapes:
        """Make the folder if it is missing, lock it, and remove the tapes of earlier processes: their keys are gone.

        :raises LocalConfigError: another process has it, or it cannot be made, locked or cleared.
        """
        return cls(TapeFolder.open(folder))

    def write(self, name: str) -> TapeWriter:
        """A new tape. Its name is public, and used once.

        :raises LocalInputError: the name is not 1 to 64 letters, digits, `_` and `-`.
        :raises LocalStateError: the name was used before, or the folder is closed.
        :raises LocalStorageError: no file can be made.
        """
        if not _NAME.fullmatch(name):
            raise LocalInputError(describe("tape", "a name of 1 to 64 letters, digits, _ and -", ascii(name)))
        return TapeWriter(self._folder, self._folder.create(name), _Seal(name, secrets.token_bytes(_KEY_BYTES)))

    def close(self) -> None:
        """Remove the tapes that were not burned, and release the folder. Burned tapes can be read on. Idempotent.

        :raises LocalStorageError: a file cannot be removed; the folder is released all the same.
        """
        self._folder.close()


class TapeWriter:
    """A tape being written. After an error it is discarded."""

    def __init__(self, folder: TapeFolder, file: FileIO, seal: _Seal) -> None:
        self._folder, self._file, self._seal = folder, file, seal
        self._lock = Lock()
        self._scratch = memoryview(bytearray(_PIECE))  # sealed bytes only
        self._lengths: list[int] = []

    def append(self, payload: memoryview) -> None:
        """Seal and write one record.

        :raises LocalInputError: the payload is not contiguous; nothing is written.
        :raises LocalStateError: the tape is finished or discarded.
        :raises LocalStorageError: the disk is full or failed; the tape is discarded.
        """
        if not payload.c_contiguous:
            raise LocalInputError(f"tape {self._seal.name}: a record is contiguous memory; copy it before")
        with self._working("append"):
            self._lengths.append(payload.nbytes)  # before its nonce is used: never again, whatever fails
            sealing = self._seal.encryptor(b"record", len(self._lengths) - 1, payload.nbytes)
            data = payload.cast("B") if payload.nbytes else memoryview(b"")
            for start in range(0, len(data), _PIECE):
                count = sealing.update_into(data[start : start + _PIECE], self._scratch)
                self._write(self._scratch[:count])
            self._end(sealing)

    def finish(self) -> SealedTape:
        """Write the end and wait until the disk has everything.

        :raises LocalStateError: the tape is finished or discarded.
        :raises LocalStorageError: the disk is full or failed; the tape is discarded.
        """
        with self._working("finish"):
            self._end(self._seal.encryptor(b"end", len(self._lengths), sum(self._lengths)))
            os.fsync(self._file.fileno())  # a disk may say only now that it is full
            self._file.close()
        return SealedTape(self._folder, self._seal, tuple(self._lengths))

    def discard(self) -> None:
        """Remove the tape, unless it is finished. Idempotent."""
        with self._lock:
            if not self._file.closed:
                self._remove()

    @contextmanager
    def _working(self, call: str) -> Iterator[None]:
        with self._lock:
            if self._file.closed:
                raise LocalStateError(f"tape {self._seal.name}: {call} after finish, discard or an error")
            try:
                yield
            except OSError as error:
                self._remove()
                raise disk_failed(self._seal.name, call, error) from None
            except BaseException:
                self._remove()
                raise

    def _end(self, sealing: AEADEncryptionContext) -> None:
        sealing.finalize()
        self._write(memoryview(sealing.tag))

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]

    def _remove(self) -> None:
        with suppress(OSError):  # the reason is known already, or nobody cares
            self._file.close()
        self._folder.remove(self._seal.name)


class SealedTape:
    """A finished tape: `records` records, `nbytes` bytes on disk."""

    def __init__(self, folder: TapeFolder, seal: _Seal, lengths: Sequence[int]) -> None:
        self._folder, self._seal, self._lengths = folder, seal, lengths
        self.records = len(lengths)
        self.nbytes = sum(lengths) + _TAG_BYTES * (len(lengths) + 1)

    def burn(self) -> TapeReader:
        """Take the tape off the disk for good, then read it. Whatever happens next, it is used.

        :raises LocalStateError: it was burned or discarded before, or the folder is closed.
        :raises LocalStorageError: the disk failed, or the file is not the one that was finished.
        """
        file = self._folder.take(self._seal.name)
        try:
            self._check_end(file)
        except BaseException:
            file.close()
            raise
        return TapeReader(file, self._seal, self._lengths)

    def discard(self) -> None:
        """Remove the tape if it is not burned. Idempotent."""
        self._folder.remove(self._seal.name)

    def _check_end(self, file: FileIO) -> None:
        """Refuse a file that was cut, or whose last blocks never reached the disk, before any record is used."""
        name = self._seal.name
        try:
            size = os.fstat(file.fileno()).st_size
            tag = os.pread(file.fileno(), _TAG_BYTES, self.nbytes - _TAG_BYTES)
        except OSError as error:
            raise disk_failed(name, "read", error) from None
        if size != self.nbytes:
            raise _changed(name, describe("file", f"{self.nbytes} bytes", size))
        try:
            self._seal.decryptor(b"end", self.records, sum(self._lengths)).finalize_with_tag(tag)
        except (InvalidTag, ValueError):  # ValueError: a tag cut short since
            raise _changed(name, "the seal of its end does not fit") from None


class TapeReader:
    """A burned tape. After an error it is closed: records behind a broken one are never used."""

    def __init__(self, file: FileIO, seal: _Seal, lengths: Sequence[int]) -> None:
        self._file, self._seal, self._lengths = file, seal, lengths
        self._lock = Lock()
        self._scratch = memoryview(bytearray(_PIECE))  # sealed bytes only
        self._index = 0

    def next(self) -> Bytes:
        """The next record, in memory of its own.

        :raises LocalStateError: there are no more records, or the tape is closed.
        :raises LocalStorageError: the disk failed, or somebody changed the file; the tape is closed.
        """
        with self._lock:
            if self._file.closed:
                raise LocalStateError(f"tape {self._seal.name}: read after close or an error")
            if self._index == len(self._lengths):
                raise LocalStateError(f"tape {self._seal.name}: read past its {self._index} records")
            try:
                record = self._open(self._index, self._lengths[self._index])
            except BaseException:
                self._file.close()
                raise
            self._index += 1
            return record

    def check(self) -> None:
        """Read all records once and drop them, before the first one is used.

        :raises LocalStorageError: the disk failed, or somebody changed the file; the tape is closed.
        """
        with self._lock:
            try:
                for index, nbytes in enumerate(self._lengths):
                    self._open(index, nbytes)
                self._file.seek(0)
            except BaseException:
                self._file.close()
                raise

    def close(self) -> None:
        """Give the disk space back. Idempotent."""
        with self._lock:
            self._file.close()

    def _open(self, index: int, nbytes: int) -> Bytes:
        opening, record = self._seal.decryptor(b"record", index, nbytes), np.empty(nbytes, np.uint8)
        try:
            for start in range(0, nbytes, _PIECE):
                sealed = self._read(min(_PIECE, nbytes - start))
                opening.update_into(sealed, record.data[start : start + len(sealed)])
            opening.finalize_with_tag(bytes(self._read(_TAG_BYTES)))
        except (InvalidTag, EOFError):
            where = f"record {index} of {len(self._lengths)}"
            raise _changed(self._seal.name, f"{where}: its seal does not fit") from None
        except OSError as error:
            raise disk_failed(self._seal.name, "read", error) from None
        return record

    def _read(self, count: int) -> memoryview:
        """Exactly `count` bytes, in the scratch memory."""
        filled = 0
        while filled < count:
            got = self._file.readinto(self._scratch[filled:count])
            if not got:
                raise EOFError
            filled += got
        return self._scratch[:count]


@dataclass(frozen=True, slots=True)
class _Seal:
    """The key of one tape, and what each of its records is bound to."""

    name: str
    key: bytes = field(repr=False)

    def encryptor(self, kind: bytes, index: int, nbytes: int) -> AEADEncryptionContext:
        context = self._cipher(index).encryptor()
        context.authenticate_additional_data(self._bound(kind, index, nbytes))
        return context

    def decryptor(self, kind: bytes, index: int, nbytes: int) -> AEADDecryptionContext:
        context = self._cipher(index).decryptor()
        context.authenticate_additional_data(self._bound(kind, index, nbytes))
        return context

    def _cipher(self, index: int) -> Cipher[modes.GCM]:
        return Cipher(algorithms.AES(self.key), modes.GCM(index.to_bytes(12, "big")))

    def _bound(self, kind: bytes, index: int, nbytes: int) -> bytes:
        """An unambiguous transcript: each field with its length."""
        fields = (b"mpcnet tape 1", self.name.encode(), kind, index.to_bytes(8, "big"), nbytes.to_bytes(8, "big"))
        return b"".join(len(part).to_bytes(4, "big") + part for part in fields)


def _changed(name: str, what: str) -> LocalStorageError:
    hint = "the file was changed or cut: keep others and bad disks away from it, or remove the `tapes` setting"
    return LocalStorageError(f"tape {name}: {what}; {hint}")
