"""Random weights, and what a digest covers."""

import torch

from mpcnet.models.checkpoints.checkpoint import digest, random_checkpoint
from mpcnet.models.shape import BertShape

SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


def test_random_weights_are_marked_and_repeatable():
    one, two, three = (random_checkpoint(SHAPE, seed) for seed in (1, 1, 2))
    assert one.sha256 == two.sha256 != three.sha256
    assert one.origin.startswith("RANDOM")
    assert one.source == ""


def test_digest_covers_name_shape_and_bytes():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"c": torch.zeros(2, 3), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(1)},
    ]
    assert digest(dict(reversed(base.items()))) == digest(base)
    assert len({digest(values) for values in [base, *others]}) == 4
