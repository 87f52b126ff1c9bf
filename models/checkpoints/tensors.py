"""A checkpoint's tensors, one by one: names, sizes and types are known before a weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor

from mpcnet.errors import LocalConfigError

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
