"""Files of third parties: nothing of them is read before its SHA-256 is the expected one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from mpcnet.errors import LocalConfigError

SHOWN = 16  # hex digits of a hash in an error: enough to tell files apart, short enough to name all of them


def user_cache() -> Path:
    """Where this project keeps what can be made again: XDG_CACHE_HOME/mpcnet, or ~/.cache/mpcnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpcnet"


def check_files(what: str, folder: Path, hashes: Mapping[str, str], remedy: str) -> None:
    """Compare the files of `folder` with their SHA-256.

    :raises LocalConfigError: a file is missing or differs; all such files are named, and the remedy.
    """
    got = {name: sha256(folder / name) for name in hashes}
    wrong = [
        f"{name}: want sha256 {want[:SHOWN]}, got {got[name][:SHOWN]}"
        for name, want in hashes.items()
        if got[name] != want
    ]
    if wrong:
        raise LocalConfigError(f"{what} in {folder}: {'; '.join(wrong)}; {remedy}")


def sha256(path: Path) -> str:
    if not path.is_file():
        return "no file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
