"""GTE ("new" on the hub): a BERT with rotary positions and a gated feed-forward part."""

from __future__ import annotations

import re

from mpcnet.models.checkpoints.families.family import HEADS, LM_HEAD, Family, architectures, by_gelu, gated_rotary

GTE = Family(
    architectures("Gte"),
    "gte.",
    {
        "embeddings.word_embeddings": "embedding.word",
        "embeddings.token_type_embeddings": "embedding.type",
        "embeddings.LayerNorm": "embedding.norm",
        "pooler.dense": "pooler",
        **HEADS,
        **LM_HEAD,
        "lm_head.norm": "transform.norm",
    },
    {
        "attention.qkv_proj.query": "query",
        "attention.qkv_proj.key": "key",
        "attention.qkv_proj.value": "value",
        "attention.o_proj": "out",
        "attn_ln": "out.norm",
        "mlp.up_gate_proj.gate": "up",  # its activation multiplies the other's columns
        "mlp.up_gate_proj.up": "gate",
        "mlp.down_proj": "down",
        "mlp_ln": "down.norm",
    },
    gated_rotary,
    masks=by_gelu,
    joined={"attention.qkv_proj": ("query", "key", "value"), "mlp.up_gate_proj": ("up", "gate")},
    lacks=lambda config: re.compile(r"layer\d+\.(up|gate)\.bias"),
)
