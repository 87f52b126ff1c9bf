"""Every family: the float model is transformers', and the private one is the float model, at its planned cost."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from encoders import small_encoder, small_tokens
from private import Private, audit, private_model
from torch import Tensor

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.weights import Checkpoint, fold
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.formats.bounds import bounds
from mpcnet.models.formats.calibrate import calibrate
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens

ROTARY = ("gte", "modernbert", "nomic_bert")  # transformers has their angles in float32
POST_NORM = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")


@cache
def small(kind: str, labels: int = 0, **more: Any) -> tuple[Checkpoint, Tokens, Tensor]:
    """A model, tokens for it, and transformers' answer, [batch, seq, hidden] or [batch, labels]."""
    with TemporaryDirectory() as folder:
        checkpoint = small_encoder(Path(folder), kind, labels, **more)
        tokens = small_tokens(checkpoint.shape.types)
        run = huggingface_logits if labels else huggingface_hidden
        return checkpoint, tokens, run(checkpoint, tokens)


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_float_model_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind)
    valid = tokens.mask.bool()
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[valid].abs().max() < (1e-5 if kind in ROTARY else 1e-9)
    assert want[valid].std() > 0.3


@pytest.mark.parametrize("kind", (*POST_NORM, "gte", "nomic_bert"))
def test_classifier_is_transformers(kind: str) -> None:
    checkpoint, tokens, want = small(kind, 3)
    got = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want).abs().max() < (1e-5 if kind in ROTARY else 1e-9)
    assert want.std() > 0.1


@cache
def private(kind: str, suite: str, labels: int = 0, **more: Any) -> Private:
    checkpoint, tokens, _ = small(kind, labels, **more)
    return private_model(checkpoint, [tokens], suite, "exact")


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_private_is_float(kind: str) -> None:
    """`run` also checks rounds and bytes, offline and online, against the plan."""
    result, whole, floats = private(kind, "fast").run(small(kind)[1])
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert (result - whole).abs().max() < 0.02
    assert (result - floats).abs().max() < 0.02


@pytest.mark.parametrize("kind", POST_NORM)
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


def test_electra_in_another_suite() -> None:
    """GeLU in a head is the suite's own."""
    result, _, floats = private("electra", "secformer", 3).run(small("electra", 3)[1])
    assert (result - floats).abs().max() < 0.02


def test_albert_loads_its_layers_once() -> None:
    """All layers but the first have the same weights before them, so the same folded ones."""
    checkpoint, tokens, want = small("albert", num_hidden_layers=6, num_hidden_groups=2)
    assert checkpoint.shape.shared == (0, 0, 0, 1, 1, 1)
    folded = fold(checkpoint)
    got = forward(checkpoint.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9
    assert {name.partition(".")[0] for name in folded if name.endswith("qkv.weight")} == {
        "layer0", "layer1", "layer3", "layer4"
    }  # fmt: skip
    assert {name.partition(".")[0] for name in folded if name.endswith("up.weight")} == {"layer0", "layer3"}
    result, _, floats = private("albert", "fast", num_hidden_layers=6, num_hidden_groups=2).run(tokens)
    assert (result - floats).abs().max() < 0.02


def test_electra_of_one_width_has_no_map() -> None:
    checkpoint, tokens, want = small("electra", embedding_size=32)
    assert checkpoint.shape.embedding_width == 0
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


def test_an_albert_of_one_width_has_a_map() -> None:
    checkpoint, tokens, want = small("albert", embedding_size=32)
    assert checkpoint.shape.embedding_width == 32
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


def test_sinusoidal_positions_are_read() -> None:
    checkpoint, tokens, want = small("distilbert", sinusoidal_pos_embds=True)
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_robertas_positions_begin_behind_the_paddings(pad: int) -> None:
    checkpoint, _, _ = small("roberta", pad_token_id=pad)
    assert checkpoint.shape.positions == 26 - pad - 1
    with TemporaryDirectory() as folder:
        found = small_encoder(Path(folder), "roberta", pad_token_id=pad)
        length = found.shape.positions  # all of them
        ids = 4 + torch.arange(2 * length).reshape(2, length) % 46
        mask = torch.ones_like(ids)
        mask[1, 5:], ids[1, 5:] = 0, pad
        tokens = Tokens(ids, torch.zeros_like(ids), mask)
        want = huggingface_hidden(found, tokens)
    folded = fold(found)
    got = forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[mask.bool()].abs().max() < 1e-9
    more = torch.cat([ids, ids[:, :1]], 1)
    with pytest.raises(LocalInputError, match=f"want at most {length} positions"):
        forward(found.shape, folded, more, torch.zeros_like(more), torch.ones_like(more))
    with pytest.raises(LocalInputError, match="want padding after the tokens"):
        forward(found.shape, folded, tokens.ids, tokens.types, tokens.mask.flip(1))


@pytest.mark.parametrize("kind", ["albert", "electra", "roberta", *ROTARY])
def test_nothing_is_flagged_of_what_was_calibrated(kind: str) -> None:
    values, flagged, _ = audit(private(kind, "fast"), small(kind)[1])
    assert flagged == [False] * len(values)


@pytest.mark.parametrize("kind", (*POST_NORM, *ROTARY))
def test_bounds_hold(kind: str) -> None:
    """No calibrated value exceeds what the weights prove."""
    checkpoint, tokens, _ = small(kind, 0 if kind == "modernbert" else 3)
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
