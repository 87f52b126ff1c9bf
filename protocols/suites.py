"""Which implementation of each function a run uses: the faithful SecFormer suite, or the fast one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protocols.gelu import gelu, pi_gelu
from protocols.party import Party
from protocols.share import Shared


@dataclass(frozen=True, slots=True)
class Suite:
    """The functions in which suites differ; masked openings, products and divisions are common."""

    name: str
    gelu: Callable[[Party, Shared, int], Awaitable[Shared]]
    gelu_ring: int  # bits of the ring in which the GeLU's result is asked for
    what: str


SUITES = {
    suite.name: suite
    for suite in (
        Suite("secformer", pi_gelu, 64, "SecFormer's Pi_GeLU (erf by seven sines), Goldschmidt for 1/sqrt and 1/x"),
        Suite("fast", gelu, 40, "GeLU by five cosines of its even part in three rounds; the rest as in secformer"),
    )
}
