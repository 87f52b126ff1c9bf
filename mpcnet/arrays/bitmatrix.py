"""Matrices of bits, eight to a byte: sums of rows of a table mod 2, and rows of bits turned.

Rows are whole bytes, the lowest bit first, as :mod:`mpcnet.arrays.ring` holds single bits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays.native import bitmatrix as native
from mpcnet.arrays.native.library import usable

BYTE, WORD = 8, 64  # bits; a row that is turned has whole words


def product(*terms: tuple[Tensor, Tensor]) -> Tensor:
    """The sum mod 2 of products of `chosen`, uint8 [rows, bytes], and a table, uint8 [depth, columns]: [rows, columns].

    A row of `chosen` has a bit for each row of the table, which says if it is added; what stands behind them does not
    count.
    """
    if not usable(*(x for term in terms for x in term)):
        return product_in_numpy(*terms)
    out = _zeros(*terms[0])
    for chosen, table in terms:
        native.add_product(chosen, table, out)
    return out


def product_in_numpy(*terms: tuple[Tensor, Tensor]) -> Tensor:
    """:func:`product`, where no kernels were built: by the sums of any eight rows of a table, byte by byte."""
    out = _zeros(*terms[0])
    total = out.numpy()
    for chosen, table in terms:
        rows, digits = table.numpy(), chosen.numpy()
        for byte, start in enumerate(range(0, len(rows), BYTE)):
            sums = np.zeros((1, rows.shape[1]), np.uint8)
            for row in rows[start : start + BYTE]:
                sums = np.concatenate([sums, sums ^ row])
            total ^= sums[digits[:, byte] & (len(sums) - 1)]
    return out


def _zeros(chosen: Tensor, table: Tensor) -> Tensor:
    return torch.zeros(len(chosen), table.shape[1], dtype=torch.uint8)


def turned(rows: Tensor, by: Tensor, columns: int) -> Tensor:
    """Turn each row of 2^k bits upwards, and fold it: uint8 [rows, 2^k / 8] -> [rows, ceil(columns / 8)].

    Bit j of a result is the sum mod 2 of the bits j - by, j - by + columns, j - by + 2 columns, ... of the row, each
    place mod 2^k and j + m columns below 2^k. `by` is [rows], from 0 on; what stands behind the first `columns` bits
    of a row means nothing. A row at a time, so beside the result it needs a few rows only.
    """
    source = rows.numpy().view("<u8")
    width = WORD * source.shape[1]
    out = np.empty((len(source), (columns + 7) // 8), np.uint8)
    for row, shift, to in zip(source, by.tolist(), out, strict=True):
        skip, rest = divmod(shift % width, WORD)
        whole = np.roll(row, skip)
        if rest:
            whole = whole << np.uint64(rest) | np.roll(whole, 1) >> np.uint64(WORD - rest)
        total = whole.copy()
        for start in range(columns, width, columns):
            skip, rest = divmod(start, WORD)
            high = whole[skip:]
            if rest:
                above = np.append(high[1:], np.uint64(0))
                high = high >> np.uint64(rest) | above << np.uint64(WORD - rest)
            total[: len(high)] ^= high
        to[:] = total.view(np.uint8)[: len(to)]
    return torch.from_numpy(out)
