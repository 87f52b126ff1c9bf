"""NomicBERT: a BERT with rotary positions, a gated feed-forward part and no biases but the LayerNorms'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families.family import HEADS, PREDICTIONS, Family, architectures, gated_rotary


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    if values["head_dim"] not in (None, values["hidden_size"] // values["num_attention_heads"]):
        raise LocalConfigError(f"head_dim: want hidden_size / num_attention_heads, got {values['head_dim']}")
    return gated_rotary(values)


NOMIC_BERT = Family(
    architectures("NomicBert"),
    "nomic_bert.",
    {
        "embeddings.word_embeddings": "embedding.word",
        "embeddings.token_type_embeddings": "embedding.type",
        "emb_ln": "embedding.norm",
        "pooler.dense": "pooler",
        **HEADS,
        **PREDICTIONS,
    },
    {
        "attn.Wqkv.query": "query",
        "attn.Wqkv.key": "key",
        "attn.Wqkv.value": "value",
        "attn.out_proj": "out",
        "norm1": "out.norm",
        "mlp.fc12": "up",  # its activation multiplies the other's columns
        "mlp.fc11": "gate",
        "mlp.fc2": "down",
        "norm2": "down.norm",
    },
    describe,
    layer=r"encoder\.layers\.(\d+)\.",
    joined={"attn.Wqkv": ("query", "key", "value")},
    lacks=lambda config: re.compile(r"layer\d+\.(query|key|value|out|up|gate|down)\.bias"),
)
