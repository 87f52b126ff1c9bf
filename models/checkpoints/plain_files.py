"""safetensors and PyTorch's own format: a file's tensors by its own names.

PyTorch files are loaded by its weights-only reader, which executes nothing that the file brings.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.tensors import TYPES, Stored


def file_tensors(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """The tensors of one file, readable until `stack` ends.

    :raises LocalConfigError: it is damaged, or holds anything else.
    """
    return _safe(path, stack) if path.suffix == ".safetensors" else _torch(path)


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
