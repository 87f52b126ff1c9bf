"""RoBERTa, and XLM-RoBERTa and CamemBERT, which differ from it in their tokenizers: a BERT whose positions begin behind
the padding's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.bert import EMBEDDINGS, LAYER
from mpcnet.models.checkpoints.families.family import LM_HEAD, OWN_MAP, Family, architectures, by_gelu, sizes


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    skipped = values["pad_token_id"] + 1  # the first token's position is the one behind the padding token's number
    return sizes(values) | {
        "positions": values["max_position_embeddings"] - skipped,
        "types": values["type_vocab_size"],
        "skipped_positions": skipped,
    }


def _family(name: str) -> Family:
    return Family(
        architectures(name),
        "roberta.",
        {**EMBEDDINGS, "pooler.dense": "pooler", **OWN_MAP, **LM_HEAD},
        LAYER,
        describe,
        masks=by_gelu,
    )


ROBERTA, XLM_ROBERTA, CAMEMBERT = (_family(name) for name in ("Roberta", "XLMRoberta", "Camembert"))
