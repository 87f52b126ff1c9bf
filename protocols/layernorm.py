"""LayerNorm of rows whose mean is already zero: x / sqrt(mean(x^2) + eps), without gamma and beta.

The mean is removed by the previous linear map, gamma and beta belong to the next one (mpcnet.models.checkpoints.folding
folds them).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import sqrt
from typing import Any, TypeAlias

from mpcnet.protocols.arith import lift, product, square
from mpcnet.protocols.division import RowRange, rsqrt
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

Root: TypeAlias = Callable[[Party, Shared, RowRange, float], Coroutine[Any, Any, Shared]]


async def layer_norm(
    p: Party,
    x: Shared,
    eps: float,
    rows: RowRange,
    rsqrt_frac: int,
    frac: int,
    root: Root = rsqrt,
    *,
    sure: bool = False,
) -> Shared:
    """x sqrt(d / T) on centred rows [..., d], T = sum x^2 + d eps in the range `rows`.

    With Goldschmidt's iteration as `root` this is Pi_LayerNorm.

    Needs |x| < 2^(k-2) as an integer; `sure` says that this is proved. The result has `frac` fraction bits in a ring of
    64 - (x.frac + rsqrt_frac - frac).

    Rounds   2 + those of `root`: 2 t - 1 by Goldschmidt, 1 by point functions
    Sends    4 bytes an element of 28 bits each way, and a row the 4 or 5 of the factor and what `root` sends
    Offline  41 to 44 bytes an element, and a row the factor's growth and what `root` takes
    Error    that of `root` (mpcnet.protocols.division, mpcnet.protocols.cells) relative to each result, and rounding
    Source   docs/protocol.md, "LayerNorm"; [SecFormer], Pi_LayerNorm (there eta is fixed)
    """
    width = x.shape[-1]
    wide = lift(p, await p.open_one(x), sure=sure)
    total = square(p, wide).sum(-1, keepdim=True) + width * eps
    scale = await root(p.at("rsqrt"), total, rows, sqrt(width))
    factor = lift(
        p, await p.open_one(p.rescale(scale, rsqrt_frac)), sure=True
    )  # if T is in its range, as `root` sees to
    return p.rescale(product(p, wide, factor), frac)
