"""DeBERTa v2 and v3: a BERT whose scores also know how far apart two tokens are, by what each of them holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families.bert import EMBEDDINGS, LAYER
from mpcnet.models.checkpoints.families.family import (
    FUNCTION,
    HEADS,
    PREDICTIONS,
    Family,
    Setting,
    architectures,
    sizes,
)

WANTED: Mapping[str, Any] = {  # what transformers takes for otherwise where config.json does not say it
    "relative_attention": True,
    "share_att_key": True,
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
}
BOTH = {"c2p", "p2c"}  # what of two tokens scores take part in: one's content, the other's distance
MODERN = "take a DeBERTa v3, or a v2 like it"


LATER_HEAD: Mapping[str, str] = {  # of masked tokens, if config.json says that it is not the "legacy" one
    "lm_predictions.lm_head.dense": "transform",
    "lm_predictions.lm_head.LayerNorm": "transform.norm",
    "lm_predictions.lm_head": "decoder",  # its bias alone: the table is what it decodes by
}


def heads(config: Mapping[str, Any]) -> Mapping[str, str]:
    """transformers would draw the other head's weights at random."""
    return PREDICTIONS if config.get("legacy", True) else LATER_HEAD


def disentangled(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What both versions have in common; the table of distances goes up to `farthest`."""
    kinds = values["pos_att_type"] or ()
    if set(kinds.split("|") if isinstance(kinds, str) else kinds) != BOTH:
        raise LocalConfigError(f"pos_att_type: want c2p and p2c, got {kinds}; {MODERN}")
    if values.get("embedding_size", values["hidden_size"]) != values["hidden_size"]:
        raise LocalConfigError(f"embedding_size: want hidden_size, got {values['embedding_size']}; {MODERN}")
    for name, value in wanted.items():
        if values.get(name) != value:
            raise LocalConfigError(f"{name}: want {str(value).lower()}, got {values.get(name)}; {MODERN}")
    farthest = values["max_relative_positions"]
    return sizes(values) | {
        "positions": values["max_position_embeddings"],
        "types": values["type_vocab_size"],
        "farthest": farthest if farthest >= 1 else values["max_position_embeddings"],
        "head_activation": "gelu",
    }


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    return disentangled(values, WANTED) | {"distances": values["position_buckets"]}


DEBERTA_V2 = Family(
    architectures("DebertaV2"),
    "deberta.",
    {name: ours for name, ours in EMBEDDINGS.items() if ours != "embedding.position"}
    | {
        "encoder.rel_embeddings": "distance",
        "encoder.LayerNorm": "distance.norm",
        "pooler.dense": "pooler",
        **HEADS,
    },
    {name: ours for name, ours in LAYER.items() if ours not in ("query", "key", "value")}
    | {
        "attention.self.query_proj": "query",
        "attention.self.key_proj": "key",
        "attention.self.value_proj": "value",
    },
    describe,
    heads=heads,
    settings={
        "hidden_act": FUNCTION,
        "conv_kernel_size": Setting((0, None), MODERN),
        "pooler_hidden_act": Setting(("gelu",), MODERN),
        "z_steps": Setting((0, None), MODERN),
    },
)
