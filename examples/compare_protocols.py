"""What GeLU, softmax and division cost in each suite, and how far they are from the float function.

    python examples/compare_protocols.py --values 4096 --keys 64

Both servers and the dealer run in this process, in lock-step. Costs do not depend on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mpcnet.protocols.division import RowRange
from mpcnet.protocols.lockstep import Input, Result, Session, run
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared
from mpcnet.protocols.softmax import RELU_EPS, SHIFT, WeighBits, Window, exponentials, relus, squares, weigh
from mpcnet.protocols.suites import SUITES, Suite

SERVED = RowRange(0.5, 128.0)  # what 1/x and 1/sqrt(x) are asked for
WIDTH = 16  # columns of V
WINDOW = Window(bits=7, period_bits=10, clamped=False, heads=(0,), centres=(0.0,))
EXACT, QUAD = WeighBits(40, 17, 40, 12), WeighBits(48, 8, 40, 12)

Softmax = Callable[[Party, Shared, Shared], Any]


def gelus(suite: Suite, count: int, session: Session) -> Result:
    """GeLU from -6 to 6, in 24 bits of which 12 are fraction bits."""
    x = torch.linspace(-6, 6, count, dtype=torch.float64)

    async def gelu(p: Party, x: Shared) -> Shared:
        return await suite.gelu(p, x, suite.gelu_ring, False)

    return run(gelu, Input(x, 24, 12), expected=torch.nn.functional.gelu, session=session)


def inverses(suite: Suite, count: int, session: Session) -> Result:
    """1/x."""

    async def inverse(p: Party, x: Shared) -> Shared:
        z, deflation = await suite.reciprocal(p, x, SERVED)
        return z.halve(deflation)

    return run(inverse, rows(count), expected=torch.reciprocal, session=session)


def roots(suite: Suite, count: int, session: Session) -> Result:
    """1/sqrt(x)."""

    async def root(p: Party, x: Shared) -> Shared:
        return await suite.rsqrt(p, x, SERVED, 1.0)

    return run(root, rows(count), expected=torch.rsqrt, session=session)


def rows(count: int) -> Input:
    """The served range, evenly in the logarithm."""
    return Input(torch.logspace(0, 1, count, base=SERVED.high / SERVED.low, dtype=torch.float64) * SERVED.low, 48, 24)


def softmaxes(suite: Suite, keys: int) -> Iterator[tuple[str, Softmax, WeighBits, Callable[[Tensor], Tensor]]]:
    """Each kind: its name, softmax(S) V as a protocol, its rings, and the weights as a float function of S."""
    keep = torch.ones(keys, dtype=torch.int64)

    async def exact(p: Party, scores: Shared, value: Shared) -> Shared:
        numerators = await exponentials(p, scores, keep, 16, [WINDOW])
        return await weigh(p, numerators, value, RowRange(0.0174, float(keys)), EXACT, suite.reciprocal)

    async def quad(p: Party, scores: Shared, value: Shared) -> Shared:
        numerators = await squares(p, scores, keep, QUAD.product, 12)
        return await weigh(p, numerators, value, RowRange(1.0, 64.0 * keys), QUAD, suite.reciprocal)

    async def relu(p: Party, scores: Shared, value: Shared) -> Shared:
        numerators = await relus(p, scores, keep, QUAD.product)
        return await weigh(p, numerators, value, RowRange(RELU_EPS, 3.0 * keys), QUAD, suite.reciprocal, RELU_EPS)

    yield "exact", exact, EXACT, lambda s: torch.softmax(s, -1)
    yield "2Quad", quad, QUAD, lambda s: (s + SHIFT) ** 2 / ((s + SHIFT) ** 2).sum(-1, keepdim=True)
    yield "2ReLU", relu, QUAD, lambda s: s.clamp(min=0) / (s.clamp(min=0).sum(-1, keepdim=True) + RELU_EPS)


def attention(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    """Scores from -3 to 3 and values from -4 to 4, of one head."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1, 1, queries, keys, generator=generator, dtype=torch.float64) * 6 - 3
    return scores, torch.rand(1, 1, keys, WIDTH, generator=generator, dtype=torch.float64) * 8 - 4


def compared(values: int, keys: int) -> Iterator[tuple[str, str, int, Result]]:
    """Function, suite, how many values it was asked for, and the run."""
    session, queries = Session(), max(values // keys, 1)
    for title, build, suites in (
        ("GeLU", gelus, ("fast", "secformer", "secformer-v1")),
        ("1/x", inverses, ("fast", "secformer")),
        ("1/sqrt(x)", roots, ("fast", "secformer")),
    ):
        for name in suites:
            yield title, name, values, build(SUITES[name], values, session)
    scores, value = attention(queries, keys)
    names = ("fast", "secformer")
    for kinds in zip(*(softmaxes(SUITES[name], keys) for name in names), strict=True):
        for name, (kind, protocol, bits, weights) in zip(names, kinds, strict=True):
            inputs = Input(scores, 22, 12), Input(value, bits.product, 12)
            done = run(protocol, *inputs, expected=lambda s, v, weights=weights: weights(s) @ v, session=session)
            yield f"{kind} softmax V", name, queries * keys, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=4096, help="values of each function, and scores of softmax")
    parser.add_argument("--keys", type=int, default=64, help="of softmax: scores in a row")
    options = parser.parse_args()
    table = Table(
        title="Rounds, bytes a value, and the largest error",
        caption=f"{options.values} values; softmax has {options.keys} scores a row. "
        "Sent: by each server to the other. Dealt: to both.",
    )
    for title in ("function", "suite"):
        table.add_column(title)
    for title in ("rounds", "sent", "dealt", "error"):
        table.add_column(title, justify="right")
    for function, suite, count, done in compared(options.values, options.keys):
        dealt, sent = sum(done.dealt_bytes) / count, done.sent_bytes / count
        table.add_row(function, suite, str(done.rounds), f"{sent:.1f}", f"{dealt:.1f}", f"{done.error:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
