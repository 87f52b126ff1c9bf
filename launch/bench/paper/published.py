"""What the papers and their code say of cost: SecFormer's figures, and rounds beside those of the functions here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GROUPS = ("GeLU", "softmax", "LayerNorm", "others")  # the paper's columns

SECONDS: Mapping[tuple[str, str], float] = {  # 512 tokens, three GPU servers; the paper's Table 3 and its Figure 1
    ("bert-base", "crypten"): 71.0,
    ("bert-base", "puma"): 70.0,
    ("bert-base", "mpcformer"): 19.0,
    ("bert-base", "secformer"): 19.5,
    ("bert-large", "puma"): 140.0,
    ("bert-large", "mpcformer"): 38.0,
    ("bert-large", "secformer"): 39.0,
}

GIGABYTES: Mapping[str, tuple[float, ...]] = {  # BERT-base, 512 tokens, both servers, no dealer: GROUPS, and the sum
    "crypten": (16.0, 50.3, 0.49, 3.46, 70.2),
    "puma": (28.7, 67.8, 0.48, 3.46, 100.5),
    "mpcformer": (0.60, 1.90, 0.49, 3.46, 6.45),
    "secformer": (17.8, 1.84, 0.48, 3.46, 23.6),
}
ALL_ROUNDS: Mapping[str, str] = {"crypten": "3777", "puma": "3102", "mpcformer": "2313", "secformer": "1329 to 1773"}


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of a function as published (None: nowhere stated), and here; `how` they differ."""

    suite: str
    function: str
    published: int | None
    here: str
    how: str


TREE = "a comparison of 8 and a product; here a difference, the join of its blocks, and its bit"
NEWTON = "8 squarings and {} steps of 3 products; here a step's first two share a round, and one square is local"
ROUNDS = (
    Rounds("crypten", "maximum, a level of its tree", 9, "3", TREE),
    Rounds("crypten", "e^x", 8, "8", "8 squarings; here the first is local, and the opening before it counts"),
    Rounds("crypten", "1/x", 28, "28", "8 squarings and 10 steps of 2, likewise"),
    Rounds("crypten", "1/sqrt(x)", 17, "14", NEWTON.format(3)),
    Rounds("crypten", "GeLU", 29, "17", "cube 2, sign 8, |u| 1, e^-x 9, 1/x 6, selection 2, product 1; by the code"),
    Rounds("puma", "maximum, a level of its tree", None, "3", "as CrypTen's here"),
    Rounds("puma", "e^x, 0 below -14", None, "6", "5 squarings, and the product with a comparison's bit"),
    Rounds("puma", "1/x", None, "7", "the exponent by comparisons of one opening, 2 steps"),
    Rounds("puma", "1/sqrt(x)", None, "6", "the same, a quartic"),
    Rounds("puma", "GeLU", None, "4", "comparisons beside the powers, and products with their bits"),
    Rounds("mpcformer", "2Quad's numerators", 1, "1", "a square"),
    Rounds("mpcformer", "1/x", 38, "28", "CrypTen's, with the sign of a sum that is positive: 10 more in its code"),
    Rounds("mpcformer", "Quad", 1, "1", "a square"),
    Rounds(
        "shaft",
        "softmax",
        41,
        "35",
        "clipping 9 by comparisons of 8, 2 a step; here clipping takes 3, the first step 1",
    ),
    Rounds("shaft", "GeLU", 19, "3", "two comparisons, products and sines; here all read one opening"),
    Rounds("shaft", "1/sqrt(x)", 23, "18", NEWTON.format(5)),
    Rounds("secformer", "comparison of shares", 7, "4", "a bitwise adder, 8 in the code; here joins of one-hot tables"),
    Rounds("secformer", "GeLU", 10, "4", "two comparisons beside a sine, products; here all read one opening"),
    Rounds("secformer", "2Quad's numerators", 1, "1", "a square"),
    Rounds("secformer", "1/x", 13, "t", "t = 13; here t by the calibrated range, 8 to 16"),
    Rounds("secformer", "1/sqrt(x)", 22, "2 t - 1", "t = 11 steps of 2; here t by the calibrated range, 5 to 9"),
)
