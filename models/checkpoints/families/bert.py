"""BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.family import HEADS, PREDICTIONS, Family, architectures, sizes

EMBEDDINGS = {
    "embeddings.word_embeddings": "embedding.word",
    "embeddings.position_embeddings": "embedding.position",
    "embeddings.token_type_embeddings": "embedding.type",
    "embeddings.LayerNorm": "embedding.norm",
}
LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "out.norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "down.norm",
}


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return sizes(values) | {"positions": values["max_position_embeddings"], "types": values["type_vocab_size"]}


BERT = Family(
    architectures("Bert"),
    "bert.",
    {**EMBEDDINGS, "pooler.dense": "pooler", **HEADS, **PREDICTIONS},
    LAYER,
    describe,
)
