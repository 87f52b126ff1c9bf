"""DeBERTa: products with distances, and both of its heads for masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoders import save_encoder
from small_families import SAID, filler, private, small
from transformers import AutoModelForMaskedLM
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import answer, forward
from mpcnet.models.position_bias import distance_rows
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.program import Plans, Size


@pytest.mark.parametrize(("rows", "farthest"), [(256, 512), (32, 512), (8, 26), (4, 6)])
def test_rows_of_distances_are_debertas(rows: int, farthest: int) -> None:
    place = torch.arange(farthest)
    buckets = make_log_bucket_position(place[:, None] - place, rows, farthest).long()
    assert torch.equal(distance_rows(farthest, rows, farthest), (buckets + rows).clamp(0, 2 * rows - 1))


def test_texts_longer_than_the_table_of_distances() -> None:
    """What is further apart shares the last rows."""
    checkpoint, tokens, want = small("deberta", max_relative_positions=5)
    assert (checkpoint.shape.distances, checkpoint.shape.positions) == (5, 26)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2"])
def test_distances_cost_no_round(kind: str) -> None:
    model = private(kind, "fast")
    known_answer(model.config)
    flat = replace(model.config, shape=replace(model.config.shape, distances=0, farthest=0))
    ours, theirs = (Plans(config).infer(Size(1, 12)).ledger.operations for config in (model.config, flat))
    assert sum(cost.rounds for cost in ours.values()) == sum(cost.rounds for cost in theirs.values())
    assert sum(cost.sent_bytes for cost in ours.values()) == sum(cost.sent_bytes for cost in theirs.values())


@pytest.mark.parametrize(
    ("kind", "legacy"), [("deberta", True), ("deberta", False), ("deberta-v2", True), ("deberta-v2", False)]
)
def test_both_of_debertas_heads_for_masks(tmp_path: Path, kind: str, legacy: bool) -> None:
    """The later one decodes by the table; what is named as the other one is refused, whose weights would be random."""
    found, tokens, want = filler(kind, legacy=legacy)
    got = answer(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask, places=tokens.places)
    assert (got - want)[SAID].abs().max() < 1e-5
    save_encoder(tmp_path, kind, head=AutoModelForMaskedLM, legacy=legacy)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"legacy": not legacy}))
    with pytest.raises(LocalConfigError, match=r"unknown parameters: (lm_predictions\.lm_head|cls\.predictions)"):
        load_checkpoint(tmp_path)
