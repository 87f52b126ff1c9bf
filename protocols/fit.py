"""How the fitted constants of :mod:`mpcnet.protocols.series` and :mod:`mpcnet.protocols.gelu` were made.

Near-minimax least squares (Lawson's reweighting) on Chebyshev points. Run `python -m mpcnet.protocols.fit` to print
them.

Source   [Lawson61]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erf

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
POINTS, PASSES = 4001, 300  # points well above the number of extrema; passes until the error is level


def lawson(basis: Callable[[Reals], Reals], target: Callable[[Reals], Reals], low: float, high: float) -> Reals:
    """Coefficients of `basis` (points x columns) with nearly least maximal error on [low, high]."""
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(0, np.pi, POINTS))
    columns, wanted, weight = basis(x), target(x), np.ones(POINTS)
    best: Reals = np.zeros(columns.shape[1])
    least = np.inf
    for _ in range(PASSES):
        found: Reals = np.linalg.lstsq(columns * weight[:, None], wanted * weight, rcond=1e-13)[0].astype(np.float64)
        error = np.abs(columns @ found - wanted)
        if error.max() < least:
            best, least = found, error.max()
        weight = weight * np.sqrt(error / error.max() + 1e-3)
        weight = weight / weight.max()
    return best


def cosines(period: float, harmonics: Sequence[int]) -> Callable[[Reals], Reals]:
    return lambda x: np.stack([np.cos(2 * np.pi * k * x / period) for k in harmonics], 1)


def sines(period: float, harmonics: Sequence[int]) -> Callable[[Reals], Reals]:
    return lambda x: np.stack([np.sin(2 * np.pi * k * x / period) for k in harmonics], 1)


def powers(exponents: Sequence[int]) -> Callable[[Reals], Reals]:
    return lambda x: np.stack([x**k for k in exponents], 1)


def error_function(x: Reals) -> Reals:
    """erf(x / sqrt 2), the odd part of GeLU: GeLU(x) = x/2 (1 + erf(x / sqrt 2))."""
    return np.array([erf(value / 2**0.5) for value in x])


def gelu_even(x: Reals) -> Reals:
    """E(x) = x erf(x / sqrt 2) / 2, the even part of GeLU: GeLU(x) = x/2 + E(x)."""
    return x * error_function(x) / 2


def gelu_tanh_even(x: Reals) -> Reals:
    """The even part of GeLU by tanh."""
    found: Reals = x * np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)) / 2
    return found


def silu_even(x: Reals) -> Reals:
    """The even part of SiLU, x / (1 + e^-x)."""
    found: Reals = x * np.tanh(x / 2) / 2
    return found


ODD = (0, 1, 3, 5, 7, 9)
SILU_ODD = (*ODD, 11, 13, 15)
FITS: dict[str, Callable[[], Reals]] = {
    "GELU_EVEN": lambda: lawson(cosines(16, ODD), gelu_even, 0, 4.25),
    "GELU_TANH_EVEN": lambda: lawson(cosines(16, ODD), gelu_tanh_even, 0, 4.25),
    "SILU_EVEN": lambda: lawson(cosines(32, SILU_ODD), silu_even, 0, 8.25),
    "ERF": lambda: lawson(sines(16, range(1, 8)), error_function, 0, 4.25),
    "TANH": lambda: lawson(sines(16, range(1, 13)), np.tanh, 0, 5.0),
    "INNER": lambda: lawson(powers((0, 2, 4, 6)), gelu_even, 0, 2.25),
    "OUTER": lambda: lawson(powers((0, 2, 4, 6)), gelu_even, 2.25, 4.25),
}

if __name__ == "__main__":
    for name, fit in FITS.items():
        print(name, [float(f"{value:.10g}") for value in fit()])
