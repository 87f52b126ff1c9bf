"""What ViT and DINOv2 have in common: tensors that are no module's weight, and a description of images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families.family import ACTIVATIONS, NOTHING
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.image_shape import Image

EMBEDDINGS: Mapping[str, str] = {
    "embeddings.cls_token": "embedding.class",
    "embeddings.register_tokens": "embedding.register",
    "embeddings.position_embeddings": "embedding.position",
    "embeddings.patch_embeddings.projection": "patch",
    "layernorm": "final.norm",
}
ATTENTION: Mapping[str, str] = {
    "attention.attention.query": "query",
    "attention.attention.key": "key",
    "attention.attention.value": "value",
    "attention.output.dense": "out",
}
CHANNELS = 3
ROWS = re.compile(r"(.*\.|)embeddings\.(cls_token|register_tokens|position_embeddings)")  # [1, n, hidden] in files
KERNEL = re.compile(r"(.*\.|)embeddings\.patch_embeddings\.projection\.weight")
UNUSED = re.compile(r"(.*\.|)embeddings\.mask_token")  # of training alone
SCALE = re.compile(r"(.*\.|)layer_scale([12])\.lambda1")
SCALED = {"1": ("attention.output.dense",), "2": ("mlp.fc2", "mlp.weights_out")}  # the maps that are scaled


def rewritten(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Rows as tables, the patches' convolution as a linear map, and each layer scale inside the map before it."""
    found = {}
    for key, tensor in stored.items():
        if UNUSED.fullmatch(key) or SCALE.fullmatch(key):
            continue
        if ROWS.fullmatch(key) and len(tensor.size) == 3 and tensor.size[0] == 1:
            found[f"{key}.weight"] = Stored(tensor.size[1:], tensor.type, partial(_reshaped, tensor, tensor.size[1:]))
        elif KERNEL.fullmatch(key) and len(tensor.size) == 4:
            rows, columns = tensor.size[0], tensor.size[1] * tensor.size[2] * tensor.size[3]
            found[key] = Stored((rows, columns), tensor.type, partial(_reshaped, tensor, (rows, columns)))
        else:
            found[key] = tensor
    for key, scale in stored.items():
        if match := SCALE.fullmatch(key):
            for name in (f"{match[1]}{module}.{leaf}" for module in SCALED[match[2]] for leaf in ("weight", "bias")):
                if name in stored and stored[name].size[0] == scale.size[0]:
                    found[name] = Stored(stored[name].size, stored[name].type, partial(_scaled, stored[name], scale))
    return found


def _reshaped(tensor: Stored, size: tuple[int, ...]) -> Tensor:
    return tensor.read().reshape(size)


def _scaled(tensor: Stored, scale: Stored) -> Tensor:
    value = tensor.read().float()
    return value * scale.read().float().reshape(-1, *[1] * (value.ndim - 1))


def describe_image(values: Mapping[str, Any], registers: int = 0) -> dict[str, Any]:
    """Of any encoder of images with LayerNorms before. What pixels lie between is the image processor's.

    :raises LocalConfigError: images or patches are not square.
    """
    size, patch = (_side(values, name) for name in ("image_size", "patch_size"))
    if values["num_channels"] != CHANNELS:  # what is read of a file is RGB
        raise LocalConfigError(
            f"num_channels: want {CHANNELS}, got {values['num_channels']}; take a model of RGB images"
        )
    ends = (0.0,) * CHANNELS, (1.0,) * CHANNELS
    image = Image(size, patch, *ends, registers)
    return {
        "layers": values["num_hidden_layers"],
        "hidden": values["hidden_size"],
        "heads": values["num_attention_heads"],
        "vocab": 0,
        "types": 0,
        "positions": image.rows,
        "eps": float(values["layer_norm_eps"]),
        "activation": ACTIVATIONS.get(values["hidden_act"], "gelu"),  # another is refused by its name
        "norm": "before",
        "image": image,
    }


def _side(values: Mapping[str, Any], name: str) -> int:
    given = values[name]
    sides = set(given) if isinstance(given, list | tuple) else {given}
    if len(sides) > 1:
        raise LocalConfigError(f"{name}: want squares, got {given}; take a model of square images")
    side: int = min(sides)
    return side


def lacks(config: Mapping[str, Any]) -> re.Pattern[str]:
    """Biases of queries, keys and values that config.json does not ask for."""
    return NOTHING if config.get("qkv_bias", True) else re.compile(r"layer\d+\.(query|key|value)\.bias")
