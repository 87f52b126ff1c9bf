"""What a server received in a run, on disk and sealed: enough to compute again every frame that it sent.

A party is a pure function of its seeds, its inputs, its corrections and the frames that it received. A record holds
these, and of each frame that was sent its SHA-256. Whoever has the record and its key computes the frames again and
sees the first that differs (:mod:`mpcnet.launch.replay`). A record is as secret as its server's memory.

::

    file     salt of 16 bytes | chunk | chunk | ...
    chunk    length, 8 bytes big-endian | AES-256-GCM of an entry under the file's key, nonce: the chunk's number
    entry    kind, 1 byte | stream's index, 2 bytes | segment, 4 bytes | payload

The file's key is the BLAKE2b hash of its salt, keyed with the folder's key. Each file has a fresh salt, so no nonce is
used twice under a key. The last chunk is an end, so that a file that was cut is known as one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpcnet.aio.threads import in_thread
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalConfigError, LocalStorageError
from mpcnet.transport.identity import check_private

FACTS, INPUT, DEALT, RECEIVED, SENT, END = b"F", b"I", b"D", b"R", b"S", b"E"
SUFFIX, KEY = ".record", "record.key"
KEY_BYTES, SALT_BYTES = 32, 16
_ENTRY, _LENGTH = struct.Struct(">cHI"), struct.Struct(">Q")
MOST_BYTES = 1 << 40  # of a chunk

Tell: TypeAlias = Callable[[bytes, int, int, Sequence[Bytes]], Awaitable[None]]  # kind, stream's index, segment, pieces


def folder_key(folder: Path) -> bytes:
    """The folder's key; made with the folder if it is not there.

    :raises LocalConfigError: it cannot be made or read, or others may read it.
    """
    path = folder / KEY
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
        check_private(path)
        key = path.read_bytes()
    except OSError as error:
        raise LocalConfigError(f"record {folder}: cannot use this folder: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise LocalConfigError(f"record {path}: want a key of {KEY_BYTES} bytes, got {len(key)}")
    return key


def _file_key(key: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(salt, digest_size=32, key=key, person=b"mpcnet record 1").digest()


class RecordWriter:
    """One record. Calls block, and may come from any thread; after an error the file is gone, and what is written
    further is dropped.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self.path, self.failed = path, ""
        self._chunks, self._lock = 0, threading.Lock()
        salt = secrets.token_bytes(SALT_BYTES)
        self._seal = AESGCM(_file_key(key, salt))
        try:
            self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")  # noqa: SIM115
            self._file.write(salt)
        except OSError as error:
            self._fail(error)

    def add(self, kind: bytes, index: int, sequence: int, *payload: Bytes | bytes) -> None:
        """An entry, its payload in pieces."""
        with self._lock:
            self._add(kind, index, sequence, payload)

    def _add(self, kind: bytes, index: int, sequence: int, payload: Sequence[Bytes | bytes]) -> None:
        if self.failed:
            return
        number, self._chunks = self._chunks, self._chunks + 1  # before its nonce is used
        pieces = (piece if isinstance(piece, bytes) else piece.data for piece in payload)
        entry = b"".join((_ENTRY.pack(kind, index, sequence), *pieces))
        sealed = self._seal.encrypt(number.to_bytes(12, "big"), entry, None)
        try:
            self._file.write(_LENGTH.pack(len(sealed)))
            self._file.write(sealed)
        except OSError as error:
            self._fail(error)

    def finish(self) -> None:
        """It is whole."""
        self.add(END, 0, 0)
        if not self.failed:
            try:
                self._file.close()
            except OSError as error:
                self._fail(error)

    def discard(self) -> None:
        """It is of no use."""
        self.failed = self.failed or "discarded"
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        self.failed = error.strerror or type(error).__name__
        self.path.unlink(missing_ok=True)


def read(path: Path, key: bytes) -> Iterator[tuple[bytes, int, int, Bytes]]:
    """Its entries: kind, stream's index, segment, payload.

    :raises LocalStorageError: it cannot be read, was changed or cut, or has another key.
    """
    try:
        with path.open("rb") as file:
            seal, number, kind = AESGCM(_file_key(key, file.read(SALT_BYTES))), 0, b""
            while head := file.read(_LENGTH.size):
                (length,) = _LENGTH.unpack(head)
                if length > MOST_BYTES or kind == END:
                    raise ValueError
                entry = seal.decrypt(number.to_bytes(12, "big"), file.read(length), None)
                kind, index, sequence = _ENTRY.unpack_from(entry)
                payload = np.frombuffer(bytearray(entry), np.uint8, offset=_ENTRY.size)  # writable, as from a channel
                yield kind, index, sequence, payload
                number += 1
            if kind != END:
                raise ValueError
    except OSError as error:
        raise LocalStorageError(f"record {path}: cannot read: {error.strerror}") from error
    except (InvalidTag, ValueError, struct.error) as error:
        raise LocalStorageError(f"record {path}: it was changed or cut, or sealed under another key") from error


def digest(packed: Sequence[Bytes]) -> bytes:
    """SHA-256 of a frame's payload."""
    found = hashlib.sha256()
    for piece in packed:
        found.update(piece.data)
    return found.digest()


class Frames:
    """The contents of all frames of a run: of each a digest, which both servers must have.

    `party` tells whose are ours. A record gets what came, and the digests of what went; `tell` gets what came.
    """

    def __init__(self, party: int, streams: int, record: RecordWriter | None = None, tell: Tell | None = None) -> None:
        self._party, self._record, self._tell = party, record, tell
        self._digests: list[dict[tuple[int, int], bytes]] = [{} for _ in range(streams)]

    async def dealt(self, index: int, sequence: int, payload: Bytes) -> None:
        """Corrections of a segment."""
        if self._record is not None:
            await in_thread(self._record.add, DEALT, index, sequence, payload)
        if self._tell is not None:
            await self._tell(DEALT, index, sequence, [payload])

    async def sent(self, index: int, sequence: int, packed: Sequence[Bytes]) -> None:
        """Our half of the exchange that ends a segment."""
        await in_thread(self._sent, index, sequence, packed)

    async def received(self, index: int, sequence: int, payload: Bytes) -> None:
        """The peer's half."""
        await in_thread(self._received, index, sequence, payload)
        if self._tell is not None:
            await self._tell(RECEIVED, index, sequence, [payload])

    def _sent(self, index: int, sequence: int, packed: Sequence[Bytes]) -> None:
        found = self._digests[index][sequence, self._party] = digest(packed)
        if self._record is not None:
            self._record.add(SENT, index, sequence, found)

    def _received(self, index: int, sequence: int, payload: Bytes) -> None:
        self._digests[index][sequence, 1 - self._party] = digest([payload])
        if self._record is not None:
            self._record.add(RECEIVED, index, sequence, payload)

    @property
    def digest(self) -> bytes:
        """Of all of them, in the order of streams, segments and servers."""
        return hashlib.sha256(b"".join(self.table)).digest()

    @property
    def table(self) -> list[bytes]:
        """By stream: the frames' digests, those of server0 and server1 of one segment after the other."""
        return [b"".join(frames[place] for place in sorted(frames)) for frames in self._digests]
