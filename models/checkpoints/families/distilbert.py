"""DistilBERT: a BERT without types and pooler. Sinusoidal positions are stored like any others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.bert import EMBEDDINGS
from mpcnet.models.checkpoints.families.family import ACTIVATIONS, FUNCTION, HEADS, Family, architectures


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "layers": values["n_layers"],
        "hidden": values["dim"],
        "heads": values["n_heads"],
        "ffn": values["hidden_dim"],
        "vocab": values["vocab_size"],
        "positions": values["max_position_embeddings"],
        "types": 0,
        "eps": 1e-12,  # whatever config.json says
        "activation": ACTIVATIONS.get(values["activation"], "gelu"),
        "head_activation": "relu",
    }


DISTILBERT = Family(
    architectures("DistilBert"),
    "distilbert.",
    {name: ours for name, ours in EMBEDDINGS.items() if ours != "embedding.type"}
    | {
        "pre_classifier": "pooler",
        **HEADS,
        "vocab_transform": "transform",
        "vocab_layer_norm": "transform.norm",
        "vocab_projector": "decoder",
    },
    {
        "attention.q_lin": "query",
        "attention.k_lin": "key",
        "attention.v_lin": "value",
        "attention.out_lin": "out",
        "sa_layer_norm": "out.norm",
        "ffn.lin1": "up",
        "ffn.lin2": "down",
        "output_layer_norm": "down.norm",
    },
    describe,
    layer=r"transformer\.layer\.(\d+)\.",
    settings={"activation": FUNCTION},
)
