"""ELECTRA: a BERT whose embeddings may be narrower than its layers; generators and discriminators alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families import bert
from mpcnet.models.checkpoints.families.family import OWN_MAP, Family, architectures, by_gelu


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    narrow = values["embedding_size"] != values["hidden_size"]  # else there is no map, where ALBERT has one
    return bert.describe(values) | {
        "embedding_width": values["embedding_size"] if narrow else 0,
        "head_activation": "gelu",
    }


ELECTRA = Family(
    architectures("Electra"),
    "electra.",
    {
        **bert.EMBEDDINGS,
        "embeddings_project": "projection",
        **OWN_MAP,
        "generator_predictions.dense": "transform",
        "generator_predictions.LayerNorm": "transform.norm",
        "generator_lm_head": "decoder",
    },
    bert.LAYER,
    describe,
    masks=by_gelu,
)
