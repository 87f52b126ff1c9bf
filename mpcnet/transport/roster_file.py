"""A roster that is read anew when its file has changed, so that who is revoked is refused without a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from mpcnet.errors import LocalConfigError
from mpcnet.transport.identity import Roster

Stamp: TypeAlias = tuple[int, int, int] | None  # time of change in ns, size, inode; None: there is no file


class RosterFile:
    """The newest roster of a file that could be read. A broken one keeps what was there before it: refusing everybody
    for a slip of a text editor would end the service, and accepting anybody is out of the question.
    """

    def __init__(self, path: Path) -> None:
        """:raises LocalConfigError: the file cannot be read, or is no roster."""
        self._path = path
        self._stamp = _stamp(path)
        self.roster = Roster.load(path)

    def refresh(self) -> str:
        """Read the file if it is another than last time; what there is to say about that, "" if nothing."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return ""
        self._stamp = stamp
        try:
            newer = Roster.load(self._path)
        except LocalConfigError as error:
            return f"{error}; the roster before it stays in force: put a good one in its place"
        former, self.roster = self.roster, newer
        changed = [
            role
            for role in sorted(former.fingerprints.keys() | newer.fingerprints.keys())
            if set(former.fingerprints.get(role, ())) != set(newer.fingerprints.get(role, ()))
        ]
        return f"{self._path.name} has changed, for {', '.join(changed)}" if changed else ""


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
