"""A checkpoint's tensors, however they are stored: safetensors, PyTorch's own format, either of them in shards.

Names, sizes and types are known before a weight is read. PyTorch files are loaded by its weights-only reader, which
executes nothing that the file brings.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.source import find, is_below, need, read_object, within

SAFE, TORCH = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # behind either name, of a checkpoint in shards
TYPES: Mapping[torch.dtype, str] = {  # as safetensors calls them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: its size, type ("F32"), and how to read it."""

    size: tuple[int, ...]
    type: str
    read: Callable[[], Tensor]


@contextmanager
def stored_tensors(source: str, folder: str = "") -> Iterator[dict[str, Stored]]:
    """All tensors of a model by the file's own names, readable inside the block. `folder` is below the source.

    :raises LocalConfigError: there are no weights, or a file of them is missing or damaged.
    """
    names = [within(folder, name) for name in (SAFE, SAFE + INDEX, TORCH, TORCH + INDEX)]
    path = need(source, *names)
    files = _shards(source, folder, path) if path.name.endswith(INDEX) else [path]
    found: dict[str, Stored] = {}
    with ExitStack() as stack:
        for file in files:
            tensors = _torch(file) if file.suffix == ".bin" else _safe(file, stack)
            if twice := found.keys() & tensors.keys():
                raise LocalConfigError(f"{file}: want each tensor in one file, got {min(twice)} in two")
            found |= tensors
        yield found


def apart(stored: Mapping[str, Stored], joined: Mapping[str, Sequence[str]]) -> dict[str, Stored]:
    """The tensors, those of joined modules in their parts: "x.Wqkv.weight" is "x.Wqkv.query.weight" and so on.

    joined: the parts of a module by the end of its name, in the order of their rows.
    """
    found: dict[str, Stored] = {}
    for key, tensor in stored.items():
        module, _, leaf = key.rpartition(".")
        parts = next((parts for end, parts in joined.items() if module.endswith(end)), ())
        if not parts or tensor.size[0] % len(parts):
            found[key] = tensor
            continue
        rows = tensor.size[0] // len(parts)
        for place, part in enumerate(parts):
            read = partial(_rows, tensor.read, slice(place * rows, (place + 1) * rows))
            found[f"{module}.{part}.{leaf}"] = Stored((rows, *tensor.size[1:]), tensor.type, read)
    return found


def _rows(read: Callable[[], Tensor], rows: slice) -> Tensor:
    return read()[rows]


def _shards(source: str, folder: str, index: Path) -> list[Path]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise LocalConfigError(f"{index}: want a weight_map of tensors and files, got none")
    files = []
    for name in sorted(set(weight_map.values())):
        path = find(source, within(folder, name)) if is_below(name) else None
        if path is None or path.suffix not in (".safetensors", ".bin"):
            raise LocalConfigError(f"{index}: want all of its files beside it, got no {name}; fetch the model again")
        files.append(path)
    return files


def _safe(path: Path, stack: ExitStack) -> dict[str, Stored]:
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise LocalConfigError(f"{path}: want a safetensors file, got {error}; fetch the model again") from error
    return {
        name: Stored(tuple(part.get_shape()), part.get_dtype(), partial(file.get_tensor, name))
        for name, part in slices.items()
    }


def _torch(path: Path) -> dict[str, Stored]:
    values = _load(path)
    inner = values.get("state_dict") if isinstance(values, dict) else None
    values = values if inner is None else inner
    if not isinstance(values, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items()
    ):
        raise LocalConfigError(f"{path}: want tensors by name and nothing else; save it by save_pretrained")
    return {
        name: Stored(tuple(value.shape), TYPES.get(value.dtype, str(value.dtype)), value.detach)
        for name, value in values.items()
    }


def _load(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 are no archives, which cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LocalConfigError(
            f"{path}: want tensors alone, got another file, or a pickle of objects, which might run code; save the "
            "model by save_pretrained, which writes model.safetensors"
        ) from error
    except Exception as error:  # a pickle is a program: a broken one ends as a program of Python may
        got = f"{type(error).__name__}: {error}"
        raise LocalConfigError(f"{path}: want a file of torch.save, got {got}; fetch the model again") from error


def floats(stored: Mapping[str, Stored], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Read tensors as float32 by other names: ours to the file's.

    :raises LocalConfigError: a file is damaged, or a value is not finite.
    """
    try:
        tensors = {name: stored[theirs].read().to(torch.float32) for name, theirs in names.items()}
    except (SafetensorError, RuntimeError, OSError) as error:
        raise LocalConfigError(f"weights: want whole files, got {error}; fetch the model again") from error
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise LocalConfigError(
            f"want finite weights, got inf or nan in {', '.join(bad)}; train again from a checkpoint that has none"
        )
    return tensors
