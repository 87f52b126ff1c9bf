"""Files that say they are longer than they are: refused at once, where gguf's own reader would count for days."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.gguf_limits import check_lengths


def text(value: bytes, count: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if count is None else count) + value


def file(*values: bytes, count: int | None = None, tensors: int = 0) -> bytes:
    number = len(values) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, number) + b"".join(values)


def listed(kind: int, count: int, data: bytes = b"") -> bytes:
    return text(b"a") + struct.pack("<IIQ", 9, kind, count) + data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GGML" + bytes(30), "another kind of file"),
        (b"GGUF" + bytes(4), "another kind of file"),
        (file(listed(0, 1 << 40)), f"{1 << 40} bytes where 0 are left"),
        (file(listed(8, 1 << 40, text(b"b"))), "buffer of at least"),
        (file(listed(10, 1 << 61)), f"{1 << 64} bytes where 0 are left"),
        (file(listed(9, 1 << 40)), "a value of type 9"),
        (file(listed(77, 1)), "a value of type 77"),
        (file(text(b"", 1 << 63)), f"{1 << 63} bytes where 0 are left"),
        (file(text(b"a") + struct.pack("<I", 4) + bytes(3)), "4 bytes where 3 are left"),
        (file(count=1 << 60), f"{1 << 60} values and 0 tensors"),
        (file(tensors=1 << 60), f"0 values and {1 << 60} tensors"),
    ],
)
def test_lengths_beyond_the_file(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(LocalConfigError, match=f"want a GGUF file, got .*{says}.*; fetch the model again"):
        check_lengths(path)


def test_what_fits_and_the_other_order_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(
        file(listed(8, 2, text(b"b") + text(b"")), listed(2, 3, bytes(6)), text(b"c") + struct.pack("<I", 7) + b"\1")
    )
    check_lengths(path)
    big = b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + struct.pack(">Q", 1) + b"a" + struct.pack(">II", 5, 9)
    path.write_bytes(big)
    check_lengths(path)
    path.write_bytes(big[:-1])
    with pytest.raises(LocalConfigError, match="4 bytes where 3 are left"):
        check_lengths(path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"")
    with pytest.raises(LocalConfigError, match="want a GGUF file, got cannot mmap an empty file"):
        check_lengths(tmp_path / "a.gguf")
