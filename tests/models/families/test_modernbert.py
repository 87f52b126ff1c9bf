"""ModernBERT: local windows, heads that normalise or take the mean, and settings by older names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoders import save_encoder
from private import audit, private_model, share_model
from small_families import private, small

from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.private.program import Plans, Size
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.division import RowRange


def test_a_head_that_normalises_is_audited() -> None:
    """Its sum of squares has a range of its own, which only what was calibrated is sure to keep."""
    model, tokens = private("modernbert", "fast", 3), small("modernbert", 3)[1]
    values, flagged, _ = audit(model, tokens)
    assert flagged == [False] * len(values)
    rows = model.config.formats.rows
    narrow = replace(model.config.formats, rows=rows | {"head.square_sum": RowRange(1e-3, 1e-2, 1e6)})
    other = share_model(replace(model.config, formats=narrow), model.folded)
    assert audit(other, tokens)[1] == [True] * len(values)


def test_local_windows_are_modernberts() -> None:
    """Longer rows than a window, on layers with and without one; and the window is part of what was compared."""
    checkpoint, tokens, want = small("modernbert")
    shape, folded = checkpoint.shape, fold(checkpoint)
    assert shape.windows == (0, 2, 2, 0)
    everywhere = forward(replace(shape, windows=()), folded, tokens.ids, tokens.types, tokens.mask)
    assert (everywhere - want)[tokens.mask.bool()].abs().max() > 0.1


@pytest.mark.parametrize("length", [7, 8, 9, 12])
def test_bands_of_any_length(length: int) -> None:
    """Whole blocks and parts of one; what a window leaves out changes nothing."""
    model, tokens = private("modernbert", "fast"), small("modernbert")[1]
    shorter = Tokens(*(x[:2, :length] for x in (tokens.ids, tokens.types, tokens.mask)))
    result, _, floats = model.run(shorter)
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("length", [120, 150])  # the format of numerators goes by the text, not by the band
def test_only_the_band_costs_anything(length: int) -> None:
    model = private("modernbert", "fast")
    config = replace(model.config, shape=replace(model.config.shape, positions=200))
    band, all_pairs = (
        Plans(replace(config, shape=replace(config.shape, windows=windows))).infer(Size(1, length)).ledger.operations
        for windows in ((0, 2, 2, 0), ())
    )
    assert sum(cost.rounds for cost in band.values()) == sum(cost.rounds for cost in all_pairs.values())
    for name, share in (("attention/exp", 0.15), ("attention", 0.7)):  # a row's maximum costs the same in both
        local, full = (plan[f"layer1/{name}"] for plan in (band, all_pairs))
        assert sum(local.dealt_bytes) < share * sum(full.dealt_bytes), name
        assert band[f"layer0/{name}"] == all_pairs[f"layer0/{name}"]


def test_older_names_of_modernberts_settings_are_read(tmp_path: Path) -> None:
    """As the published checkpoints have them; other layers and angles would be another model's."""
    save_encoder(tmp_path, "modernbert", num_hidden_layers=6)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    for name in ("layer_types", "rope_parameters"):
        del values[name]
    older = {"global_attn_every_n_layers": 2, "global_rope_theta": 5000.0, "local_rope_theta": 70.0}
    path.write_text(json.dumps(values | older))
    shape = load_checkpoint(tmp_path).shape
    assert shape.windows == (0, 2) * 3
    assert shape.rotary == (5000.0, 70.0) * 3


def test_biases_that_modernbert_may_have() -> None:
    more = {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
    checkpoint, tokens, want = small("modernbert", **more)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-5
    result, _, floats = private("modernbert", "fast", **more).run(tokens)
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("softmax", ["2quad", "2relu"])
def test_other_softmaxes(softmax: str) -> None:
    checkpoint, tokens, _ = small("modernbert")
    result, _, floats = private_model(checkpoint, [tokens], "fast", softmax).run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9995


def test_a_classifier_of_the_mean() -> None:
    """Of a text's own tokens, whatever stands beside it; a round more than of the first one."""
    checkpoint, tokens, want = small("modernbert", 3, classifier_pooling="mean")
    assert checkpoint.shape.pooling == "mean"
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < 1e-5
    model = private("modernbert", "fast", 3, classifier_pooling="mean")
    result, whole, floats = model.run(tokens)
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02
    assert audit(model, tokens)[1] == [False] * 3
    first = private("modernbert", "fast", 3).plans.infer(Size(3, 12)).ledger.of("pooler")
    mean = model.plans.infer(Size(3, 12)).ledger.of("pooler")
    assert (first.rounds, first.sent_bytes) == (1, 3 * 32 * 6)
    assert (mean.rounds, mean.sent_bytes) == (2, 3 * 32 * (4 + 6))
