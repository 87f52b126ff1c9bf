"""ViT: patches of an image as rows, LayerNorms before each half of a layer, a classifier of the class token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.family import Family
from mpcnet.models.checkpoints.families.images import ATTENTION, EMBEDDINGS, describe_image, lacks, rewritten


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return describe_image(values) | {"ffn": values["intermediate_size"], "pooling": "cls"}


VIT = Family(
    ("ViTModel", "ViTForImageClassification"),
    "vit.",
    {**EMBEDDINGS, "pooler.dense": "pooler", "classifier": "classifier"},
    {
        **ATTENTION,
        "layernorm_after": "out.norm",
        "intermediate.dense": "up",
        "output.dense": "down",
    },
    describe,
    behind={"layernorm_before": "down.norm"},
    first={"layernorm_before": "embedding.norm"},
    table="patch",
    rewritten=rewritten,
    lacks=lacks,
)
