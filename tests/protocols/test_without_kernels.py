"""Where the native kernels were not built, torch does their work: with the same masks, the same shares to the last bit.

So a server that has kernels and one that has none may work together.
"""

import pytest
import torch
from checks import Input, Result, distance, outcome, uniform
from kernels import without_kernels
from lockstep import Build
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import lift, pi_mul, product, square
from mpcnet.protocols.exponential import clamped_exponential, exponential
from mpcnet.protocols.gelu import gelu, pi_gelu, tanh
from mpcnet.protocols.party import Party
from mpcnet.protocols.rowmax import coarse_max
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import Window, windowed_exponentials

X, Y = uniform((40, 9), -5, 5, 24, 12), uniform((40, 1), -5, 5, 24, 12, 1)
SCORES = uniform((1, 1, 3, 24), -20, 20, 22, 12)
KEEP = (torch.arange(24) % 5 != 0).to(torch.int64)


async def fast_gelu(p: Party, x: Shared) -> Shared:
    return await gelu(p, x, 40)


async def fourier_gelu(p: Party, x: Shared) -> Shared:
    return await pi_gelu(p, x, 64)


async def tangent(p: Party, x: Shared) -> Shared:
    return await tanh(p, x, 48)


async def power(p: Party, x: Shared) -> Shared:
    return exponential(p, await p.open_one((-(x + 5.0)).reduce(19)), 16, torch.tensor(1))


async def clamped_power(p: Party, x: Shared) -> Shared:
    return await clamped_exponential(p, await p.open_one((-(x + 5.0)).reduce(21)), 8, 16, torch.tensor(1))


def top(bits: int) -> Build:
    async def build(p: Party, x: Shared) -> Shared:
        return (await coarse_max(p, await p.open_one((x + 20.0).reduce(bits + 12)), bits, KEEP)).shared()

    return build


async def numerators(p: Party, x: Shared) -> Shared:
    return await windowed_exponentials(p, x, KEEP, 16, Window(7, 9, False, (0,), (0.0,)))


async def clamped_numerators(p: Party, x: Shared) -> Shared:
    return await windowed_exponentials(p, x, KEEP, 16, Window(8, 10, True, (0,), (3.0,)))


async def lifted_product(p: Party, x: Shared, y: Shared) -> Shared:
    a, b = await p.open(x, y)
    return product(p, lift(p, a), lift(p, b))


async def lifted_square(p: Party, x: Shared) -> Shared:
    return square(p, lift(p, await p.open_one(x), 40))


# Program, inputs, and what it computes within which error; None where another test says so.
CASES: dict[str, tuple[Build, tuple[Input, ...], Tensor | None, float]] = {
    "gelu": (fast_gelu, (X,), torch.nn.functional.gelu(X.x), 5e-4),
    "pi_gelu": (fourier_gelu, (X,), torch.nn.functional.gelu(X.x), 2.5e-4),
    "tanh": (tangent, (X,), torch.tanh(X.x), 5e-4),
    "exponential": (power, (X,), torch.exp(-X.x - 5), 5e-5),
    "clamped_exponential": (clamped_power, (X,), torch.exp(-X.x - 5), 5e-5),
    "coarse_max": (top(7), (SCORES,), None, 0.0),
    "coarse_max of wide windows": (top(10), (SCORES,), None, 0.0),
    "exponentials": (numerators, (SCORES,), None, 0.0),
    "clamped exponentials": (clamped_numerators, (SCORES,), None, 0.0),
    "pi_mul": (pi_mul, (Input(X.x, 64, 12), Input(Y.x, 64, 12)), X.x * Y.x, 0.0),
    "product": (lifted_product, (X, Y), X.x * Y.x, 0.0),
    "square": (lifted_square, (X,), X.x**2, 0.0),
}


def shares(done: Result) -> list[Tensor]:
    """Both servers'."""
    return [ring.reduce(result.value, result.bits) for result in done.run.results[:2]]


@pytest.mark.parametrize("name", CASES)
def test_the_same_shares(name: str) -> None:
    build, inputs, want, error = CASES[name]
    with_kernels = outcome(build, *inputs, seed=3)
    with without_kernels():
        done = outcome(build, *inputs, seed=3)
    assert want is None or distance(done.value, want) <= error
    assert torch.equal(done.oracle, with_kernels.oracle)
    assert all(torch.equal(a, b) for a, b in zip(shares(done), shares(with_kernels), strict=True))
