"""Small models written as files of other formats than save_pretrained's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel

QUERY = "encoder.layer.0.attention.self.query"
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class _ByName(nn.Module):
    """torch passes inputs by place; transformers' models want them by name."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.wrapped = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.wrapped(**dict(zip(NAMES, inputs, strict=True))).to_tuple()
        return found


def export_graph(folder: Path, kind: Any = AutoModel) -> Path:
    """A folder of save_pretrained's with an ONNX graph in the place of its weights, as torch exports it."""
    model = _ByName(kind.from_pretrained(folder)).eval()
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    axes = {name: {0: "batch", 1: "sequence"} for name in NAMES}
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (ids, torch.ones_like(ids), torch.zeros_like(ids)), str(path),
            dynamo=False, input_names=list(NAMES), dynamic_axes=axes,
        )  # fmt: skip
    (folder / "model.safetensors").unlink()
    return path


def save_adapter(
    base: Path, folder: Path, tensors: dict[str, Tensor] | None = None, **settings: Any
) -> dict[str, Tensor]:
    """An adapter of the queries' weight, as PEFT writes it, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(2)
    if tensors is None:
        tensors = {
            f"{QUERY}.lora_A.weight": torch.randn(3, 32, generator=draw),
            f"{QUERY}.lora_B.weight": torch.randn(32, 3, generator=draw),
        }
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    known = {
        "peft_type": "LORA", "base_model_name_or_path": str(base), "r": 3, "lora_alpha": 6, "target_modules": ["query"],
        "fan_in_fan_out": False, "bias": "none", "use_dora": False, "use_rslora": False, "init_lora_weights": True,
        "peft_version": "0.21.2", "lora_dropout": 0.1, "loftq_config": {}, "megatron_core": "megatron.core",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(known | settings))
    return tensors
