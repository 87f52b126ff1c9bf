"""A full disk takes one tape, never the folder; a killed process takes its tapes with it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tapes import PIECE, RECORDS, TAG, failing, rest, sealed

from mpcnet.errors import LocalConfigError, LocalStateError, LocalStorageError
from mpcnet.runtime.sealed_tape import SealedTapes

ROOT = Path(__file__).parents[3]


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    """Writes beyond fail as on a full disk, after what still fits was written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_a_record(tapes: SealedTapes, folder: Path) -> None:
    tape, writer = sealed(tapes, "1"), tapes.write("2")
    with file_size_limit(3 * PIECE // 2):
        writer.append(memoryview(b"fits"))
        with pytest.raises(
            LocalStorageError, match="tape 2: append failed: File too large; free space on its disk, or"
        ):
            writer.append(memoryview(bytes(2 * PIECE)))
        assert [path.name for path in folder.iterdir()] == ["1.tape"]
        with pytest.raises(LocalStateError, match="tape 2: finish after finish, discard or an error"):
            writer.finish()
        other = sealed(tapes, "3")
    for usable in (tape, other):
        reader = usable.burn()
        assert rest(reader, 3) == RECORDS
        reader.close()


@pytest.mark.parametrize("room", [0, 15])
def test_no_room_for_the_end(tapes: SealedTapes, folder: Path, room: int) -> None:
    writer = tapes.write("2")
    writer.append(memoryview(bytes(1000)))
    with (
        file_size_limit(1000 + TAG + room),
        pytest.raises(LocalStorageError, match="tape 2: finish failed: File too large"),
    ):
        writer.finish()
    assert list(folder.iterdir()) == []
    sealed(tapes, "3").burn().close()


def test_a_disk_that_is_full_only_when_it_is_asked(
    tapes: SealedTapes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = tapes.write("2")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(LocalStorageError, match="tape 2: finish failed: Input/output error"):
        writer.finish()
    assert list(folder.iterdir()) == []


FULL_DISK = """
import sys
from pathlib import Path
from mpcnet.runtime.sealed_tape import SealedTapes
from mpcnet.errors import LocalStorageError
folder, data = Path(sys.argv[1]), memoryview(bytes(3 << 20))
tapes = SealedTapes.open(folder)
writer = tapes.write("1")
writer.append(data)
first, second = writer.finish(), tapes.write("2")
try:
    second.append(data)
except LocalStorageError as error:
    print(error)
print([path.name for path in folder.iterdir()])
reader = first.burn()
print(reader.next().nbytes)
reader.close()
third = tapes.write("3")
third.append(data)
print(third.finish().records)
"""


def test_a_disk_of_four_megabytes(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=4m none "$0" && '
    own_mounts = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own_mounts, mount + "true", tmp_path], check=False).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    command = [*own_mounts, mount + 'exec "$@"', tmp_path, sys.executable, "-c", FULL_DISK, tmp_path / "tapes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    hint = "free space on its disk, or remove the `tapes` setting"
    full = f"tape 2: append failed: No space left on device; {hint}"
    assert done.stdout.splitlines() == [full, "['1.tape']", str(3 << 20), "1"]


CRASH = """
import sys
from pathlib import Path
from mpcnet.runtime.sealed_tape import SealedTapes
folder, tapes = SealedTapes.open(Path(sys.argv[1])), []
for name in "12":
    writer = folder.write(name)
    for record in (b"the first record", b"", b"another record.."):
        writer.append(memoryview(record))
    tapes.append(writer.finish())
half = folder.write("3")
half.append(memoryview(b"half a tape"))
reader = tapes[0].burn()
print(reader.next().tobytes().decode(), flush=True)
sys.stdin.read()
"""


def test_after_a_kill_nothing_can_be_used_again(folder: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, folder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "the first record\n"
        with pytest.raises(LocalConfigError, match="in use by another process"):
            SealedTapes.open(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["2.tape", "3.tape"]
        shutil.copy(folder / "2.tape", tmp_path / "kept")
        child.kill()
    assert child.returncode == -signal.SIGKILL
    tapes = SealedTapes.open(folder)
    assert tapes.leftovers == 2
    assert list(folder.iterdir()) == []
    tape = sealed(tapes, "2")  # the same name, the same lengths; then somebody puts the old file back
    os.replace(tmp_path / "kept", folder / "2.tape")
    with pytest.raises(LocalStorageError, match="tape 2: the seal of its end does not fit"):
        tape.burn()
    tapes.close()
