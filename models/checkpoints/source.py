"""A model's files: in a folder of this machine, or fetched from the Hugging Face hub by name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError

WHOLE = ".gitattributes"  # which every repository has, and only who fetches all of it


def find(source: str, name: str) -> Path | None:
    """The local path of one of a model's files, fetched from the hub if `source` is a hub name; None if it has none.

    `name` may lie in a sub-folder, "1_Pooling/config.json".
    """
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    return _from_hub(source, name)


def _from_hub(source: str, name: str) -> Path | None:
    """What is in the cache is taken from there without asking the hub, and the rest from the same commit.

    :raises LocalConfigError: the file is not in the cache, may exist, and the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        known = try_to_load_from_cache(source, name)
        if known is not None:  # a path, or that the hub has none
            return Path(known) if isinstance(known, str) else None
        snapshot = _snapshot(source)
        if snapshot is not None and (snapshot / WHOLE).is_file():
            return None
        return Path(hf_hub_download(source, name, revision=snapshot.name if snapshot else None))
    except LocalEntryNotFoundError as error:
        got = f"no {name}, which it may have" if snapshot else "neither"
        raise LocalConfigError(
            f"{source}: want a directory, or a hub model whose files are in the cache, got {got}, and the hub does not "
            f"answer; run, with a connection: hf download {source}"
        ) from error
    except (OSError, ValueError):  # no such name, or none that a hub could have
        return None


def _snapshot(source: str) -> Path | None:
    """The cached commit of a hub model's main branch."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=source, repo_type="model"))
    try:
        path = folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        return None
    return path if path.is_dir() else None


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
        return checked_json.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise LocalConfigError(f"{path}: want JSON, got {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """:raises LocalConfigError: the file is not a JSON object."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise LocalConfigError(f"{path}: want a JSON object, got {checked_json.kind(values)}")
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
