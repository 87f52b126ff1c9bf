"""Sums of ring words in one pass over memory (csrc/elementwise.c)."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check

_add = Kernel("mpc_add", POINTER, POINTER, POINTER, SIZE, INT, INT)


def add(a: Tensor, b: Tensor, bits: int, level: str | None = None) -> Tensor:
    """(a + b) mod 2^bits, canonical; both of one shape and of the storage type of a ring of `bits` bits, 2 at least.

    Single bits are held packed, so their sum is torch's xor.

    :raises ValueError: they are not.
    """
    shape = tuple(a.shape)
    a, b = check("a", a, a.dtype, shape), check("b", b, a.dtype, shape)
    if not 2 <= bits <= 8 * a.dtype.itemsize:
        raise ValueError(f"a ring of {bits} bits does not fit {a.dtype}")
    out = torch.empty_like(a)
    _add(level, a.data_ptr(), b.data_ptr(), out.data_ptr(), a.numel(), a.dtype.itemsize, bits)
    return out
