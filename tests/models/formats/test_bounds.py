"""Bounds hold for every text: for random ones, for those that come near, and exactly for the embedding's sums."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor
from wild import Draw, any_texts, model

from mpcnet.models.checkpoints.folding import centre, fold
from mpcnet.models.formats.bounds import SLACK, _norm, _norm_of_product, bounds
from mpcnet.models.formats.calibrate import Range, record


@pytest.mark.parametrize("seed", range(12))
def test_no_text_exceeds_them(seed: int) -> None:
    draw = Draw(seed)
    checkpoint = model(draw)
    shape, folded = checkpoint.shape, fold(checkpoint)
    known = bounds(shape, folded)
    seen: dict[str, Range] = {}
    for _ in range(20):
        record(shape, folded, any_texts(draw, shape), "exact", seen)
    for site, size in known.sizes.items():
        value = seen[site]
        assert value.absmax < size, site
    for site, (least, most) in known.square_sums.items():
        assert least <= seen[site].min * (1 + 1e-6) and seen[site].max <= most, site
    for i in range(shape.layers):
        for head in range(shape.heads):
            assert seen[f"layer{i}.head{head}.scores"].absmax < known.scores[i][head]


def test_the_embeddings_sums_are_those_of_all_combinations() -> None:
    checkpoint = model(Draw(1))
    shape, folded = checkpoint.shape, fold(checkpoint)
    words, types = folded["embedding.table"][: shape.vocab], folded["embedding.table"][shape.vocab :]
    types = types if shape.types else torch.zeros(1, shape.hidden)
    every = words[:, None, None] + types[None, :, None] + folded["embedding.position"][None, None]
    sums = every.square().sum(-1) + shape.hidden * shape.eps
    least, most = bounds(shape, folded).square_sums["embedding.square_sum"]
    assert least == pytest.approx(float(sums.min()) / SLACK, rel=1e-3)
    assert most == pytest.approx(float(sums.max()) * SLACK, rel=1e-3)


def test_a_scores_bound_is_nearly_met() -> None:
    """By N and N' along the singular vectors of A B', of which no text need have either."""
    checkpoint = model(Draw(2))
    shape, folded = checkpoint.shape, fold(checkpoint)
    d, k = shape.hidden, shape.head_dim
    weight, bias = centre(folded["layer0.qkv.weight"].T).T, folded["layer0.qkv.bias"]
    a, b = weight[:, :k], weight[:, d : d + k]
    left, _, right = torch.linalg.svd(a @ b.T)
    best = 0.0
    for first in (1, -1):
        for second in (1, -1):
            query, key = first * sqrt(d) * left[:, 0] @ a + bias[:k], second * sqrt(d) * right[0] @ b + bias[d : d + k]
            best = max(best, abs(float(query @ key)))
    bound = bounds(shape, folded).scores[0][0]
    assert 0.5 * bound < best < bound


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5)])
def test_spectral_norms(shape: tuple[int, int]) -> None:
    x, y = (
        torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) for size in (shape, (9, 3))
    )
    assert _norm(x) == pytest.approx(float(torch.linalg.matrix_norm(x, 2)))
    assert _norm_of_product(y, y.T) == pytest.approx(float(torch.linalg.matrix_norm(y @ y.T, 2)))


def test_a_classifiers_logits() -> None:
    """Differences of two logits, for pooled values of any sign."""
    checkpoint = model(Draw(4))
    shape = replace(checkpoint.shape, head="classification", labels=3, pooling="first")
    generator = torch.Generator().manual_seed(0)

    def some(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    d = shape.hidden
    tensors = {**checkpoint.tensors, "pooler.weight": some(d, d), "pooler.bias": some(d)}
    tensors |= {"classifier.weight": some(3, d), "classifier.bias": some(3)}
    folded = fold(replace(checkpoint, shape=shape, tensors=tensors))
    size = bounds(shape, folded).sizes["logits"]
    signs = torch.sign(folded["classifier.weight"][:, 0] - folded["classifier.weight"][:, 1])
    logits = torch.stack([signs, -signs]) @ folded["classifier.weight"] + folded["classifier.bias"]
    reached = float((logits.amax(1) - logits.amin(1)).max())
    assert reached <= size
