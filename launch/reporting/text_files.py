"""Files that commands read and write as text, and JSON where --json says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError


def read_text(path: Path) -> str:
    """:raises LocalConfigError: the file is missing or no text."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalConfigError(f"{path}: want a text file, got {error}") from error


def write_text(target: str, text: str) -> None:
    """:raises LocalConfigError: the file cannot be written."""
    try:
        Path(target).write_text(text + "\n", "utf-8")
    except OSError as error:
        raise LocalConfigError(f"{target}: cannot write: {error.strerror}") from error


def emit(document: Mapping[str, Any], target: str) -> None:
    """As --json says: to a file, to standard output, or not at all."""
    if target == "-":
        print(json.dumps(document))
    elif target:
        write_text(target, json.dumps(document, indent=1))


def check_folder(target: str) -> None:
    """:raises LocalConfigError: `target` cannot be a file; found out before the work, not after it."""
    if target not in ("", "-") and not Path(target).parent.is_dir():
        raise LocalConfigError(f"{target}: want a file in a folder that exists")
