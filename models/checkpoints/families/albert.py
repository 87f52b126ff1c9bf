"""ALBERT: a BERT of narrow embeddings whose layers share their weights, in one group or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families import bert
from mpcnet.models.checkpoints.families.family import FUNCTION, HEADS, Family, Setting, architectures


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    layers, groups = values["num_hidden_layers"], values["num_hidden_groups"]
    return bert.describe(values) | {
        "embedding_width": values["embedding_size"],
        "shared": tuple(int(i / (layers / groups)) for i in range(layers)),  # as transformers' AlbertTransformer has it
    }


ALBERT = Family(
    architectures("Albert"),
    "albert.",
    {
        **bert.EMBEDDINGS,
        "encoder.embedding_hidden_mapping_in": "projection",
        "pooler": "pooler",
        **HEADS,
        "predictions.dense": "transform",
        "predictions.LayerNorm": "transform.norm",
        "predictions.decoder": "decoder",
        "predictions": "decoder",  # its bias alone
    },
    {
        "attention.query": "query",
        "attention.key": "key",
        "attention.value": "value",
        "attention.dense": "out",
        "attention.LayerNorm": "out.norm",
        "ffn": "up",
        "ffn_output": "down",
        "full_layer_layer_norm": "down.norm",
    },
    describe,
    layer=r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.0\.",
    settings={"hidden_act": FUNCTION, "inner_group_num": Setting((1,), "take one whose groups are single layers")},
)
