"""Which implementation of each function a run uses: the faithful SecFormer suite, or the fast one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mpcnet.protocols import cells, division
from mpcnet.protocols.gelu import gelu, pi_gelu, pi_gelu_polynomial
from mpcnet.protocols.layernorm import Root
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import Inverse


@dataclass(frozen=True, slots=True)
class Suite:
    """The functions in which suites differ; masked openings, products and softmax's numerators are common."""

    name: str
    gelu: Callable[[Party, Shared, int, bool], Awaitable[Shared]]
    gelu_ring: int  # bits of the ring in which the GeLU's result is asked for
    rsqrt: Root
    reciprocal: Inverse
    wide: bool = False  # ranges of rsqrt and reciprocal may span many powers of two at little cost


SUITES = {
    suite.name: suite
    for suite in (
        Suite("secformer", pi_gelu, 64, division.rsqrt, division.reciprocal),  # the paper's final version
        Suite(
            "secformer-v1", pi_gelu_polynomial, 64, division.rsqrt, division.reciprocal
        ),  # its first, by segmented polynomials
        Suite("fast", gelu, 40, cells.rsqrt, cells.reciprocal, wide=True),
    )
}
