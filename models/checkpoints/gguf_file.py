"""GGUF: llama.cpp's files, dequantised, by the names that transformers gives the parameters of a BERT.

Such a file has neither an activation nor all of a tokenizer, so config.json and the tokenizer's files of the original
model are wanted beside it. What it says itself is held against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.tensors import Stored

ARCHITECTURE = "bert"
OUTSIDE: Mapping[str, str] = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
INSIDE: Mapping[str, str] = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
SAME: Mapping[str, str] = {  # metadata and config.json, which must say the same
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_epsilon": "layer_norm_eps",
}
POOLINGS: Mapping[int, str] = {1: "mean", 2: "cls", 3: "lasttoken"}  # llama.cpp's numbers


def tensors(path: Path) -> dict[str, Stored]:
    """The tensors of the file, of any of its types.

    :raises LocalConfigError: it cannot be read, or is of another architecture than a BERT's.
    """
    reader = _open(path)
    kind = _value(reader, "general.architecture")
    if kind != ARCHITECTURE:
        raise LocalConfigError(
            f"{path}: want general.architecture {ARCHITECTURE}, got {kind}; take the model's safetensors"
        )
    return {
        _theirs(tensor.name): Stored(tuple(int(n) for n in reversed(tensor.shape)), "F32", partial(_read, tensor))
        for tensor in reader.tensors
    }


def pooling(path: Path) -> str | None:
    """How the file says that tokens are pooled; None if it does not.

    :raises LocalConfigError: in a way that is not computed.
    """
    number = _value(_open(path), f"{ARCHITECTURE}.pooling_type")
    if number in (None, 0):
        return None
    if number not in POOLINGS:
        raise LocalConfigError(
            f"{path}: want pooling_type {', '.join(map(str, POOLINGS))}, got {number}; take the safetensors"
        )
    return POOLINGS[number]


def differences(path: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """What config.json says otherwise than the file."""
    reader = _open(path)
    if config.get("model_type") != "bert":  # RoBERTas are stored as BERTs whose position tables begin elsewhere
        yield f"{path.name}: want model_type bert, got {config.get('model_type')}; take the model's safetensors"
    for theirs, ours in SAME.items():
        said, want = _value(reader, f"{ARCHITECTURE}.{theirs}"), config.get(ours)
        if said is not None and want is not None and not np.isclose(float(said), float(want), rtol=1e-5, atol=0):
            yield f"{ours}: want {said}, as {path.name} says, got {want}; take the config.json of the same model"


def _open(path: Path) -> Any:
    from gguf import GGUFReader  # an extra

    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError, OSError, OverflowError, TypeError) as error:
        raise LocalConfigError(
            f"{path}: want a GGUF file, got {type(error).__name__}; fetch the model again"
        ) from error


def _value(reader: Any, name: str) -> Any:
    found = reader.get_field(name)
    return None if found is None else found.contents()


def _theirs(name: str) -> str:
    """The file's own name where transformers' BERT has no such parameter: then it is refused as unknown."""
    stem, _, leaf = name.rpartition(".")
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if layer and layer[2] in INSIDE:
        return f"encoder.layer.{layer[1]}.{INSIDE[layer[2]]}.{leaf}"
    return f"{OUTSIDE[stem]}.{leaf}" if stem in OUTSIDE else name


def _read(tensor: Any) -> Tensor:
    from gguf.quants import dequantize

    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise LocalConfigError(
            f"{tensor.name}: want a type that gguf dequantises, got {tensor.tensor_type.name}"
        ) from error
    return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(*(int(n) for n in reversed(tensor.shape)))
