"""The fitted constants in the code are what mpcnet.protocols.fit prints."""

import numpy as np
import pytest

from mpcnet.protocols import fit
from mpcnet.protocols import gelu as G

COMMITTED = {
    "GELU_EVEN": G.EVEN_PART,
    "GELU_TANH_EVEN": G.TANH_EVEN_PART,
    "SILU_EVEN": G.SILU_EVEN_PART,
    "ERF": G.ERF_SINES,
    "TANH": G.TANH_SINES,
    "INNER": G.INNER,
    "OUTER": G.OUTER,
}


def test_every_constant_has_its_fit() -> None:
    assert COMMITTED.keys() == fit.FITS.keys()
    assert (fit.ODD, fit.SILU_ODD) == (G.ODD, G.SILU_ODD)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_constants_are_the_fits_output(name: str) -> None:
    assert np.abs(fit.FITS[name]() - np.array(COMMITTED[name])).max() <= 1e-6


@pytest.mark.parametrize(
    ("committed", "basis", "target", "low", "high", "error"),
    [
        (G.EVEN_PART, fit.cosines(16, fit.ODD), fit.gelu_even, 0.0, 4.25, 5.2e-5),
        (G.TANH_EVEN_PART, fit.cosines(16, fit.ODD), fit.gelu_tanh_even, 0.0, 4.25, 5.7e-5),
        (G.SILU_EVEN_PART, fit.cosines(32, fit.SILU_ODD), fit.silu_even, 0.0, 8.25, 6.9e-5),
        (G.ERF_SINES, fit.sines(16, range(1, 8)), fit.error_function, 0.0, 4.25, 1.3e-4),
        (G.TANH_SINES, fit.sines(16, range(1, 13)), np.tanh, 0.0, 5.0, 1.2e-4),
        (G.INNER, fit.powers((0, 2, 4, 6)), fit.gelu_even, 0.0, 2.25, 2.2e-3),
        (G.OUTER, fit.powers((0, 2, 4, 6)), fit.gelu_even, 2.25, 4.25, 2.2e-3),
    ],
)  # fmt: skip
def test_error_of_the_fits(committed, basis, target, low, high, error) -> None:  # type: ignore[no-untyped-def]
    x = np.linspace(low, high, 20_001)
    assert np.abs(basis(x) @ np.array(committed) - target(x)).max() <= error


def test_lawson_levels_the_error() -> None:
    """On a known problem: the best line through x^2 on [0, 1] is x - 1/8, with error 1/8."""
    found = fit.lawson(fit.powers((0, 1)), lambda x: x**2, 0, 1)
    assert np.abs(found - np.array([-0.125, 1.0])).max() < 2e-2
