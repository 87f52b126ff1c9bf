"""DINOv2, and the same with registers: a ViT with a scale of each half of a layer, and positions for any size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mpcnet.models.checkpoints.families.family import Family
from mpcnet.models.checkpoints.families.images import ATTENTION, EMBEDDINGS, describe_image, lacks, rewritten


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    ffn, swiglu = int(values["hidden_size"] * values["mlp_ratio"]), bool(values["use_swiglu_ffn"])
    more = {"ffn": (int(ffn * 2 / 3) + 7) // 8 * 8, "gated": True, "activation": "silu"} if swiglu else {"ffn": ffn}
    registers = values.get("num_register_tokens", 0)
    return describe_image(values, registers) | {"pooling": "cls+patches"} | more


def resized(table: Tensor, side: int, *, antialias: bool) -> Tensor:
    """Positions [1 + n, hidden] of a square of patches as those of one with another side, as transformers has them."""
    first, rest = table[:1], table[1:]
    old = int(len(rest) ** 0.5)
    square = rest.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    made = interpolate(square.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([first, made.permute(0, 2, 3, 1).reshape(side**2, -1)])


def _family(name: str, prefix: str, *, antialias: bool) -> Family:
    return Family(
        (f"{name}Model", f"{name}ForImageClassification"),
        prefix,
        {**EMBEDDINGS, "classifier": "classifier"},
        {
            **ATTENTION,
            "norm2": "out.norm",
            "mlp.fc1": "up",
            "mlp.fc2": "down",
            "mlp.weights_in.up": "up",
            "mlp.weights_in.gate": "gate",
            "mlp.weights_out": "down",
        },
        describe,
        behind={"norm1": "down.norm"},
        first={"norm1": "embedding.norm"},
        table="patch",
        joined={"mlp.weights_in": ("up", "gate")},
        rewritten=rewritten,
        lacks=lacks,
        resized=partial(resized, antialias=antialias),
    )


DINOV2 = _family("Dinov2", "dinov2.", antialias=False)
DINOV2_WITH_REGISTERS = _family("Dinov2WithRegisters", "dinov2_with_registers.", antialias=True)
