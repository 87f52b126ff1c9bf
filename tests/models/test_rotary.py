"""RoPE: the angles of transformers, in integers that every host computes alike."""

from __future__ import annotations

import pytest
import torch
from transformers import NomicBertConfig
from transformers.models.nomic_bert.modeling_nomic_bert import NomicBertRotaryEmbedding, apply_rotary_pos_emb

from mpcnet.models import rotary

LENGTH = 96


@pytest.mark.parametrize(("base", "columns"), [(1000.0, 16), (160_000.0, 64)])
def test_queries_are_turned_as_transformers_turns_them(base: float, columns: int) -> None:
    config = NomicBertConfig(
        hidden_size=2 * columns, num_attention_heads=2, rope_parameters={"rope_theta": base, "rope_type": "default"}
    )
    x = torch.randn(1, 2, LENGTH, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cos, sin = NomicBertRotaryEmbedding(config)(x, torch.arange(LENGTH)[None])
    want, _ = apply_rotary_pos_emb(x, x, cos, sin)
    exact = rotary.float_waves(LENGTH, columns, base)
    assert (rotary.rotate(x, *exact) - want).abs().max() < 2e-5  # theirs are in float32
    integers = rotary.waves(LENGTH, columns, base)
    got = rotary.rotate(torch.round(x * 2**20).long(), *integers).double() * 2.0 ** -(20 + rotary.FRAC)
    assert (got - want).abs().max() < 4 * 2.0**-rotary.FRAC
    assert all(not value.is_floating_point() for value in integers)


def test_integers_are_the_nearest_far_out() -> None:
    """Where places are many and steps of angles small, products of both are still exact enough."""
    for exact, made in zip(rotary.float_waves(2048, 64, 1e4), rotary.waves(2048, 64, 1e4), strict=True):
        assert (made.double() * 2.0**-rotary.FRAC - exact).abs().max() < 0.55 * 2.0**-rotary.FRAC


def test_known_words() -> None:
    """A few integers written down: another host must not differ."""
    cos, sin = rotary.waves(8, 4, 1000.0)
    assert cos.tolist() == [
        [8192, 8192],
        [4426, 8188],
        [-3409, 8176],
        [-8110, 8155],
        [-5355, 8127],
        [2324, 8090],
        [7866, 8045],
        [6176, 7992],
    ]
    assert sin.tolist() == [
        [0, 0],
        [6893, 259],
        [7449, 518],
        [1156, 776],
        [-6200, 1033],
        [-7856, 1290],
        [-2289, 1545],
        [5382, 1799],
    ]


def test_many_lengths_keep_the_waves_of_a_few() -> None:
    """A server sees texts of all lengths, for months."""
    for made in (rotary.waves, rotary.float_waves):
        for length in range(1, 40):
            made(length, 4, 10_000.0)
        assert made.cache_info().currsize == rotary.KEPT
