"""Whoever holds the disk can do anything with a tape but read or change a record."""

import os
import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tapes import RECORDS, TAG, rest, sealed

from mpcnet.errors import LocalStateError, LocalStorageError
from mpcnet.runtime.sealed_tape import SealedTape, SealedTapes


def read_until_refused(tape: SealedTape, name: str) -> list[bytes]:
    """What a tampered tape still gives before it is refused, which it must be, and for good."""
    good: list[bytes] = []
    try:
        reader = tape.burn()
    except LocalStorageError as error:
        assert f"tape {name}: " in str(error) and "the `tapes` setting" in str(error)
        return good
    with pytest.raises(LocalStorageError, match=rf"tape {name}: record \d of 3: its seal does not fit; the file was"):
        while len(good) < tape.records:
            good.append(reader.next().tobytes())
    with pytest.raises(LocalStateError, match="read after close or an error"):
        reader.next()
    return good


def pieces(raw: bytes) -> list[bytes]:
    """The file of RECORDS cut into its sealed records and its end."""
    ends = np.cumsum([0, *(len(record) + TAG for record in RECORDS), TAG]).tolist()
    return [raw[a:b] for a, b in pairwise(ends)]


def test_every_flipped_bit_is_noticed(tapes: SealedTapes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    usable = [0] * 32 + [1] * 16 + [2] * 32 + [0] * 16  # records before the flipped byte; none if it is in the end
    assert sealed(tapes).nbytes == len(usable)
    for place in range(8 * len(usable)):
        name = f"flipped{place}"
        tape, path = sealed(tapes, name), folder / f"{name}.tape"
        raw = bytearray(path.read_bytes())
        raw[place // 8] ^= 1 << place % 8
        path.write_bytes(raw)
        assert read_until_refused(tape, name) == RECORDS[: usable[place // 8]]


REWRITTEN: dict[str, Callable[[list[bytes], list[bytes]], list[bytes]]] = {
    "two records swapped": lambda own, other: [own[2], own[1], own[0], own[3]],
    "a record repeated": lambda own, other: [own[0], own[1], own[0], own[3]],
    "a record dropped": lambda own, other: [own[0], own[2], own[3]],
    "the empty record dropped": lambda own, other: [own[0], own[2], own[3], b""],
    "a record added": lambda own, other: [own[0], own[1], own[2], own[1], own[3]],
    "the end where a record was": lambda own, other: [own[0], own[3], own[2], own[3]],
    "a record of another tape": lambda own, other: [other[0], own[1], own[2], own[3]],
    "the last record of another tape": lambda own, other: [own[0], own[1], other[2], own[3]],
    "the end of another tape": lambda own, other: [*own[:3], other[3]],
    "another tape": lambda own, other: other,
    "garbage behind the end": lambda own, other: [*own, b"x"],
    "a second end": lambda own, other: [*own, own[3]],
    "garbage before": lambda own, other: [b"x", *own],
    "zeros at the end, as a crash leaves them": lambda own, other: [*own[:2], bytes(len(own[2])), bytes(TAG)],
    "nothing": lambda own, other: [],
}


@pytest.mark.parametrize("same_key", [False, True])
@pytest.mark.parametrize("rewrite", REWRITTEN.values(), ids=REWRITTEN.keys())
def test_rewritten_tapes_are_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    rewrite: Callable[[list[bytes], list[bytes]], list[bytes]],
    same_key: bool,
) -> None:
    """Also if two tapes had the same key, which they never have: name, kind, number and length are bound."""
    if same_key:
        monkeypatch.setattr(secrets, "token_bytes", bytes)
    tapes = SealedTapes.open(folder)
    tape = sealed(tapes, "7")
    sealed(tapes, "8")
    own, other = (pieces((folder / name).read_bytes()) for name in ("7.tape", "8.tape"))
    (folder / "7.tape").write_bytes(b"".join(rewrite(own, other)))
    good = read_until_refused(tape, "7")
    assert good == RECORDS[: len(good)]
    tapes.close()


def test_a_cut_tape_gives_no_record_at_all(tapes: SealedTapes, folder: Path) -> None:
    size = sealed(tapes, "size").nbytes
    for count in range(size):
        name = f"cut{count}"
        tape = sealed(tapes, name)
        os.truncate(folder / f"{name}.tape", count)
        with pytest.raises(LocalStorageError, match=f"tape {name}: file: want {size} bytes, got {count}; the file was"):
            tape.burn()


@pytest.mark.parametrize("kind", ["missing", "link to itself", "pipe", "folder"])
def test_something_else_in_place_of_the_tape(tapes: SealedTapes, folder: Path, kind: str) -> None:
    tape, path = sealed(tapes), folder / "7.tape"
    path.rename(folder / "moved")
    if kind == "link to itself":
        path.symlink_to(folder / "moved")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert read_until_refused(tape, "7") == []
    if kind == "folder":
        path.rmdir()


@pytest.mark.parametrize(
    "change",
    [lambda descriptor: os.truncate(descriptor, 20), lambda descriptor: os.pwrite(descriptor, b"x", 60)],
    ids=["cut", "changed"],
)
def test_a_tape_that_changes_while_it_is_read(
    tapes: SealedTapes, folder: Path, change: Callable[[int], object]
) -> None:
    tape = sealed(tapes)
    descriptor = os.open(folder / "7.tape", os.O_RDWR)
    reader = tape.burn()
    change(descriptor)
    os.close(descriptor)
    with pytest.raises(LocalStorageError, match="its seal does not fit; the file was changed or cut"):
        rest(reader, 3)
    with pytest.raises(LocalStateError, match="read after close or an error"):
        reader.next()


def test_a_file_of_others_under_our_name_is_not_touched(tapes: SealedTapes, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (folder / "7.tape").symlink_to(tmp_path / "precious")
    with pytest.raises(LocalStorageError, match="tape 7: create failed: File exists"):
        tapes.write("7")
    assert (tmp_path / "precious").read_bytes() == b"precious"
