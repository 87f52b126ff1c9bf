"""ALBERT: layers with shared weights, and a map behind narrow embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoders import save_encoder
from safetensors.torch import load_file, save_file
from small_families import private, small
from transformers import AutoModelForMaskedLM

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import forward


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


def test_an_albert_of_one_width_has_a_map() -> None:
    checkpoint, tokens, want = small("albert", embedding_size=32)
    assert checkpoint.shape.embedding_width == 32
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9


def test_what_alberts_own_training_leaves_beside(tmp_path: Path) -> None:
    save_encoder(tmp_path, "albert", head=AutoModelForMaskedLM)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    more = {"sop_classifier.classifier.bias": torch.zeros(2), "predictions.decoder.bias": tensors["predictions.bias"]}
    save_file(tensors | {name: value.clone() for name, value in more.items()}, file, {"format": "pt"})
    assert load_checkpoint(tmp_path).shape.fills
    more["predictions.decoder.bias"] = more["predictions.decoder.bias"] + 1
    save_file(tensors | more, file, {"format": "pt"})
    with pytest.raises(LocalConfigError, match=r"decoder.bias: want what predictions.bias holds"):
        load_checkpoint(tmp_path)
