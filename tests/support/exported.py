"""Small models written as files of other formats than save_pretrained's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class _ByName(nn.Module):
    """torch passes inputs by place; transformers' models want them by name."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.wrapped = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.wrapped(**dict(zip(NAMES, inputs, strict=True))).to_tuple()
        return found


def export_graph(folder: Path, *, classifies: bool = False) -> Path:
    """A folder of save_pretrained's with an ONNX graph in the place of its weights, as torch exports it."""
    kind = AutoModelForSequenceClassification if classifies else AutoModel
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
