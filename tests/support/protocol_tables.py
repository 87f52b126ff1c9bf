"""The tables of docs/protocol.md: costs by the meter, rounds of a layer, fitted coefficients.

`python tests/support/protocol_tables.py` writes them between their marks. A test compares the page with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from private import tiny_model
from protocol_costs import table as costs

from mpcnet.models.private.program import Size
from mpcnet.models.shape import Softmax
from mpcnet.protocols import fit, gelu

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGE = ROOT / "docs" / "protocol.md"

POINTS = 100_001
BASES: dict[str, Any] = {
    "cos": partial(fit.cosines, 16),
    "cos 32": partial(fit.cosines, 32),
    "sin": partial(fit.sines, 16),
    "power": fit.powers,
}
FITTED = (
    ("E, GeLU's even part", "cos", gelu.ODD, gelu.EVEN_PART, fit.gelu_even, 0, gelu.HIGH),
    ("E, of GeLU by tanh", "cos", gelu.ODD, gelu.TANH_EVEN_PART, fit.gelu_tanh_even, 0, gelu.HIGH),
    ("E, of SiLU", "cos 32", gelu.SILU_ODD, gelu.SILU_EVEN_PART, fit.silu_even, 0, gelu.SILU_HIGH),
    ("erf(x / sqrt 2)", "sin", range(1, 8), gelu.ERF_SINES, fit.error_function, 0, gelu.HIGH),
    ("tanh", "sin", range(1, 13), gelu.TANH_SINES, np.tanh, 0, gelu.TANH_HIGH),
    ("E, inner", "power", (0, 2, 4, 6), gelu.INNER, fit.gelu_even, 0, gelu.SPLIT),
    ("E, outer", "power", (0, 2, 4, 6), gelu.OUTER, fit.gelu_even, gelu.SPLIT, gelu.HIGH),
)
SOFTMAXES: tuple[Softmax, ...] = ("exact", "2quad", "2relu")
STEPS = {  # of a layer, by the names that the ledger has for its openings
    "qkv": "LayerNorm's result, for queries, keys and values",
    "attention": "queries, keys and values; numerators and V; the quotient's factors",
    "attention/exp": "numerators: scores, counts, bits, maxima",
    "attention/2quad": "numerators: scores",
    "attention/2relu": "numerators: scores, comparison, its bit",
    "out": "the context, for the output map",
    "out/norm": "LayerNorm, with its root",
    "up": "LayerNorm's result, for the first map of the feed-forward part",
    "activation": "GeLU",
    "down": "its result, for the second map",
    "down/norm": "LayerNorm, with its root",
}


def coefficients() -> list[str]:
    """Of series by harmonic, and of polynomials by power."""
    lines = ["| function | basis | fitted on | error | harmonic or power: coefficient |", "|---|---|---|--:|---|"]
    for name, kind, places, values, target, low, high in FITTED:
        x = np.linspace(low, high, POINTS)
        error = float(np.abs(BASES[kind](places)(x) @ np.array(values) - target(x)).max())
        terms = ", ".join(f"{k}: {value:.10g}" for k, value in zip(places, values, strict=True))
        lines.append(f"| {name} | {kind} | {low:g} to {high:g} | {error:.1e} | {terms} |")
    return lines


def layer_rounds() -> list[str]:
    """Of the second layer of a small model, which depend on no size: by step, one column a softmax."""
    found = [_steps(softmax) for softmax in SOFTMAXES]
    names = [name for name in STEPS if any(name in steps for steps in found)]
    lines = ["| opened | " + " | ".join(SOFTMAXES) + " |", "|---|--:|--:|--:|"]
    lines += [f"| {STEPS[name]} | " + " | ".join(str(steps.get(name, "")) for steps in found) + " |" for name in names]
    lines.append("| **a layer, fast suite** | " + " | ".join(str(sum(steps.values())) for steps in found) + " |")
    return lines


def _steps(softmax: Softmax) -> dict[str, int]:
    model, tokens = tiny_model("fast", softmax)
    steps: dict[str, int] = {}
    for segment in model.plans.infer(Size(*tokens.mask.shape)).segments:
        layer, _, name = segment.label.partition("/")
        if layer == "layer1":
            name = name.removesuffix("/rsqrt")
            steps[name] = steps.get(name, 0) + 1
    return steps


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "costs": costs,
    "rounds": layer_rounds,
    "coefficients": coefficients,
}


def with_tables(page: str) -> str:
    """The page with each table as it is now.

    :raises ValueError: a table has not one place on the page.
    """
    for name, make in TABLES.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        block = begin + "\n".join(["", *make(), "", ""]) + end
        page, count = re.subn(re.escape(begin) + ".*?" + re.escape(end), lambda _, b=block: b, page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{PAGE.name}: want one place for the table {name}, got {count}; see its marks")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
