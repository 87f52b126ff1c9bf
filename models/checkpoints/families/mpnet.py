"""MPNet: a BERT without types, with a bias on its scores by the distance of two tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.bert import EMBEDDINGS, LAYER
from mpcnet.models.checkpoints.families.family import (
    FUNCTION,
    LM_HEAD,
    OWN_MAP,
    Family,
    Setting,
    architectures,
    by_gelu,
    sizes,
)

SKIPPED = 2  # positions count from padding_idx + 1; transformers' MPNetEmbeddings has padding_idx 1


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return sizes(values) | {
        "positions": values["max_position_embeddings"] - SKIPPED,
        "types": 0,
        "relative_buckets": values["relative_attention_num_buckets"],
        "skipped_positions": SKIPPED,
    }


MPNET = Family(
    architectures("MPNet"),
    "mpnet.",
    {name: ours for name, ours in EMBEDDINGS.items() if ours != "embedding.type"}
    | {
        "encoder.relative_attention_bias": "relative",
        "pooler.dense": "pooler",
        **OWN_MAP,
        **LM_HEAD,
    },
    {
        "attention.attn.q": "query",
        "attention.attn.k": "key",
        "attention.attn.v": "value",
        "attention.attn.o": "out",
        "attention.LayerNorm": "out.norm",
        **{name: ours for name, ours in LAYER.items() if ours in ("up", "down", "down.norm")},
    },
    describe,
    masks=by_gelu,
    settings={
        "hidden_act": FUNCTION,
        # transformers' MPNet uses 32, whatever is written here
        "relative_attention_num_buckets": Setting((None, 32), "correct config.json"),
    },
)
