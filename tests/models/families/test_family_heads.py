"""The heads of every family that are of tokens or fill masks: float against transformers, private against float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import encoders
import pytest
import torch
from encoders import small_tokens
from private import audit, private_model, share_model
from small_families import POST_NORM, ROTARY, SAID, SINGLE, filler
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoModelForTokenClassification

from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import answer
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.private.program import Size
from mpcnet.protocols.division import RowRange


@pytest.mark.parametrize("head", ["TokenClassification", "QuestionAnswering"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_heads_of_tokens_are_transformers(tmp_path: Path, kind: str, head: str) -> None:
    """Of the families for which transformers has one."""
    labels = {"num_labels": 4} if head == "TokenClassification" else {}
    known = {"TokenClassification": AutoModelForTokenClassification, "QuestionAnswering": AutoModelForQuestionAnswering}
    config = AutoConfig.for_model(kind, **{**encoders.SIZES, **encoders.MORE.get(kind, {}), **labels})
    if type(config) not in known[head]._model_mapping:
        pytest.skip(f"transformers has no {head} of {kind}")
    torch.manual_seed(3)
    model = known[head].from_config(config).double().eval()
    encoders.train(model)
    model.float().save_pretrained(tmp_path)
    found = load_checkpoint(tmp_path)
    tokens = small_tokens(found.shape.types)
    types = {"token_type_ids": tokens.types} if found.shape.types else {}
    with torch.inference_mode():
        output = model.double()(input_ids=tokens.ids, attention_mask=tokens.mask, **types)
    want = output.logits if labels else torch.stack([output.start_logits, output.end_logits], -1)
    got = answer(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)
    assert found.shape.tells_tokens
    assert (got - want)[tokens.mask.bool()].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    if kind in ("electra", "gte", "modernbert"):  # what is private of it is the same for all others
        model = private_model(found, [tokens], "fast", "exact")
        result, _, floats = model.run(tokens)
        assert (result - floats)[tokens.mask.bool()].abs().max() < 0.04
        assert audit(model, tokens)[1] == [False] * 3
    if kind == "modernbert":  # a map, an activation and a LayerNorm before the last map, audited at every token
        plan = model.plans.infer(Size(3, 12)).ledger.operations
        assert sum(cost.rounds for name, cost in plan.items() if name.startswith("tokens")) == 8
        proved, seen = (
            bounds(found.shape, fold(found)),
            calibrate(found.shape, fold(found), [tokens], "").ranges["exact"],
        )
        assert seen["transform.centred"].absmax <= proved.sizes["transform.centred"]
        rows = model.config.formats.rows | {"transform.square_sum": RowRange(1e-3, 1e-2, 1e6)}
        narrow = share_model(replace(model.config, formats=replace(model.config.formats, rows=rows)), model.folded)
        assert audit(narrow, tokens)[1] == [True] * 3


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_filled_masks_are_transformers(kind: str) -> None:
    found, tokens, want = filler(kind)
    assert (found.shape.head, found.shape.columns) == ("fill-mask", 50)
    folded = fold(found)
    got = answer(found.shape, folded, tokens.ids, tokens.types, tokens.mask, places=tokens.places)
    assert (got - want)[SAID].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want.std() > 0.3
    proved = bounds(found.shape, folded)
    seen = calibrate(found.shape, folded, [tokens], found.sha256).ranges["exact"]
    for site in ("transform.up", "transform.centred"):
        assert seen[site].absmax <= proved.sizes[site]
    least, most = proved.square_sums["transform.square_sum"]
    assert least <= seen["transform.square_sum"].min and seen["transform.square_sum"].max <= most


@pytest.mark.parametrize(
    ("kind", "suite", "more"),
    [
        ("albert", "fast", {}),  # a transform narrower than the layers
        ("electra", "secformer", {}),
        ("modernbert", "fast", {"decoder_bias": False}),
        ("nomic_bert", "fast", {}),  # SiLU
        ("roberta", "fast", {"hidden_act": "relu"}),
    ],
)
def test_private_filler_is_float(kind: str, suite: str, more: dict[str, Any]) -> None:
    found, tokens, want = filler(kind, **more)
    model = private_model(found, [tokens], suite, "exact")
    result, whole, floats = model.run(tokens)
    assert (result - floats)[SAID].abs().max() < 0.04
    assert (result - whole).abs().max() < 0.04
    assert (floats - want)[SAID].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert audit(model, tokens)[1] == [False] * 3
