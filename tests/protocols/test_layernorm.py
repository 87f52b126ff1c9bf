"""LayerNorm of centred rows, against torch's."""

import pytest
import torch
from checks import Input, check_corruption, check_cost, distance, few, outcome
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build
from torch import Tensor

from mpcnet.protocols import cells
from mpcnet.protocols.division import RSQRT_LIMIT, RowRange, rsqrt
from mpcnet.protocols.layernorm import Root, layer_norm
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

EPS = 1e-5


def norm(rows: RowRange, root: Root = rsqrt) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return await layer_norm(p, x, EPS, rows, 14, 12, root)

    return build


def centred(rows: int, width: int, scale: Tensor | float, seed: int = 0) -> Input:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return Input(torch.round((x - x.mean(-1, keepdim=True)) * 2**14) / 2**14, 28, 14)


def real(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS)


def square_sums(x: Input) -> RowRange:
    total = (x.x * x.x).sum(-1) + x.x.shape[-1] * EPS
    return RowRange(float(total.min()) / 1.5, float(total.max()) * 1.5)


def allowed(x: Tensor) -> Tensor:
    """Goldschmidt's 5e-4 of the value, an ulp of 1/sigma times x, and two of the result."""
    return 5e-4 * real(x).abs() + 2.0**-14 * x.abs() + 2 * 2.0**-12


@few
@given(st.integers(1, 5), st.integers(2, 40), st.floats(0.3, 5), st.integers(0, 2**31))
def test_layer_norm(rows: int, width: int, scale: float, seed: int) -> None:
    x = centred(rows, width, scale, seed)
    done = outcome(norm(square_sums(x)), x, seed=seed)
    for value in (done.value, done.oracle):
        assert ((value - real(x.x)).abs() <= allowed(x.x)).all()


@pytest.mark.parametrize("pair", [(0.8, 17.0), (35.0, 80_000.0)], ids=str)
def test_over_the_calibrated_range(pair: tuple[float, float]) -> None:
    """Rows whose sums of squares fill the range evenly in the logarithm, at the width of MiniLM."""
    width = 384
    wanted = torch.logspace(0, 1, 60, base=pair[1] / pair[0], dtype=torch.float64) * pair[0]
    x = centred(60, width, 1.0).x
    scale = ((wanted * 0.99 + 0.005).clamp(min=pair[0] * 1.01) / (x * x).sum(-1)).sqrt()
    x = Input(torch.round(x * scale.unsqueeze(-1) * 2**14) / 2**14, 28, 14)
    rows = RowRange(*pair)
    done = outcome(norm(rows), x)
    # Narrow rows keep few fraction bits: their own rounding to 14 bits is part of the input, not of the error.
    for value in (done.value, done.oracle):
        error = (value - real(x.x)).abs() / (1 + real(x.x).abs())
        assert float(error.max()) <= 1e-3
    t = rows.rsqrt_steps(rows.deflation(RSQRT_LIMIT))
    check_cost(done, rounds=2 * t + 1, sent=60 * (width * 4 + (13 * t - 9) + 4))
    assert (done.run.results[0].bits, done.run.results[0].frac) == (64 - (14 + 14 - 12), 12)


def test_three_rounds_with_point_functions() -> None:
    """The input, its sum of squares, the factor: 4, 3 and 5 bytes."""
    x = centred(60, 384, 0.1)
    done = outcome(norm(RowRange(0.8, 17.0), cells.rsqrt), x)
    for value in (done.value, done.oracle):
        assert ((value - real(x.x)).abs() <= allowed(x.x)).all()
    check_cost(done, rounds=3, sent=60 * (384 * 4 + 3 + 6))


def test_against_torch_with_weights_folded() -> None:
    """The whole of torch's layer_norm: the mean removed before, gamma and beta applied after."""
    generator = torch.Generator().manual_seed(3)
    raw, gamma, beta = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((20, 64), (64,), (64,))
    )
    x = raw - raw.mean(-1, keepdim=True)
    x = Input(torch.round(x * 2**14) / 2**14, 28, 14)
    value = outcome(norm(square_sums(x)), x).value * gamma + beta
    assert distance(value, torch.nn.functional.layer_norm(raw, (64,), gamma, beta, EPS)) <= 5e-3


def test_edges() -> None:
    """Zero entries, one ulp, and entries near the limit |x| < 2^(k-2) of the ring."""
    ulp, limit = 2.0**-14, 2.0**12 - 1
    x = Input(torch.tensor([[0.0, ulp, -ulp, limit, -limit, 0.0, 1.0, -1.0]] * 20, dtype=torch.float64), 28, 14)
    rows = RowRange(1e7, 5e7)
    assert ((outcome(norm(rows), x).value - real(x.x)).abs() <= allowed(x.x)).all()


@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8)])
def test_no_rows(shape: tuple[int, ...]) -> None:
    x = Input(torch.zeros(shape, dtype=torch.float64), 28, 14)
    assert outcome(norm(RowRange(0.8, 17.0)), x).value.shape == shape


def test_one_corrupted_reply_changes_the_result() -> None:
    x = centred(4, 16, 1.0)
    check_corruption(norm(square_sums(x)), x)
