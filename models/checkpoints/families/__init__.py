"""Families of encoders: one file for each, from transformers' configuration and names to the description and ours.

May import: the public facts of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcnet.models.checkpoints.families.albert import ALBERT
from mpcnet.models.checkpoints.families.bert import BERT
from mpcnet.models.checkpoints.families.deberta import DEBERTA
from mpcnet.models.checkpoints.families.deberta_v2 import DEBERTA_V2
from mpcnet.models.checkpoints.families.dinov2 import DINOV2, DINOV2_WITH_REGISTERS
from mpcnet.models.checkpoints.families.distilbert import DISTILBERT
from mpcnet.models.checkpoints.families.electra import ELECTRA
from mpcnet.models.checkpoints.families.family import Family
from mpcnet.models.checkpoints.families.gte import GTE
from mpcnet.models.checkpoints.families.jina_bert import JINA_BERT
from mpcnet.models.checkpoints.families.modernbert import MODERNBERT
from mpcnet.models.checkpoints.families.mpnet import MPNET
from mpcnet.models.checkpoints.families.nomic_bert import NOMIC_BERT
from mpcnet.models.checkpoints.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA
from mpcnet.models.checkpoints.families.vit import VIT

FAMILIES: Mapping[str, Family] = {  # by model_type
    "albert": ALBERT,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA_V2,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2_WITH_REGISTERS,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "gte": GTE,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "nomic_bert": NOMIC_BERT,
    "roberta": ROBERTA,
    "vit": VIT,
    "xlm-roberta": XLM_ROBERTA,
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration that names one of them, with the names that its head has."""
    alibi = config["model_type"] == "bert" and config.get("position_embedding_type") == "alibi"
    return (JINA_BERT if alibi else FAMILIES[config["model_type"]]).configured(config)
