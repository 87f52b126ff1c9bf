"""What each protocol costs, by the meter: the catalogue behind the table of docs/protocol.md."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import protocol_programs as P
import torch
from protocol_programs import COUNT, GIVEN, NARROW_ROWS, ROW_SUMS, WIDE_ROWS, Program, elements, shared

from mpcnet.ledger import Cost
from mpcnet.protocols import arith, cells, compare, crypten, division, gelu, puma, shaft, softmax
from mpcnet.protocols.argmax import one_hot_argmax
from mpcnet.protocols.maximum import largest
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.series import pi_sin
from mpcnet.randomness.meter import MeterSource, measure


@dataclass(frozen=True)
class Row:
    """A protocol in one setting. Its figures are for `count` units, and shown for one."""

    name: str
    file: str
    setting: str
    unit: str
    count: int
    program: Program
    error: str

    @property
    def cost(self) -> Cost:
        """Rounds and bytes of everything but what was given."""
        source = MeterSource()
        planned = measure(self.program(Party(source, "here")), source)
        total = Cost()
        for label, cost in planned.ledger.operations.items():
            if label != GIVEN:
                total.add(cost)
        return total

    def line(self) -> str:
        cost = self.cost
        sent, dealt = (_shown(value / self.count) for value in (cost.sent_bytes, sum(cost.dealt_bytes)))
        file = f"`protocols/{self.file}.py`"
        columns = (self.name, file, self.setting, self.unit, cost.rounds, sent, dealt, self.error)
        return "| " + " | ".join(map(str, columns)) + " |"


SQUARES = partial(shared, (8, 128), 22, 12)
KEEP = torch.ones(128)
OWN_SCORES, OWN_KEEP = shared((128, 128), 22, 12), torch.ones(1, 128)
ELEMENT = ("element", COUNT)
ROWS: tuple[Row, ...] = (
    Row("masked opening", "party", "24 bits", *ELEMENT, lambda p: P.open_words(p, 24), "none"),
    Row("growth", "arith", "24 to 64 bits", *ELEMENT, lambda p: P.grow(p, 24, 64), "none"),
    Row("bit to number", "arith", "64 bits", *ELEMENT, lambda p: P.number_of_bit(p, 64), "none"),
    Row("product of grown values", "arith", "28 bits each, in 64", *ELEMENT, lambda p: P.product(p, 28), "none"),
    Row("square of a grown value", "arith", "28 bits, in 64", *ELEMENT, lambda p: P.square(p, 28), "none"),
    Row("matrix product", "arith", "40 bits", "element of the result", 64, lambda p: P.matmul(p, 40), "none"),
    Row("linear map", "arith", "48 bits", "element of the result", 64, lambda p: P.linear(p, 48), "none"),
    Row("Pi_Mul", "arith", "64 bits", *ELEMENT, lambda p: arith.pi_mul(p, elements(64), elements(64)), "none"),
    Row("Pi_Square", "arith", "64 bits", *ELEMENT, lambda p: arith.pi_square(p, elements(64)), "none"),
    Row(
        "Pi_MatMul", "arith", "64 bits, X and Y 16 x 16", "element of the result", 256,
        lambda p: arith.pi_matmul(p, shared((16, 16), 64), shared((16, 16), 64)), "none",
    ),
    Row("comparison", "compare", "24 bits, 1 threshold", *ELEMENT, lambda p: P.at_least(p, 24, 0, 1), "none"),
    Row(
        "comparison", "compare", "24 bits, 10 dropped, 2 thresholds", *ELEMENT, lambda p: P.at_least(p, 24, 10, 2),
        "2^-2 early",
    ),
    Row("Pi_LT", "compare", "64 bits", *ELEMENT, lambda p: compare.pi_lt(p, elements(64), elements(64)), "none"),
    Row(
        "Pi_Sin", "series", "P = 16, 16 fraction bits, 7 harmonics", *ELEMENT,
        lambda p: pi_sin(p, elements(64, 16), gelu.ERF), "2.4e-4, and the fit",
    ),
    Row("GeLU", "gelu", "24 bits to 40", *ELEMENT, lambda p: gelu.gelu(p, elements(24), 40), "5e-4"),
    Row("Pi_GeLU, sines", "gelu", "24 bits to 64", *ELEMENT, lambda p: gelu.pi_gelu(p, elements(24), 64), "2.5e-4"),
    Row(
        "Pi_GeLU, polynomials", "gelu", "24 bits to 64", *ELEMENT,
        lambda p: gelu.pi_gelu_polynomial(p, elements(24), 64), "4.5e-3",
    ),
    Row("GeLU by tanh", "gelu", "24 bits to 40", *ELEMENT, lambda p: gelu.gelu_tanh(p, elements(24), 40), "5e-4"),
    Row("SiLU", "gelu", "24 bits to 40", *ELEMENT, lambda p: gelu.silu(p, elements(24), 40), "3e-3"),
    Row("ReLU", "gelu", "24 bits to 40", *ELEMENT, lambda p: gelu.relu(p, elements(24), 40), "exact"),
    Row("tanh", "gelu", "24 bits to 48", *ELEMENT, lambda p: gelu.tanh(p, elements(24), 48), "5e-4"),
    Row("Quad", "quad", "24 bits to 40", *ELEMENT, lambda p: quad(p, elements(24), 40), "1 ulp"),
    Row(
        "1/sqrt(x), cells", "cells", "high / low = 2^12", "row", COUNT,
        lambda p: cells.rsqrt(p, elements(64, 28), WIDE_ROWS), "3e-5 relative",
    ),
    Row(
        "1/x, cells", "cells", "x from 0.0174 to 128", "row", COUNT,
        lambda p: cells.reciprocal(p, elements(40, 16), ROW_SUMS), "5e-5 relative",
    ),
    Row(
        "1/sqrt(x), Goldschmidt", "division", "x from 0.8 to 17: t = 7", "row", COUNT,
        lambda p: division.rsqrt(p, elements(64, 28), NARROW_ROWS), "2e-4 relative",
    ),
    Row(
        "1/x, Goldschmidt", "division", "x from 0.0174 to 128: t = 16", "row", COUNT,
        lambda p: division.reciprocal(p, elements(40, 16), ROW_SUMS), "2.6e-4 relative",
    ),
    Row(
        "Pi_Div", "division", "x from 0.8 to 17: t = 8", "row", COUNT,
        lambda p: division.divide(p, elements(24), elements(40, 16), NARROW_ROWS), "2e-4 relative",
    ),
    Row("exponential", "exponential", "period 2^9", "score", COUNT, lambda p: P.numerators(p, False), "2e-4"),
    Row("exponential, clamped", "exponential", "period 2^9", "score", COUNT, lambda p: P.numerators(p, True), "2e-4"),
    Row(
        "coarse row maximum", "rowmax", "window 2^6, 128 keys", "row", 8, lambda p: P.coarse_max(p, 6, 128),
        "0 to 4 above",
    ),
    Row(
        "coarse row maximum", "rowmax", "window 2^6, 512 keys", "row", 8, lambda p: P.coarse_max(p, 6, 512),
        "0 to 4 above",
    ),
    Row(
        "numerators of exact softmax", "softmax", "128 keys, window 2^6, period 2^9", "score", 128 * 128,
        P.scores(P.PLAIN_WINDOW), "2e-4",
    ),
    Row(
        "the same, clamped", "softmax", "128 keys, window 2^7, period 2^9", "score", 128 * 128,
        P.scores(P.CLAMPED_WINDOW), "2e-4",
    ),
    Row(
        "numerators of 2Quad", "softmax", "22 bits to 48", "score", 1024,
        lambda p: softmax.squares(p, SQUARES(), KEEP, 48, 12), "1 ulp",
    ),
    Row(
        "numerators of 2ReLU", "softmax", "22 bits to 48", "score", 1024,
        lambda p: softmax.relus(p, SQUARES(), KEEP, 48), "none",
    ),
    Row(
        "product with V, cells", "softmax", "128 x 128 scores, 64 columns", "head", 1,
        lambda p: P.weigh(p, cells.reciprocal), "that of 1/x, roundings",
    ),
    Row(
        "product with V, Goldschmidt", "softmax", "the same, t = 16", "head", 1,
        lambda p: P.weigh(p, division.reciprocal), "that of 1/x, roundings",
    ),
    Row(
        "LayerNorm, cells", "layernorm", "768 columns, T to 2^12 low", "row", 8,
        lambda p: P.normalise(p, WIDE_ROWS, cells.rsqrt), "that of 1/sqrt, roundings",
    ),
    Row(
        "Pi_LayerNorm, Goldschmidt", "layernorm", "768 columns, t = 7", "row", 8,
        lambda p: P.normalise(p, NARROW_ROWS, division.rsqrt), "that of 1/sqrt, roundings",
    ),
    *(
        Row(
            "argmax", "argmax", f"{n} values", "row", COUNT,
            partial(one_hot_argmax, x=shared((COUNT, n), 40, 16), sure=True), "none",
        )
        for n in (2, 3, 5)
    ),
    Row(
        "maximum", "maximum", "26 bits, 128 values", "column", COUNT,
        lambda p: largest(p, shared((128, COUNT), 26, 14), torch.ones(128, dtype=torch.bool)), "none",
    ),
    Row(
        "lookup, long table", "lookup", "30,522 rows of 384 words, 16 bits", "index", COUNT,
        lambda p: P.look_up(p, 30_522, 384, 16), "none",
    ),
    Row(
        "lookup, long table", "lookup", "250,002 rows of 768 words, 24 bits", "index", COUNT,
        lambda p: P.look_up(p, 250_002, 768, 24), "none",
    ),
    Row(
        "lookup, short table", "lookup", "2 rows of 384 words, 16 bits", "index", COUNT,
        lambda p: P.look_up_short(p, 2, 384, 16), "none",
    ),
    Row("GeLU of CrypTen", "crypten", "24 bits to 40", *ELEMENT, lambda p: crypten.gelu(p, elements(24), 40), "1.1e-3"),
    Row(
        "numerators of CrypTen", "crypten", "128 keys, 22 bits", "score", 128 * 128,
        lambda p: crypten.numerators(p, OWN_SCORES, OWN_KEEP, 40, 16), "1.2e-3",
    ),
    Row(
        "1/x of CrypTen", "crypten", "x from 1/8 to 253", "row", COUNT,
        lambda p: crypten.reciprocal(p, elements(40, 16), ROW_SUMS), "2e-4 relative",
    ),
    Row(
        "1/sqrt(x) of CrypTen", "crypten", "x from 0.105 to 153.8", "row", COUNT,
        lambda p: crypten.rsqrt(p, elements(64, 28), NARROW_ROWS), "4e-3 relative",
    ),
    Row("GeLU of PUMA", "puma", "24 bits to 64", *ELEMENT, lambda p: puma.gelu(p, elements(24), 64), "2.1e-2"),
    Row(
        "numerators of PUMA", "puma", "128 keys, 22 bits", "score", 128 * 128,
        lambda p: puma.numerators(p, OWN_SCORES, OWN_KEEP, 40, 16), "8.7e-3",
    ),
    Row(
        "1/x of PUMA", "puma", "x from 0.0174 to 128", "row", COUNT,
        lambda p: puma.reciprocal(p, elements(40, 16), ROW_SUMS), "7e-5 relative",
    ),
    Row(
        "1/sqrt(x) of PUMA", "puma", "x from 0.8 to 17", "row", COUNT,
        lambda p: puma.rsqrt(p, elements(64, 28), NARROW_ROWS), "1e-4 relative",
    ),
    Row("GeLU of SHAFT", "shaft", "24 bits to 40", *ELEMENT, lambda p: shaft.gelu(p, elements(24), 40), "4.9e-3"),
    Row(
        "softmax of SHAFT", "shaft", "128 keys, 22 bits", "score", 128 * 128,
        lambda p: shaft.probabilities(p, OWN_SCORES, OWN_KEEP, 40, 16), "0.05",
    ),
    Row(
        "1/sqrt(x) of SHAFT", "shaft", "x from 0.0234 to 181.8", "row", COUNT,
        lambda p: shaft.rsqrt(p, elements(64, 28), NARROW_ROWS), "4e-3 relative",
    ),
    Row("audit: range", "audit", "24 bits, limit 2^22", *ELEMENT, P.within, "see Audit"),
    Row("audit: norms", "audit", "rows of 64", "row", COUNT, P.norms, "see Audit"),
    Row("audit: x y^2 = d", "audit", "x from 0.8 to 17", "row", COUNT, P.root, "see Audit"),
    Row("audit: x z = 1", "audit", "x from 0.0174 to 128", "row", COUNT, P.inverse, "see Audit"),
    Row("audit: verdict", "audit", "40 bits", "sentence", 1, P.verdict, "2^-38"),
)  # fmt: skip


def _shown(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def table() -> list[str]:
    head = ("protocol", "file", "setting", "unit", "rounds", "online, each way", "dealt", "error")
    return [f"| {' | '.join(head)} |", "|---|---|---|---|--:|--:|--:|---|", *(row.line() for row in ROWS)]
