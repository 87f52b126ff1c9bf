"""ELECTRA: a map where embeddings are narrower than layers, and a GeLU in a head."""

from __future__ import annotations

from small_families import private, small

from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model.reference import forward


def test_electra_in_another_suite() -> None:
    """GeLU in a head is the suite's own."""
    result, _, floats = private("electra", "secformer", 3).run(small("electra", 3)[1])
    assert (result - floats).abs().max() < 0.02


def test_electra_of_one_width_has_no_map() -> None:
    checkpoint, tokens, want = small("electra", embedding_size=32)
    assert checkpoint.shape.embedding_width == 0
    got = forward(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-9
