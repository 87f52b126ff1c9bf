"""Small encoders of each family as transformers saves them, their weights drawn with the ranges of trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.texts.tokens import Tokens

LENGTH = 12
SIZES: Mapping[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 26,
}  # fmt: skip
MORE: Mapping[str, Mapping[str, Any]] = {
    "albert": {"embedding_size": 16, "num_hidden_layers": 3, "classifier_dropout_prob": 0.0},
    "camembert": {"pad_token_id": 1},
    "deberta": {
        "relative_attention": True, "pos_att_type": "p2c|c2p", "position_biased_input": False, "pad_token_id": 1,
        "type_vocab_size": 2,
    },
    "deberta-v2": {
        "position_buckets": 8, "relative_attention": True, "share_att_key": True, "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "pad_token_id": 1,
    },
    "distilbert": {"hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "modernbert": {
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2,
        "num_hidden_layers": 4, "local_attention": 4,
    },
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
}  # fmt: skip
NORM = "norm"  # in the name of every LayerNorm


def save_encoder(folder: Path, kind: str, labels: int = 0, seed: int = 3, head: Any = None, **more: Any) -> Path:
    """An encoder, or a classifier of some labels; or what another of transformers' automatic classes makes."""
    sizes = {**SIZES, **MORE.get(kind, {}), **more, **({"num_labels": labels} if labels else {})}
    config = AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(seed)
    made = head or (AutoModelForSequenceClassification if labels else AutoModel)
    model = made.from_config(config).eval()
    train(model)
    model.save_pretrained(folder)
    return folder


def train(model: torch.nn.Module) -> None:
    """Weights and norms as if trained: some LayerNorm columns are far larger than others, attention is not flat."""
    for name, value in model.named_parameters():
        if value.ndim == 1:
            norm = NORM in name.lower() and name.endswith("weight")
            torch.nn.init.normal_(value, mean=float(norm), std=0.15)
            if norm:
                value.data[::11] *= 2.5
        elif "embedding" in name and "project" not in name and "mapping" not in name:
            torch.nn.init.normal_(value, std=0.3)
        else:
            torch.nn.init.normal_(value, std=1.2 / value.shape[1] ** 0.5)


def small_encoder(folder: Path, kind: str, labels: int = 0, **more: Any) -> Checkpoint:
    return load_checkpoint(save_encoder(folder, kind, labels, **more))


def small_tokens(types: int = 0, pad: int = 1) -> Tokens:
    """Three rows of different lengths; no token but padding has its number."""
    generator = torch.Generator().manual_seed(2)
    mask = (torch.arange(LENGTH) < torch.tensor([[LENGTH], [7], [1]])).long()
    ids = torch.randint(2, 50, mask.shape, generator=generator)
    kinds = torch.randint(0, types, mask.shape, generator=generator) if types else torch.zeros_like(ids)
    return Tokens(ids * mask + pad * (1 - mask), kinds * mask, mask)
