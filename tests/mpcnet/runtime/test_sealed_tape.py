"""Tapes on disk: what goes in comes out once, and nothing else ever does."""

import os
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from checks import few
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from tapes import PIECE, RECORDS, TAG, failing, rest, sealed

from mpcnet.errors import LocalConfigError, LocalInputError, LocalStateError, LocalStorageError
from mpcnet.runtime.sealed_tape import SealedTape, SealedTapes, TapeReader


@few
@given(st.lists(st.sampled_from([0, 1, 15, 16, 17, 1000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5]), max_size=5))
def test_records_come_back_in_order(sizes: list[int]) -> None:
    records = [np.random.default_rng(size + i).bytes(size) for i, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder:
        tapes = SealedTapes.open(Path(folder))
        tape = sealed(tapes, records=records)
        assert (tape.records, tape.nbytes) == (len(records), (Path(folder) / "7.tape").stat().st_size)
        reader = tape.burn()
        assert rest(reader, len(records)) == records
        with pytest.raises(LocalStateError, match=f"tape 7: read past its {len(records)} records"):
            reader.next()
        reader.close()
        tapes.close()


@few
@given(st.lists(st.binary(max_size=40), max_size=4), st.text("aZ09_-", min_size=1, max_size=64))
def test_any_bytes_and_any_name(records: list[bytes], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tapes = SealedTapes.open(Path(folder))
        reader = sealed(tapes, name, records).burn()
        assert rest(reader, len(records)) == records
        reader.close()
        tapes.close()


def test_tapes_are_written_and_read_side_by_side(tapes: SealedTapes) -> None:
    writers = [tapes.write(str(i)) for i in range(3)]
    for turn in range(4):
        for i, writer in enumerate(writers):
            writer.append(memoryview(bytes([turn, i])))
    readers = [writer.finish().burn() for writer in writers]
    for turn in range(4):
        assert [reader.next().tolist() for reader in readers] == [[turn, i] for i in range(3)]
    for reader in readers:
        reader.close()


def test_a_record_is_any_contiguous_array_and_comes_back_in_memory_of_its_own(tapes: SealedTapes) -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    writer = tapes.write("7")
    with pytest.raises(LocalInputError, match="tape 7: a record is contiguous memory"):
        writer.append(array.T.data)
    writer.append(array.data)
    writer.append(np.empty((0, 3)).data)
    reader = writer.finish().burn()
    record = reader.next()
    assert record.dtype == np.uint8 and record.flags.writeable and record.flags.owndata
    assert record.view(np.int64).tolist() == list(range(6))
    assert reader.next().size == 0
    reader.close()


def fields(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_the_file_spelled_out(tapes: SealedTapes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is AES-256-GCM under its number, bound to tape, number and length; then the end."""
    monkeypatch.setattr(secrets, "token_bytes", lambda count: bytes(range(count)))
    tape = sealed(tapes, "stream_3")
    cipher, want = AESGCM(bytes(range(32))), b""
    for kind, index, nbytes, data in [
        *((b"record", i, len(record), record) for i, record in enumerate(RECORDS)),
        (b"end", 3, 32, b""),
    ]:
        bound = fields(b"mpcnet tape 1", b"stream_3", kind, index.to_bytes(8, "big"), nbytes.to_bytes(8, "big"))
        want += cipher.encrypt(index.to_bytes(12, "big"), data, bound)
    assert (folder / "stream_3.tape").read_bytes() == want
    assert tape.nbytes == len(want)


def test_every_tape_draws_a_key_of_its_own(
    tapes: SealedTapes, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    draw = secrets.token_bytes

    def recorded(count: int) -> bytes:
        drawn.append(draw(count))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_bytes", recorded)
    other = SealedTapes.open(tmp_path / "other")
    for where, name in [(tapes, "1"), (tapes, "2"), (other, "1")]:
        sealed(where, name, [bytes(1000)])
    assert len(set(drawn)) == 3 and {len(key) for key in drawn} == {32}
    files = [*folder.glob("*.tape"), *(tmp_path / "other").glob("*.tape")]
    blocks = [raw[i : i + 16] for raw in (path.read_bytes() for path in files) for i in range(0, 1000, 16)]
    assert len(set(blocks)) == len(blocks) == 3 * 63  # the same zeros, three times: no keystream is shared
    other.close()


def test_only_our_user_may_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        tapes = SealedTapes.open(tmp_path / "tapes")
        tapes.write("7")
    finally:
        os.umask(mask)
    assert (tmp_path / "tapes").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "tapes" / "7.tape").stat().st_mode & 0o777 == 0o600
    tapes.close()


def test_no_secret_is_shown(tapes: SealedTapes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda count: b"K" * count)
    writer = tapes.write("7")
    writer.append(memoryview(b"PAYLOAD"))
    tape = writer.finish()
    (folder / "7.tape").write_bytes(bytes(tape.nbytes))
    with pytest.raises(LocalStorageError) as caught:
        tape.burn()
    shown = "".join(repr(x) for x in (tapes, writer, tape, writer._seal, caught.value)) + str(caught.value)
    assert "KKKK" not in shown and "PAYLOAD" not in shown and str(folder.parent) not in shown
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_folder_is_for_one_process_at_a_time(folder: Path) -> None:
    first = SealedTapes.open(folder)
    with pytest.raises(LocalConfigError, match="tapes folder tapes: in use by another process; give each a folder"):
        SealedTapes.open(folder)
    first.close()
    first.close()
    SealedTapes.open(folder).close()


def test_leftovers_are_removed_and_nothing_else(folder: Path) -> None:
    folder.mkdir()
    for name in ["3.tape", "4.tape", "notes.txt"]:
        (folder / name).write_bytes(b"x")
    (folder / "5.tape").symlink_to(folder / "notes.txt")
    tapes = SealedTapes.open(folder)
    assert tapes.leftovers == 3
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    tapes.close()


def test_a_folder_that_cannot_be_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in [tmp_path / "file", tmp_path / "file" / "tapes"]:
        with pytest.raises(LocalConfigError, match=f"tapes folder {path.name}: .*; name a folder that we may write to"):
            SealedTapes.open(path)
    (tmp_path / "tapes" / "a.tape").mkdir(parents=True)
    for _ in range(2):  # the second time shows that the lock was given back
        with pytest.raises(LocalConfigError, match="tapes folder tapes: Is a directory"):
            SealedTapes.open(tmp_path / "tapes")


def test_closing_removes_what_was_not_burned(folder: Path) -> None:
    tapes = SealedTapes.open(folder)
    reader, kept, writer = sealed(tapes, "1").burn(), sealed(tapes, "2"), tapes.write("3")
    writer.append(memoryview(b"x"))
    tapes.close()
    assert list(folder.iterdir()) == []
    assert rest(reader, 3) == RECORDS
    for tape in (kept, writer.finish()):
        with pytest.raises(LocalStateError, match="burned, discarded or closed before"):
            tape.burn()
    with pytest.raises(LocalStateError, match="tape 4: written after its folder was closed"):
        tapes.write("4")
    reader.close()


def test_a_name_is_used_once(tapes: SealedTapes) -> None:
    tapes.write("7").discard()
    with pytest.raises(LocalStateError, match="tape 7: written twice"):
        tapes.write("7")


@pytest.mark.parametrize("name", ["", "../7", "a/b", "7.tape", ".", "7\n", "ü", "x" * 65])
def test_names_that_are_refused(tapes: SealedTapes, name: str) -> None:
    with pytest.raises(LocalInputError, match="want a name of 1 to 64 letters"):
        tapes.write(name)


def test_a_tape_is_burned_once(tapes: SealedTapes, folder: Path) -> None:
    tape = sealed(tapes)
    reader = tape.burn()
    assert list(folder.iterdir()) == []
    with pytest.raises(LocalStateError, match="tape 7: burned, discarded or closed before; a tape is used once"):
        tape.burn()
    tape.discard()
    assert rest(reader, 3) == RECORDS
    reader.close()
    reader.close()
    with pytest.raises(LocalStateError, match="tape 7: read after close"):
        reader.next()


def test_threads_that_burn_at_once_get_one_reader(tapes: SealedTapes) -> None:
    def burn(tape: SealedTape) -> TapeReader | None:
        try:
            return tape.burn()
        except LocalStateError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for i in range(20):
            tape = sealed(tapes, str(i))
            readers = [reader for reader in pool.map(burn, [tape] * 8) if reader]
            assert len(readers) == 1
            readers[0].close()


def test_threads_that_append_at_once_never_share_a_nonce(tapes: SealedTapes) -> None:
    writer, records = tapes.write("7"), [bytes([i]) * 50_000 for i in range(32)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda record: writer.append(memoryview(record)), records))
    reader = writer.finish().burn()
    assert sorted(rest(reader, 32)) == records
    reader.close()


def test_a_tape_is_checked_before_its_first_record_is_used(tapes: SealedTapes, folder: Path) -> None:
    reader = sealed(tapes, "1").burn()
    reader.check()
    assert rest(reader, len(RECORDS)) == RECORDS
    tape = sealed(tapes, "2")
    (file,) = folder.iterdir()
    raw = bytearray(file.read_bytes())
    raw[len(RECORDS[0]) + 2 * TAG] ^= 1  # of the last record
    file.write_bytes(raw)
    reader = tape.burn()
    with pytest.raises(LocalStorageError, match="record 2 of 3: its seal does not fit"):
        reader.check()
    with pytest.raises(LocalStateError, match="read after close or an error"):
        reader.next()


def test_discarded_tapes_are_gone(tapes: SealedTapes, folder: Path) -> None:
    writer, tape = tapes.write("1"), sealed(tapes, "2")
    for unused in (writer, tape):
        unused.discard()
        unused.discard()
    assert list(folder.iterdir()) == []
    for call in (writer.finish, lambda: writer.append(memoryview(b""))):
        with pytest.raises(LocalStateError, match=r"tape 1: (finish|append) after finish, discard or an error"):
            call()
    with pytest.raises(LocalStateError, match="tape 2: burned, discarded or closed before"):
        tape.burn()


def test_a_finished_tape_is_out_of_its_writers_hands(tapes: SealedTapes) -> None:
    writer = tapes.write("7")
    tape = writer.finish()
    writer.discard()
    for call in (writer.finish, lambda: writer.append(memoryview(b""))):
        with pytest.raises(LocalStateError, match="after finish"):
            call()
    tape.burn().close()


def test_burned_durably_before_the_first_byte_is_read(
    tapes: SealedTapes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, bool]] = []  # the call, and whether the tape's name was still in the folder

    def record(name: str) -> None:
        call = getattr(os, name)

        def recorded(*args: object, **options: object) -> object:
            about = Path(os.readlink(f"/proc/self/fd/{args[0]}")) if isinstance(args[0], int) else folder / str(args[0])
            what = "folder" if about == folder else "tape"
            result = call(*args, **options)
            calls.append((f"{name} {what}", (folder / "7.tape").exists()))
            return result

        monkeypatch.setattr(os, name, recorded)

    for name in ("open", "unlink", "fsync", "pread"):
        record(name)
    writer = tapes.write("7")
    writer.append(memoryview(b"x"))
    assert calls == [("open tape", True)]
    tape = writer.finish()
    assert calls[1:] == [("fsync tape", True)]
    reader = tape.burn()
    assert calls[2:] == [("open tape", True), ("unlink tape", False), ("fsync folder", False), ("pread tape", False)]
    reader.close()


@pytest.mark.parametrize("broken", ["open", "unlink", "fsync", "pread"])
def test_a_burn_that_fails_gives_no_reader_ever(
    tapes: SealedTapes, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    tape = sealed(tapes)
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, failing)
        with pytest.raises(LocalStorageError, match=r"tape 7: (burn|read) failed: Input/output error; name a folder"):
            tape.burn()
    with pytest.raises(LocalStateError, match="a tape is used once"):
        tape.burn()
