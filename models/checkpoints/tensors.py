"""A checkpoint's tensors, one by one: names, sizes and types are known before a weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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


def apart(stored: Mapping[str, Stored], joined: Mapping[str, Sequence[str]], heads: int = 1) -> dict[str, Stored]:
    """The tensors, those of joined modules in their parts: "x.Wqkv.weight" is "x.Wqkv.query.weight" and so on.

    joined: the parts of a module by the end of its name, in the order of their rows; those of each of the `heads`
    follow each other.
    """
    found: dict[str, Stored] = {}
    for key, tensor in stored.items():
        module, _, leaf = key.rpartition(".")
        parts = next((parts for end, parts in joined.items() if module.endswith(end)), ())
        if not parts or tensor.size[0] % (len(parts) * heads):
            found[key] = tensor
            continue
        rows = tensor.size[0] // len(parts)
        for place, part in enumerate(parts):
            read = partial(_part, tensor.read, place, len(parts), heads)
            found[f"{module}.{part}.{leaf}"] = Stored((rows, *tensor.size[1:]), tensor.type, read)
    return found


def _part(read: Callable[[], Tensor], place: int, parts: int, heads: int) -> Tensor:
    whole = read()
    return whole.reshape(heads, parts, -1, *whole.shape[1:])[:, place].flatten(0, 1)


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
