"""Parities of rotated one-hot rows of bits (csrc/parity.c); see mpcnet.protocols.parities."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.arrays.native import histogram
from mpcnet.arrays.native.histogram import check_keys, known
from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check

_parity = Kernel("mpc_parity", POINTER, POINTER, POINTER, POINTER, SIZE, SIZE, INT, POINTER, INT)

MOST = 8  # bytes of a parity
fits = histogram.fits


def parities(
    opened: Tensor, keep: Tensor, tables: Tensor, coefficients: Tensor, nbytes: int, level: str | None = None
) -> Tensor:
    """[row, key], [row, key], rows x keys x B bits, [key, B] -> bytes of [row, B - 1, nbytes], flat.

    A key's table, turned down by opened + 1 and added up mod 2 from its lowest bit on, has a bit for each parity, and
    one more. A parity is the xor of the coefficients of kept keys whose bit is 1; of it the lowest bytes are kept.
    `opened` is int16, `keep` and the packed `tables` are uint8, `coefficients` int64; B is one of histogram's.

    :raises ValueError: types or sizes are others.
    """
    opened, keep = check_keys(opened, keep)
    buckets = known(coefficients.shape[-1])
    if not 1 <= nbytes <= MOST:
        raise ValueError(f"parities: want 1 to {MOST} bytes each, got {nbytes}")
    rows, keys = opened.shape
    tables = check("tables", tables, torch.uint8, (rows * keys * buckets // 8,))
    coefficients = check("coefficients", coefficients, torch.int64, (keys, buckets))
    out = torch.empty(rows * (buckets - 1) * nbytes, dtype=torch.uint8)
    _parity(
        level, opened.data_ptr(), keep.data_ptr(), tables.data_ptr(), coefficients.data_ptr(), rows, keys, buckets,
        out.data_ptr(), nbytes,
    )  # fmt: skip
    return out
