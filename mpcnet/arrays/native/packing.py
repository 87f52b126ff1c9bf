"""The wire form of ring words, in one pass over memory (csrc/packing*.c)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcnet.arrays.dtypes import dtype
from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check

Bytes = NDArray[np.uint8]

_pack = Kernel("mpc_pack", POINTER, POINTER, INT, POINTER, SIZE, INT, INT)
_unpack = Kernel("mpc_unpack", POINTER, POINTER, POINTER, SIZE, INT, INT)


def pack(x: Tensor, bits: int, level: str | None = None) -> Bytes:
    """The wire form of x mod 2^bits: ceil(bits / 8) little-endian bytes a word.

    :raises ValueError: x is not of the storage type of a ring of `bits` bits, or not in memory.
    """
    return _packed(x, None, False, bits, level)


def pack_difference(x: Tensor, y: Tensor, bits: int, level: str | None = None) -> Bytes:
    """The wire form of x - y mod 2^bits, for tensors of one shape.

    :raises ValueError: as :func:`pack`, or their shapes differ.
    """
    return _packed(x, y, True, bits, level)


def unpack(raw: Bytes, shape: Sequence[int], bits: int, level: str | None = None) -> Tensor:
    """The canonical words whose wire form is `raw`.

    :raises ValueError: `raw` has another size.
    """
    return _unpacked(raw, None, tuple(shape), bits, level)


def unpack_sum(raw: Bytes, mine: Tensor, bits: int, level: str | None = None) -> Tensor:
    """`mine` plus the words whose wire form is `raw`, mod 2^bits: an opening.

    :raises ValueError: `raw` has another size than `mine`, or `mine` another type than the ring's.
    """
    return _unpacked(raw, mine, tuple(mine.shape), bits, level)


def _packed(x: Tensor, y: Tensor | None, negative: bool, bits: int, level: str | None) -> Bytes:
    kind, shape = dtype(bits), tuple(x.shape)
    x = check("x", x, kind, shape)
    y = None if y is None else check("y", y, kind, shape)
    out = np.empty(x.numel() * ((bits + 7) // 8), np.uint8)
    other = None if y is None else y.data_ptr()
    _pack(level, x.data_ptr(), other, negative, out.ctypes.data, x.numel(), kind.itemsize, bits)
    return out


def _unpacked(raw: Bytes, mine: Tensor | None, shape: tuple[int, ...], bits: int, level: str | None) -> Tensor:
    kind, count = dtype(bits), prod(shape)
    nbytes = count * ((bits + 7) // 8)
    if raw.dtype != np.uint8 or not raw.flags.c_contiguous or raw.size != nbytes:
        raise ValueError(f"want {nbytes} bytes for {bits} bits x {list(shape)}, got {raw.size}")
    mine = None if mine is None else check("mine", mine, kind, shape)
    out = torch.empty(shape, dtype=kind)
    own = None if mine is None else mine.data_ptr()
    _unpack(level, raw.ctypes.data, own, out.data_ptr(), count, kind.itemsize, bits)
    return out
