"""Weights that a masked language model's file holds once, twice or under two names: its decoder is its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.supported import head_of
from mpcnet.models.checkpoints.tensors import Stored, floats

TABLE, DECODER, BIAS = "embedding.word.weight", "decoder.weight", "decoder.bias"
TWINS = ("predictions.bias", "predictions.decoder.bias", "lm_head.bias", "lm_head.decoder.bias")
BESIDE = (  # of a model's own training, beside the head that fills masks: BERT's, ALBERT's, DeBERTa's
    "cls.seq_relationship.", "sop_classifier.", "mask_predictions.",
)  # fmt: skip


def tie(
    config: Mapping[str, Any], stored: Mapping[str, Stored], theirs: dict[str, str], unknown: list[str]
) -> list[str]:
    """Complete the file's names of our parameters, and give what of `unknown` is left.

    :raises LocalConfigError: two that should be one differ.
    """
    if head_of(config, theirs) != "fill-mask":
        return unknown
    left = []
    for key in unknown:
        if key.endswith(TWINS) and BIAS in theirs:
            _same(stored, theirs[BIAS], key)
        elif not any(name in key for name in BESIDE):
            left.append(key)
    if config.get("tie_word_embeddings", True) is not False and TABLE in theirs:
        if DECODER in theirs:
            _same(stored, theirs[TABLE], theirs[DECODER])
        theirs[DECODER] = theirs[TABLE]
    return left


def _same(stored: Mapping[str, Stored], first: str, second: str) -> None:
    if stored[first].size == stored[second].size:
        values = floats(stored, {"first": first, "second": second})
        if torch.equal(values["first"], values["second"]):
            return
    raise LocalConfigError(
        f"{second}: want what {first} holds, to which it is tied, got other values; set tie_word_embeddings to false "
        "in config.json if the model was trained so, or save it again"
    )
