"""A model's files: in a folder of this machine, or fetched from the Hugging Face hub by name."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from mpcnet.errors import LocalConfigError


def find(source: str, name: str) -> Path | None:
    """The local path of one of a model's files, fetched from the hub if `source` is a hub name; None if it has none.

    `name` may lie in a sub-folder, "1_Pooling/config.json".
    """
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    from transformers.utils import cached_file  # two seconds to import: only who reads from the hub waits for it

    try:
        found = cached_file(source, name)
    except OSError:  # no such directory, no such hub name, no network
        return None
    return None if found is None else Path(found)


def need(source: str, *names: str) -> Path:
    """:func:`find` of the first of these names that is there.

    :raises LocalConfigError: none of them is.
    """
    found = next((path for name in names if (path := find(source, name)) is not None), None)
    if found is None:
        raise LocalConfigError(
            f"{source}: want a directory or hub name that holds {' or '.join(names)}, got none "
            "(transformers' save_pretrained writes config.json and model.safetensors)"
        )
    return found


def read_json(path: Path) -> Any:
    """:raises LocalConfigError: the file is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LocalConfigError(f"{path}: want JSON, got {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """:raises LocalConfigError: the file is not a JSON object."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise LocalConfigError(f"{path}: want a JSON object, got {type(values).__name__}")
    return values


def find_object(source: str, name: str) -> dict[str, Any]:
    """:func:`read_object` of a file that may be absent: empty then.

    :raises LocalConfigError: the file is not a JSON object.
    """
    path = find(source, name)
    return {} if path is None else read_object(path)


def within(folder: str, name: str) -> str:
    """The name of a file in a model's sub-folder; "" is the model's own folder."""
    return str(PurePosixPath(folder, name))


def is_below(name: str) -> bool:
    """Whether a name that a file gives stays inside the model's folder."""
    return not any(part in ("..", "/") or "\\" in part or ":" in part for part in PurePosixPath(name).parts)
