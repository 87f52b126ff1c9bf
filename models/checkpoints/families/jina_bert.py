"""JinaBERT v2 (jina-embeddings-v2): a BERT whose scores fall with the distance of two tokens (ALiBi), gated.

Its model_type is "bert"; position_embedding_type "alibi" tells it apart. Its code is its own ("auto_map") and is never
run: what is here follows its description (arXiv 2310.19923).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families.bert import EMBEDDINGS, LAYER
from mpcnet.models.checkpoints.families.family import LONGEST, Family, Setting, sizes

GATED: Mapping[Any, str] = {"geglu": "gelu", "reglu": "relu"}  # whatever hidden_act says
CODE = re.compile(r"(jinaai/jina-bert-implementation--)?(configuration|modeling)_bert\.JinaBert\w+")


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    code = values.get("auto_map") or {}
    if not isinstance(code, dict) or not all(CODE.fullmatch(str(name)) for name in code.values()):
        raise LocalConfigError(f"auto_map: want jinaai/jina-bert-implementation or none, got {code}; take one of these")
    kind = values.get("feed_forward_type")
    if kind not in GATED:
        raise LocalConfigError(f"feed_forward_type: want {' or '.join(GATED)}, got {kind}; take a jina-embeddings-v2")
    return sizes(values) | {
        "positions": min(values["max_position_embeddings"], LONGEST),
        "types": values["type_vocab_size"],
        "activation": GATED[kind],
        "gated": True,
        "alibi": True,
    }


JINA_BERT = Family(
    ("JinaBertModel", "JinaBertForMaskedLM", "BertModel"),
    "bert.",
    {name: ours for name, ours in EMBEDDINGS.items() if ours != "embedding.position"} | {"pooler.dense": "pooler"},
    {name: ours for name, ours in LAYER.items() if not ours.startswith(("up", "down"))}
    | {
        "mlp.gated_layers.up": "up",  # its activation multiplies the other's columns
        "mlp.gated_layers.gate": "gate",
        "mlp.wo": "down",
        "mlp.layernorm": "down.norm",
    },
    describe,
    settings={"position_embedding_type": Setting(("alibi",), "take a jina-embeddings-v2")},
    checks=("auto_map",),
    joined={"mlp.gated_layers": ("up", "gate")},
    lacks=lambda config: re.compile(r"layer\d+\.(up|gate)\.bias"),
)
