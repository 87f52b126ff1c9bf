"""Random small models and texts, far from what anybody trained: what must be right or flagged."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.shape import Activation, BertShape
from mpcnet.models.texts.tokens import Tokens

RARE = 5  # words that calibration does not see, with long embeddings
LENGTH, BATCH = 48, 8


class Draw:
    """Seeded choices."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def of(self, *values: float) -> float:
        return values[self.below(len(values))]

    def below(self, limit: int) -> int:
        return int(torch.randint(0, limit, (1,), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def ids(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator)


def model(draw: Draw) -> Checkpoint:
    """A small BERT of random sizes, whose weights, LayerNorms and rare words may be large."""
    return _weighted(draw, _sizes(draw))


def varied(draw: Draw) -> Checkpoint:
    """The same of other families: what a description can say beside a BERT's sizes."""
    shape = _sizes(draw)
    functions: list[Activation] = ["gelu", "gelu_tanh", "silu", "relu", "tanh"]
    shape = replace(shape, activation=functions[draw.below(5)])
    kind = draw.below(5)
    if kind == 0:
        return _weighted(draw, replace(shape, embedding_width=8, shared=(0,) * shape.layers))
    if kind == 1:
        return _weighted(draw, replace(shape, distances=8, farthest=LENGTH))
    shape = replace(shape, gated=True, rotary=(draw.of(10.0, 1e4),) * shape.layers)
    if kind > 2:
        shape = replace(shape, norm="before", windows=(3, 0)[: shape.layers])
    return _weighted(draw, shape)


def _sizes(draw: Draw) -> BertShape:
    heads = int(draw.of(1, 2, 4))
    return BertShape(
        layers=int(draw.of(1, 2)), hidden=heads * int(draw.of(8, 16)), heads=heads, ffn=int(draw.of(16, 48)), vocab=60,
        positions=LENGTH, types=int(draw.of(0, 1, 2)), eps=draw.of(1e-12, 1e-5),
    )  # fmt: skip


def _weighted(draw: Draw, shape: BertShape) -> Checkpoint:
    random, std, rare = random_checkpoint(shape, 0), draw.of(0.05, 0.2, 0.5, 1.0), draw.of(1, 5, 20)
    tensors = {}
    for name, value in random.tensors.items():
        noise = draw.normal(*value.shape)
        tensors[name] = 1 + 0.3 * noise if name.endswith("norm.weight") else std * noise
        if name.endswith("norm.weight") and draw.below(3) == 0:
            tensors[name][:1] *= 8
        if name == "embedding.word.weight":
            tensors[name][-RARE:] *= rare
    return replace(random, tensors=tensors)


def usual(draw: Draw, shape: BertShape) -> Tokens:
    """What calibration sees: no rare words, half of the positions."""
    return padded(draw, draw.ids(0, shape.vocab - RARE, 4, 2 + draw.below(LENGTH // 2)))


def any_texts(draw: Draw, shape: BertShape) -> Tokens:
    """Of any length, of all words, of one, or of rare ones."""
    ids = draw.ids(0, shape.vocab, BATCH, 2 + draw.below(LENGTH - 1))
    for row in range(BATCH):
        kind = draw.below(4)
        if kind == 0:
            ids[row] = ids[row, 0]
        if kind == 1:
            ids[row] = draw.ids(shape.vocab - RARE, shape.vocab, ids.shape[1])
    return padded(draw, ids)


def padded(draw: Draw, ids: Tensor) -> Tokens:
    batch, length = ids.shape
    mask = (torch.arange(length) < 1 + draw.ids(0, length, batch, 1)).long()
    return Tokens(ids * mask, torch.zeros_like(ids), mask)
