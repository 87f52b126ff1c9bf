"""Files of JSON lines: each is on the disk when its work is done, and one that was cut short is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mpcnet import checked_json
from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError

T = TypeVar("T")


def load(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """The lines, each as `parse` makes it of the object; none if there is no file.

    :raises LocalConfigError: the file cannot be read, or `parse` does not know what to make of a line.
    """
    try:
        text = path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise LocalConfigError(f"{path}: want a file of JSON lines, got {type(error).__name__}") from error
    found = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            found.append(parse(checked_json.mapping(line)))
        except MALFORMED as error:
            raise LocalConfigError(
                f"{path}, line {number}: want a result of this version, got a line with a {type(error).__name__}; "
                "use a new folder"
            ) from error
    return found


def append(path: Path, row: dict[str, Any]) -> None:
    """Write one line, and see that it is on the disk.

    :raises LocalConfigError: it cannot be written.
    """
    try:
        with path.open("ab+") as file:
            _cut_torn_line(path)
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LocalConfigError(f"{path}: cannot write: {error.strerror}") from error


def _cut_torn_line(path: Path) -> None:
    """Remove what a process that died while it wrote has left after the last whole line."""
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        os.truncate(path, whole)
