"""A residual that no LayerNorm changes: its fraction gives way to its size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from private import audit, private_model, share_model
from small_families import small

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint


def test_a_residual_that_grows() -> None:
    """Its fraction gives way to its size where it is normalised, and 1/sigma keeps its own."""
    checkpoint, tokens, _ = small("modernbert")
    large = dict(checkpoint.tensors)
    for i in range(4):
        large[f"layer{i}.down.weight"] = large[f"layer{i}.down.weight"] * 12
    grown = replace(checkpoint, tensors=large, sha256="grown")
    model = private_model(grown, [tokens], "fast", "exact")
    assert model.config.formats.stream_fracs[-1] < model.config.formats.stream_fracs[0] <= 14
    result, _, floats = model.run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9998
    assert model.config.formats.stream_frac == 14


@pytest.mark.parametrize(("factor", "frac", "error"), [(300, 13, 0.01), (10_000, 8, 0.05)])
def test_a_residual_beyond_4096(factor: int, frac: int, error: float) -> None:
    """It has fewer fraction bits from its start on, and so have the weights of what is added to it."""
    checkpoint, tokens, _ = small("modernbert")

    def grown(by: int) -> Checkpoint:
        tensors = {
            name: value * (by if name.endswith("down.weight") else 1) for name, value in checkpoint.tensors.items()
        }
        return replace(checkpoint, tensors=tensors, sha256=f"grown {by}")

    model = private_model(grown(factor), [tokens], "fast", "exact")
    assert model.config.formats.stream_frac == frac
    result, whole, floats = model.run(tokens)
    assert torch.cosine_similarity(result, floats).min() > 0.9999
    assert (result - floats).abs().max() < error and (result - whole).abs().max() < error
    values, flagged, _ = audit(model, tokens)
    assert flagged == [False] * len(values)
    with pytest.raises(LocalConfigError, match=r"layer\d\.down\.centred: want < 262144"):
        private_model(grown(30_000), [tokens], "fast", "exact")


def test_a_residual_that_leaves_its_ring_is_flagged() -> None:
    """Of a program that was planned for a smaller one."""
    checkpoint, tokens, _ = small("modernbert")
    tensors = {
        name: value * (2000 if name.endswith("down.weight") else 1) for name, value in checkpoint.tensors.items()
    }
    model = private_model(replace(checkpoint, tensors=tensors, sha256="grown"), [tokens], "fast", "exact")
    narrow = replace(model.config.formats, stream_frac=14)
    other = share_model(replace(model.config, formats=narrow), model.folded)
    assert all(audit(other, tokens)[1])
