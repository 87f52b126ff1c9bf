"""Every family: the float model is transformers', and the private one is the float model, at its planned cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from encoders import save_encoder
from private import audit
from small_families import POST_NORM, ROTARY, SINGLE, private, small

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.formats import bounds as bounds_module
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.shape import BertShape


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_float_model_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind)
    valid = tokens.mask.bool()
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[valid].abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want[valid].std() > 0.3


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_classifier_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind, 3)
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < (1e-5 if kind in SINGLE else 1e-9)
    assert want.std() > 0.1


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_private_is_float(kind: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(kind, "fast").run(small(kind)[1])
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert (result - whole).abs().max() < 0.02
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", (*POST_NORM, "modernbert"))
def test_private_classifier_is_float(kind: str) -> None:
    result, _, floats = private(kind, "fast", 3).run(small(kind, 3)[1])
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "silu", "relu", "tanh"])
def test_other_activations(activation: str) -> None:
    checkpoint, tokens, want = small("bert", hidden_act=activation)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9
    result, whole, floats = private("bert", "fast", hidden_act=activation).run(tokens)
    assert (result - floats).abs().max() < 0.02
    assert (result - whole).abs().max() < 0.02


@pytest.mark.parametrize("kind", ["albert", "deberta-v2", "electra", "roberta", *ROTARY])
def test_nothing_is_flagged_of_what_was_calibrated(kind: str) -> None:
    values, flagged, _ = audit(private(kind, "fast"), small(kind)[1])
    assert flagged == [False] * len(values)


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_bounds_hold(kind: str) -> None:
    """No calibrated value exceeds what the weights prove."""
    checkpoint, tokens, _ = small(kind, 3)
    folded = fold(checkpoint)
    proved = bounds(checkpoint.shape, folded)
    seen = calibrate(checkpoint.shape, folded, [tokens], checkpoint.sha256).ranges["exact"]
    for site, most in proved.sizes.items():
        if site != "logits":  # of which differences are bounded
            assert seen[site].absmax <= most, site
    for site, (least, most) in proved.square_sums.items():
        assert least <= seen[site].min and seen[site].max <= most, site
    for i, heads in enumerate(proved.scores):
        for head, most in enumerate(heads):
            assert seen[f"layer{i}.head{head}.scores"].absmax <= most


def test_descriptions_go_round() -> None:
    for kind in (*POST_NORM, *ROTARY):
        shape = small(kind)[0].shape
        assert BertShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
    with pytest.raises(LocalConfigError, match="shared: want the weights of 3 layers, counted as they come"):
        replace(small("albert")[0].shape, shared=(0, 2, 1))


@pytest.mark.parametrize(
    ("kind", "more", "says"),
    [
        ("gte", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e3, "factor": 4.0}}, "want rope_type default"),
        ("nomic_bert", {"head_dim": 8}, "head_dim: want hidden_size / num_attention_heads, got 8"),
        ("deberta", {"talking_head": True}, "talking_head: want false, got True; take a DeBERTa v3"),
        ("deberta", {"position_biased_input": True}, "position_biased_input: want false, got True"),
        ("deberta-v2", {"pos_att_type": ["c2p"]}, "pos_att_type: want c2p and p2c, got .*c2p"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size: want 0, got 3; take a DeBERTa v3"),
        ("deberta-v2", {"share_att_key": None}, "share_att_key: want true, got None"),
        ("deberta-v2", {"position_biased_input": True}, "position_biased_input: want false, got True"),
        ("deberta-v2", {"position_buckets": -1}, "distances: want a whole number of at least 0, got -1"),
        (
            "modernbert",
            {"architectures": ["ModernBertForSequenceClassification"], "classifier_pooling": "max"},
            "classifier_pooling: want cls or mean, got max; correct config.json",
        ),
        ("modernbert", {"hidden_activation": "mish"}, "hidden_activation: want gelu, gelu_new, .*, got mish"),
    ],
)
def test_other_angles_and_widths_are_refused(tmp_path: Path, kind: str, more: dict[str, Any], says: str) -> None:
    save_encoder(tmp_path, kind)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path)


def test_bounds_of_more_embeddings_than_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """250,002 words at 8,192 positions: what their norms tell holds as well, if less tightly."""
    checkpoint, _, _ = small("xlm-roberta")
    folded = fold(checkpoint)
    counted = bounds(checkpoint.shape, folded).square_sums["embedding.square_sum"]
    monkeypatch.setattr(bounds_module, "MOST_COMBINATIONS", 100)
    told = bounds(checkpoint.shape, folded).square_sums["embedding.square_sum"]
    assert 0 < told[0] <= counted[0] <= counted[1] <= told[1] < 4 * counted[1]
