"""DeBERTa v1: as v2, but each distance has a row of its own, and each layer maps of its own for these rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families import deberta_v2
from mpcnet.models.checkpoints.families.bert import LAYER
from mpcnet.models.checkpoints.families.deberta_v2 import DEBERTA_V2, disentangled, heads
from mpcnet.models.checkpoints.families.family import FUNCTION, Family, Setting, architectures

WANTED: Mapping[str, Any] = {"relative_attention": True, "position_biased_input": False}


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    described = disentangled(values, WANTED)
    return described | {"distances": described["farthest"], "farthest": 0}


DEBERTA = Family(
    architectures("Deberta"),
    "deberta.",
    {name: ours for name, ours in DEBERTA_V2.outside.items() if ours != "distance.norm"},
    {name: ours for name, ours in LAYER.items() if ours not in ("query", "key", "value")}
    | {
        "attention.self.in_proj.query": "query",
        "attention.self.in_proj.key": "key",
        "attention.self.in_proj.value": "value",
        "attention.self.pos_proj": "distance.key",
        "attention.self.pos_q_proj": "distance.query",
    },
    describe,
    heads=heads,
    settings={
        "hidden_act": FUNCTION,
        "pooler_hidden_act": Setting(("gelu",), deberta_v2.MODERN),
        "talking_head": Setting((False, None), deberta_v2.MODERN),
    },
    joined={"attention.self.in_proj": ("query", "key", "value")},
    by_head=True,
    alone={"self.q_bias": "self.in_proj.query.bias", "self.v_bias": "self.in_proj.value.bias"},
    lacks=lambda config: re.compile(r"layer\d+\.(distance\.)?key\.bias"),
)
