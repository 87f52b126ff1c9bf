"""A folder of files that are written once and taken once, for one process at a time.

A file that is taken has left the folder for good, durably, before its first byte is read. Names are public.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Lock

from mpcnet.errors import LocalConfigError, LocalStateError, LocalStorageError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what more space helps against
SUFFIX = ".tape"  # of every file that is ours; others in the folder are left alone


class TapeFolder:
    """A locked folder. Making, taking, removing and closing exclude each other."""

    def __init__(self, descriptor: int, leftovers: int) -> None:
        self.leftovers = leftovers  # files of earlier processes that were removed
        self._descriptor = descriptor
        self._lock = Lock()
        self._open = True
        self._used: set[str] = set()  # every name that was ever given
        self._live: set[str] = set()  # those whose file may still be taken

    @classmethod
    def open(cls, path: Path) -> TapeFolder:
        """Make the folder if it is missing, lock it, and remove the files of earlier processes.

        :raises LocalConfigError: another process has it, or it cannot be made, locked or cleared.
        """
        where = f"tapes folder {path.name}"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise LocalConfigError(f"{where}: {error.strerror}; name a folder that we may write to") from None
        try:
            # The folder itself is locked. A network file system refuses that, rightly: it keeps a file that is removed
            # while it is open, under another name.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftovers = _sweep(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise LocalConfigError(f"{where}: in use by another process; give each a folder of its own") from None
        except OSError as error:
            os.close(descriptor)
            raise LocalConfigError(f"{where}: {error.strerror}; name one of ours on a local disk") from None
        return cls(descriptor, leftovers)

    def create(self, name: str) -> FileIO:
        """A new file to write, readable for our user only.

        :raises LocalStateError: the name was used before, or the folder is closed.
        :raises LocalStorageError: the disk is full or failed, or somebody else made that file.
        """
        with self._lock:
            if not self._open:
                raise LocalStateError(f"tape {name}: written after its folder was closed")
            if name in self._used:
                raise LocalStateError(f"tape {name}: written twice; a name is used once")
            self._used.add(name)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                descriptor = os.open(name + SUFFIX, flags, 0o600, dir_fd=self._descriptor)
            except OSError as error:
                raise disk_failed(name, "create", error) from None
            self._live.add(name)
        return FileIO(descriptor, "wb")

    def take(self, name: str) -> FileIO:
        """The file to read, after it has durably left the folder.

        :raises LocalStateError: it was taken or removed before, or the folder is closed.
        :raises LocalStorageError: the disk failed, or the file is gone.
        """
        with self._lock:
            if name not in self._live:
                raise LocalStateError(f"tape {name}: burned, discarded or closed before; a tape is used once")
            self._live.remove(name)
            try:
                return self._unlinked(name + SUFFIX)
            except OSError as error:
                raise disk_failed(name, "burn", error) from None

    def remove(self, name: str) -> None:
        """Remove a file that was not taken. Idempotent."""
        with self._lock:
            if name in self._live:
                self._live.remove(name)
                with suppress(OSError):  # what stays goes when the folder is closed, or opened next
                    os.unlink(name + SUFFIX, dir_fd=self._descriptor)

    def close(self) -> None:
        """Remove the files that were not taken, and release the folder. Idempotent.

        :raises LocalStorageError: a file cannot be removed; the folder is released all the same.
        """
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._live.clear()
            try:
                _sweep(self._descriptor)
            except OSError as error:
                raise LocalStorageError(f"tapes folder: {error.strerror}; remove its {SUFFIX} files") from None
            finally:
                os.close(self._descriptor)  # and with it the lock

    def _unlinked(self, file_name: str) -> FileIO:
        # What lies there now may be a link, which is refused, or a pipe, which must not block us.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = FileIO(os.open(file_name, flags, dir_fd=self._descriptor), "rb")
        try:
            os.unlink(file_name, dir_fd=self._descriptor)
            os.fsync(self._descriptor)
        except BaseException:
            file.close()
            raise
        return file


def disk_failed(name: str, call: str, error: OSError) -> LocalStorageError:
    """What to raise for an error of the operating system. Its reason names no path."""
    first = (
        "free space on its disk" if error.errno in NO_ROOM else "name a folder on a good disk, of this process alone"
    )
    return LocalStorageError(f"tape {name}: {call} failed: {error.strerror}; {first}, or remove the `tapes` setting")


def _sweep(descriptor: int) -> int:
    """Remove our files from a folder that we hold; how many there were."""
    names = [name for name in os.listdir(descriptor) if name.endswith(SUFFIX)]
    for name in names:
        os.unlink(name, dir_fd=descriptor)
    os.fsync(descriptor)
    return len(names)
