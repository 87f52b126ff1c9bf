"""Rotary positions (RoPE): queries and keys are turned, pair of columns by pair, by an angle that grows with the place.

With x_1, x_2 the halves of a head's columns, the turned ones are x_1 cos - x_2 sin and x_2 cos + x_1 sin; the angle of
column j is place * base^(-2 j / columns). Angles, cosines and sines are computed in integers and decimals only: they
multiply shares, so two hosts must not differ by a rounding.

Source   [RoFormer] (Su et al. 2021), in the form of transformers' rotate_half
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache

import torch
from torch import Tensor

from mpcnet.protocols.series import TRIG_FRAC, turned

FRAC = 13  # fraction bits of cosines and sines
ANGLE_BITS = 20  # of a turn: its rounding is 6e-6
STEP_BITS = 44  # of a turn, of the angle from one place to the next: up to 2^19 places fit an int64
KEPT = 8  # lengths whose waves are kept: clients choose lengths, and 2048 places take a megabyte
DIGITS = Context(prec=50)
PI = Decimal("3.14159265358979323846264338327950288419716939937511")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn [..., n, columns] by [n, columns / 2]; integers stay integers."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


@lru_cache(maxsize=KEPT)
def waves(length: int, columns: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of every place and pair of columns, int64 [length, columns / 2] with `FRAC` fraction bits."""
    exact = turned(_angles(length, columns, base), ANGLE_BITS)
    drop = TRIG_FRAC - FRAC
    cos, sin = ((value + (1 << (drop - 1))) >> drop for value in exact)
    return cos, sin


@lru_cache(maxsize=KEPT)
def float_waves(length: int, columns: int, base: float) -> tuple[Tensor, Tensor]:
    """The same in float64, not rounded."""
    steps = torch.tensor([float(_step(j, columns, base)) for j in range(columns // 2)], dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * steps
    return angles.cos(), angles.sin()


def _angles(length: int, columns: int, base: float) -> Tensor:
    """In turns of 2^ANGLE_BITS."""
    scale = Decimal(1 << STEP_BITS)
    steps = [
        int(DIGITS.divide(DIGITS.multiply(_step(j, columns, base), scale), 2 * PI).to_integral_value())
        for j in range(columns // 2)
    ]
    places = torch.arange(length)[:, None] * torch.tensor(steps)
    return (places >> (STEP_BITS - ANGLE_BITS)) & ((1 << ANGLE_BITS) - 1)


def _step(j: int, columns: int, base: float) -> Decimal:
    """base^(-2 j / columns): ln and exp of decimal are correctly rounded."""
    power = DIGITS.divide(DIGITS.multiply(Decimal(-2 * j), DIGITS.ln(Decimal(base))), Decimal(columns))
    return DIGITS.exp(power)
