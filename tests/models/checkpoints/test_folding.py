"""Folded weights: names, sizes, and what is centred."""

from dataclasses import replace

import torch

from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.shape import BertShape

SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


def test_folded_names_and_shapes():
    shape = replace(SHAPE, head="classification", labels=3, pooling="first")
    folded = fold(random_checkpoint(shape, seed=1))
    want = {
        "embedding.table": (52, 8),
        "embedding.position": (32, 8),
        "final.gamma": (8,),
        "final.beta": (8,),
        "pooler.weight": (8, 8),
        "pooler.bias": (8,),
        "classifier.weight": (8, 3),
        "classifier.bias": (3,),
    }
    for i in range(2):
        want |= {f"layer{i}.qkv.weight": (8, 24), f"layer{i}.qkv.bias": (24,)}
        want |= {f"layer{i}.out.weight": (8, 8), f"layer{i}.out.bias": (8,), f"layer{i}.out.gamma": (8,)}
        want |= {f"layer{i}.up.weight": (8, 16), f"layer{i}.up.bias": (16,)}
        want |= {f"layer{i}.down.weight": (16, 8), f"layer{i}.down.bias": (8,), f"layer{i}.down.gamma": (8,)}
    assert {name: tuple(value.shape) for name, value in folded.items()} == want
    assert all(value.dtype == torch.float64 and value.is_contiguous() for value in folded.values())
    for name, value in folded.items():
        if name.endswith(("table", "position")) or ".out." in name or ".down." in name:
            assert name.endswith("gamma") or value.sum(-1).abs().max() < 1e-12, name
