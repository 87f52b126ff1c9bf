"""Which implementation of each function a run uses: SecFormer's, those that it is compared with, or the fast one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Literal, Protocol

from torch import Tensor

from mpcnet.protocols import cells, crypten, division, puma, shaft
from mpcnet.protocols.gelu import gelu, pi_gelu, pi_gelu_polynomial
from mpcnet.protocols.layernorm import Root
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import Inverse


class Numerators(Protocol):
    """A suite's own numerators of softmax, [..., query, key]: `frac` fraction bits in a ring of `bits`, zero where
    `keep` [..., 1, key] is 0. `sure`: no row spans a quarter of the scores' ring."""

    async def __call__(
        self, p: Party, scores: Shared, keep: Tensor, bits: int, frac: int, *, sure: bool = False
    ) -> Shared: ...


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a suite's functions are right, as published; on real weights values may lie elsewhere."""

    variances: tuple[float, float] = (0.0, inf)  # of LayerNorm's input: 1/sqrt to 1 part in 256
    row_sums: tuple[float, float] = (0.0, inf)  # of softmax's numerators
    inputs: float = inf  # of GeLU, in magnitude
    scores: tuple[float, float] = (-inf, inf)


@dataclass(frozen=True, slots=True)
class Suite:
    """The functions in which suites differ; masked openings, products and, mostly, softmax's numerators are common.

    A suite with `numerators` approximates exact softmax by its own. Without a `reciprocal`, these add up to 1.
    `softmax` is the only one that it has, if it has but one; `activation` is put in the place of a GeLU.
    """

    name: str
    gelu: Callable[[Party, Shared, int, bool], Awaitable[Shared]]
    gelu_ring: int  # bits of the ring in which the GeLU's result is asked for
    rsqrt: Root
    reciprocal: Inverse | None
    wide: bool = False  # ranges of rsqrt and reciprocal may span many powers of two at little cost
    numerators: Numerators | None = None
    softmax: Literal["exact", "2quad", ""] = ""
    activation: Literal["quad", ""] = ""
    domain: Domain = Domain()
    gelu_most: int = 64  # bits of the widest ring in which its GeLU's result comes


CRYPTEN_VARIANCES, SHAFT_VARIANCES = (0.105, 153.8), (0.0234, 181.8)  # after 3 and 5 steps of Newton
NEWTON_SUMS = (0.125, 253.0)  # the start of CrypTen's reciprocal converges up to here

SUITES = {
    suite.name: suite
    for suite in (
        Suite("secformer", pi_gelu, 64, division.rsqrt, division.reciprocal),  # the paper's final version
        Suite(
            "secformer-v1", pi_gelu_polynomial, 64, division.rsqrt, division.reciprocal
        ),  # its first, by segmented polynomials
        Suite("fast", gelu, 40, cells.rsqrt, cells.reciprocal, wide=True),
        Suite(
            "crypten", crypten.gelu, 40, crypten.rsqrt, crypten.reciprocal, numerators=crypten.numerators,
            softmax="exact", domain=Domain(CRYPTEN_VARIANCES, NEWTON_SUMS, 23.4), gelu_most=40,
        ),
        Suite("puma", puma.gelu, 64, puma.rsqrt, puma.reciprocal, numerators=puma.numerators, softmax="exact"),
        Suite(
            "mpcformer", crypten.gelu, 40, crypten.rsqrt, crypten.reciprocal, softmax="2quad", activation="quad",
            domain=Domain(CRYPTEN_VARIANCES, NEWTON_SUMS), gelu_most=40,
        ),
        Suite(
            "shaft", shaft.gelu, 40, shaft.rsqrt, None, numerators=shaft.probabilities, softmax="exact",
            domain=Domain(SHAFT_VARIANCES, scores=(shaft.LOW, shaft.HIGH)),
        ),
    )
}  # fmt: skip
