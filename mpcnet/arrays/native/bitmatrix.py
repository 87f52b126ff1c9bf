"""Products of bit matrices mod 2 (csrc/bitmatrix.c); the same in numpy stands in :mod:`mpcnet.arrays.bitmatrix`."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.arrays.native.library import POINTER, SIZE, Kernel, check

_product = Kernel("mpc_bit_product", POINTER, POINTER, SIZE, SIZE, SIZE, SIZE, POINTER)


def add_product(chosen: Tensor, table: Tensor, out: Tensor, level: str | None = None) -> None:
    """out ^= chosen table, mod 2, for uint8 `chosen` [rows, bytes], `table` [depth, columns], `out` [rows, columns].

    A row of `chosen` has `depth` bits, lowest first; what stands behind them does not count.

    :raises ValueError: types or sizes are others; `out` is not contiguous.
    """
    depth, columns = table.shape
    chosen = check("chosen", chosen, torch.uint8, (len(out), (depth + 7) // 8))
    table = check("table", table, torch.uint8, (depth, columns))
    if check("out", out, torch.uint8, (len(chosen), columns)) is not out:
        raise ValueError("out: want a contiguous tensor, got another layout")
    _product(level, chosen.data_ptr(), table.data_ptr(), len(chosen), depth, columns, chosen.shape[1], out.data_ptr())
