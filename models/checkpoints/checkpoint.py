"""A model as it was published, or of random weights: its description, its tensors under our names, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpcnet.models.checkpoints.parameter_sizes import parameter_sizes
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape, Softmax


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model as it was published: float32 tensors by the names that `parameter_sizes` has, and where they came from.

    source is the folder that the tokenizer and transformers' own model load from, "" if random; origin is what was
    asked for.
    softmax is the one it was trained with, if its config.json says so; labels are a classifier's, by its id2label.
    preprocessing is what is done to texts before, None without a tokenizer. prefix stands before all names in the file,
    which transformers does not skip ("module.").
    """

    shape: BertShape
    tensors: Mapping[str, Tensor] = field(repr=False)
    source: str
    origin: str
    license: str
    sha256: str
    softmax: Softmax | None = None
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    prefix: str = ""


def random_checkpoint(shape: BertShape, seed: int) -> Checkpoint:
    """Random weights of the right sizes, for measuring cost only: N(0, 0.02), gammas 1 + N(0, 0.02)."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, size in parameter_sizes(shape).items():
        value = torch.randn(size, generator=generator) * 0.02  # BERT's initializer_range
        tensors[name] = value + 1 if name.endswith("norm.weight") else value
    origin = f"RANDOM weights, seed {seed}: for cost only, the outputs mean nothing"
    return Checkpoint(shape, tensors, "", origin, "none", digest(tensors))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, shape and little-endian float32 bytes of every tensor, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {list(tensors[name].shape)}\n".encode())
        state.update(tensors[name].contiguous().numpy().astype("<f4", copy=False).data)
    return state.hexdigest()
