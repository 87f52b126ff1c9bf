"""A small random MPNet as transformers saves it: large weights, so that attention and its bias are not flat."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import MPNetConfig, MPNetForSequenceClassification, MPNetModel

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.texts.tokens import Tokens

PAD = 1  # transformers counts positions by this id, so no text of these tests holds it
SIZES = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)


def config(**changes: object) -> MPNetConfig:
    return MPNetConfig(**SIZES | dict(max_position_embeddings=34, layer_norm_eps=1e-5) | changes)  # type: ignore[arg-type]


def small_mpnet(folder: Path, labels: int = 0) -> Checkpoint:
    """Saved in `folder`, and read again: 24 positions, and a classifier if there are labels."""
    torch.manual_seed(5)
    settings = config(max_position_embeddings=26, num_labels=labels or 2)
    model = MPNetForSequenceClassification(settings) if labels else MPNetModel(settings)
    for name, value in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            torch.nn.init.normal_(value, mean=float(name.endswith("LayerNorm.weight")), std=0.1)
        elif "relative" in name:
            torch.nn.init.normal_(value, std=2.0)
        elif "embeddings" not in name:
            torch.nn.init.normal_(value, std=0.15)
    model.save_pretrained(folder)
    return load_checkpoint(folder)


def small_tokens() -> Tokens:
    """Three rows of 21, 6 and 1 tokens: distances in every kind of bucket."""
    generator = torch.Generator().manual_seed(2)
    mask = (torch.arange(21) < torch.tensor([[21], [6], [1]])).long()
    ids = torch.randint(2, 50, mask.shape, generator=generator)
    return Tokens(ids * mask + PAD * (1 - mask), torch.zeros_like(ids), mask)
