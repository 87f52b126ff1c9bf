"""ModernBERT: LayerNorms before each half of a layer, rotary positions, local windows, a gated feed-forward part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families.family import (
    ACTIVATIONS,
    FUNCTION,
    LONGEST,
    Family,
    architectures,
    rope_base,
)


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    kinds, ropes = values["layer_types"], values["rope_parameters"]
    pooling = values["classifier_pooling"]
    if ends(values, "ForSequenceClassification") and pooling not in ("cls", "mean"):
        raise LocalConfigError(f"classifier_pooling: want cls or mean, got {pooling}; correct config.json")
    return {
        "layers": values["num_hidden_layers"],
        "hidden": values["hidden_size"],
        "heads": values["num_attention_heads"],
        "ffn": values["intermediate_size"],
        "vocab": values["vocab_size"],
        "positions": min(values["max_position_embeddings"], LONGEST),
        "types": 0,
        "eps": float(values["norm_eps"]),
        "activation": ACTIVATIONS.get(values["hidden_activation"], "gelu"),
        "head_activation": ACTIVATIONS.get(kind := values["classifier_activation"], kind),
        "head_norm": True,
        "classifies": "mean" if pooling == "mean" else "first",
        "norm": "before",
        "gated": True,
        "rotary": tuple(rope_base(ropes[kind]) for kind in kinds),
        "windows": tuple(0 if kind == "full_attention" else values["local_attention"] // 2 for kind in kinds),
    }


def lacks(config: Mapping[str, Any]) -> re.Pattern[str]:
    """Biases of maps and of LayerNorms that config.json does not ask for."""
    kinds = [
        (config.get("attention_bias", False), r"layer\d+\.(query|key|value|out)\.bias"),
        (config.get("mlp_bias", False), r"layer\d+\.(up|gate|down)\.bias"),
        (config.get("norm_bias", False), r"(.+\.)?norm\.bias"),
        (config.get("classifier_bias", False), r"(pooler|transform)\.bias"),
        (config.get("decoder_bias", True), r"decoder\.bias"),
    ]
    return re.compile("|".join(["(?!)", *(pattern for there, pattern in kinds if not there)]))


def heads(config: Mapping[str, Any]) -> Mapping[str, str]:
    """What is called "head" stands before whatever last map there is."""
    ours = "transform" if ends(config, "ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering") else "pooler"
    last = "span" if ends(config, "ForQuestionAnswering") else "classifier"
    return {"head.dense": ours, "head.norm": f"{ours}.norm", "classifier": last}


def ends(config: Mapping[str, Any], *heads: str) -> bool:
    """Whether an architecture's name has one of these ends."""
    return any(str(name).endswith(heads) for name in config.get("architectures") or [])


MODERNBERT = Family(
    architectures("ModernBert"),
    "model.",
    {
        "embeddings.tok_embeddings": "embedding.word",
        "embeddings.norm": "embedding.norm",
        "final_norm": "final.norm",
        "decoder": "decoder",
    },
    {
        "attn.Wqkv.query": "query",
        "attn.Wqkv.key": "key",
        "attn.Wqkv.value": "value",
        "attn.Wo": "out",
        "mlp_norm": "out.norm",
        "mlp.Wi.up": "up",
        "mlp.Wi.gate": "gate",
        "mlp.Wo": "down",
    },
    describe,
    layer=r"layers\.(\d+)\.",
    behind={"attn_norm": "down.norm"},
    heads=heads,
    masks=lambda described: str(described["head_activation"]),
    settings={"hidden_activation": FUNCTION},
    joined={"attn.Wqkv": ("query", "key", "value"), "mlp.Wi": ("up", "gate")},
    lacks=lacks,
)
