"""Tapes for the tests of sealed tapes."""

from collections.abc import Sequence

from mpcnet.runtime.sealed_tape import SealedTape, SealedTapes, TapeReader

PIECE, TAG = 1 << 20, 16
RECORDS = [b"the first record", b"", b"another record.."]  # 16, 0 and 16 bytes: two can be swapped


def sealed(tapes: SealedTapes, name: str = "7", records: Sequence[bytes] = RECORDS) -> SealedTape:
    writer = tapes.write(name)
    for record in records:
        writer.append(memoryview(record))
    return writer.finish()


def rest(reader: TapeReader, count: int) -> list[bytes]:
    return [reader.next().tobytes() for _ in range(count)]


def failing(*args: object, **options: object) -> None:
    raise OSError(5, "Input/output error", "/a/path")
