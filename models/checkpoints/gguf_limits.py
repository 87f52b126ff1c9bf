"""Whether a GGUF file's metadata are as long as they say: gguf's own reader believes a stranger's counts.

A list of 2^40 bytes in a file of a hundred takes it days, and no error ends them. Here every length is compared with
what is left of the file before the next is read.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from mpcnet.errors import LocalConfigError

WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type's number
STRING, LIST = 8, 9
MAGIC, HEADER = b"GGUF", 24
MOST_VALUES, MOST_TENSORS = 10_000, 100_000
LEAST_TENSOR = 8 + 4 + 4 + 8  # bytes that describe one without a name and sides


def check_lengths(path: Path) -> None:
    """:raises LocalConfigError: a length or count goes beyond the file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _walk(data)
    except (ValueError, OSError, struct.error) as error:
        raise LocalConfigError(f"{path}: want a GGUF file, got {error}; fetch the model again") from error


def _walk(data: mmap.mmap) -> None:
    if data[:4] != MAGIC or len(data) < HEADER:
        raise ValueError("another kind of file")
    order = "<" if struct.unpack_from("<I", data, 4)[0] & 0xFFFF else ">"  # of its bytes, told by the version
    cursor = _Cursor(data, order, 8)
    tensors, values = cursor.number("Q"), cursor.number("Q")
    if values > MOST_VALUES or tensors > min(MOST_TENSORS, len(data) // LEAST_TENSOR):
        raise ValueError(f"{values} values and {tensors} tensors")
    for _ in range(values):
        cursor.string()
        cursor.value(cursor.number("I"))


@dataclass(slots=True)
class _Cursor:
    """A place in the file, behind what was read."""

    data: mmap.mmap
    order: str
    place: int

    def number(self, form: str) -> int:
        found: int = struct.unpack_from(self.order + form, self.data, self.place)[0]
        self.place += struct.calcsize(form)
        return found

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.place:
            raise ValueError(f"{count} bytes where {len(self.data) - self.place} are left")
        self.place += count

    def string(self) -> None:
        self.skip(self.number("Q"))

    def value(self, kind: int) -> None:
        if kind == STRING:
            self.string()
        elif kind == LIST:
            inner, count = self.number("I"), self.number("Q")
            if inner == STRING:
                for _ in range(count):  # each takes eight bytes at least, so the file ends this
                    self.string()
            else:
                self.skip(count * self._width(inner))
        else:
            self.skip(self._width(kind))

    @staticmethod
    def _width(kind: int) -> int:
        if kind not in WIDTHS:  # lists of lists too, which no converter writes
            raise ValueError(f"a value of type {kind}")
        return WIDTHS[kind]
