"""Integer kernels mod 2^k on torch tensors.

A value of a k-bit ring lives in the narrowest of uint8, int16, int32, int64 that holds k bits; the bits above k
are arbitrary until :func:`reduce` clears them. Sums and products of such words are right mod 2^k whatever
stands above, so reduction is needed at three places only: before packing, before a word is read as an unsigned
integer, and before a real number is decoded. Narrow storage is not only memory: a 16-bit integer matrix product
runs about three times faster than a 64-bit one.

What takes time has kernels (:mod:`mpcnet.arrays.native`); the formulas of torch beside them say what those compute, and
do it where the kernels were not built.

Bits (k = 1) are kept as they travel: eight to a byte, one flat array however many dimensions they stand for. Sums mod 2
are xors then, of 64 bits in one instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import frexp, prod
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcnet.arrays.dtypes import MAX_BITS, dtype
from mpcnet.arrays.native import matmul as products
from mpcnet.arrays.native import packing
from mpcnet.arrays.native.library import usable
from mpcnet.arrays.native.matmul import Packed
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.rounds import Part

__all__ = ["MAX_BITS", "dtype"]

_FULL = (1, 8, 16, 32, 64)  # rings whose words have no bits to spare
Bytes = NDArray[np.uint8]
Combine: TypeAlias = Callable[[Sequence[tuple[int, Tensor, Tensor | Packed]], Tensor | None, int], Tensor]


def floor_log2(x: float) -> int:
    """floor(log2 x), exactly. Hosts must agree on every number that shapes a program, and their libm's log2 may not."""
    return frexp(x)[1] - 1


def ceil_log2(x: float) -> int:
    """ceil(log2 x), exactly."""
    mantissa, exponent = frexp(x)
    return exponent - 1 if mantissa == 0.5 else exponent


def fit(x: Tensor, bits: int) -> Tensor:
    """Move a word to the storage type of a `bits`-bit ring (the bits above k stay arbitrary)."""
    return x.to(dtype(bits))


def reduce(x: Tensor, bits: int) -> Tensor:
    """The canonical word: bits above k cleared, or the full signed word where k fills its storage."""
    x = fit(x, bits)
    if bits in _FULL:
        return x
    return x & ((1 << bits) - 1)


def unsigned(x: Tensor, bits: int) -> Tensor:
    """The word as an integer in [0, 2^k), in int64. Needs k <= 63."""
    if bits >= MAX_BITS:
        raise ValueError("a 64-bit word has no unsigned form in int64")
    return x.to(torch.int64) & ((1 << bits) - 1)


def signed(x: Tensor, bits: int) -> Tensor:
    """The word as an integer in [-2^(k-1), 2^(k-1)), in int64."""
    spare = MAX_BITS - bits
    return (x.to(torch.int64) << spare) >> spare


def shift_right(x: Tensor, bits: int, count: int) -> Tensor:
    """A k-bit word to a (k - count)-bit word: the unsigned word divided by 2^count, rounded down.

    The arithmetic shift is enough: what it brings in lies above the k - count bits that count.
    """
    if not 0 <= count < bits:
        raise ValueError(f"cannot drop {count} of {bits} bits")
    return fit(x >> count, bits - count)


def encode(x: Tensor, frac: int, bits: int) -> Tensor:
    """Real numbers to ring words, rounded to the nearest multiple of 2^-frac."""
    return fit(torch.round(x.to(torch.float64) * 2.0**frac).to(torch.int64), bits)


def decode(x: Tensor, frac: int, bits: int) -> Tensor:
    """Ring words, read as signed, to real numbers."""
    return signed(x, bits).to(torch.float64) * 2.0**-frac


def narrow(x: Tensor, bits: int) -> Packed:
    """A matrix at wire width, as standing weights are kept: 5 or 6 bytes a word instead of 8."""
    shape = (*x.shape, (bits + 7) // 8)
    if isinstance(x, ShapeOnly):
        return Packed(cast(Tensor, ShapeOnly(shape, torch.uint8)))
    return Packed.of(torch.from_numpy(pack(x, bits).reshape(shape)))


def widen(x: Packed, bits: int) -> Tensor:
    """The inverse of :func:`narrow`."""
    if isinstance(x.raw, ShapeOnly):
        return zeros(x.shape, bits, "meta")
    return unpack(x.words().numpy().reshape(-1), Part(bits, x.shape, "matrix"))


def matmul(a: Tensor, b: Tensor | Packed, bits: int) -> Tensor:
    """The matrix product mod 2^k of operands at least k bits wide."""
    return combine(((1, a, b),), None, bits)


def combine(terms: Sequence[tuple[int, Tensor, Tensor | Packed]], c: Tensor | None, bits: int) -> Tensor:
    """c + the sum of sign a b mod 2^k, for one or two terms (sign, a, b); in one pass where there are kernels."""
    fitted = [(sign, fit(a, bits), b if isinstance(b, Packed) else fit(b, bits)) for sign, a, b in terms]
    if _multiplies(bits, fitted):
        return products.combine(fitted, None if c is None else fit(c, bits), bits)
    total = c
    for sign, a, b in fitted:
        value = a @ (fit(widen(b, bits), bits) if isinstance(b, Packed) else b)
        value = value if sign > 0 else -value
        total = value if total is None else fit(total, bits) + value
    assert total is not None
    return total


def _multiplies(bits: int, terms: Sequence[tuple[int, Tensor, Tensor | Packed]]) -> bool:
    """Whether the kernels have products for these; torch has any."""
    ranks = [len(x.shape) for _, a, b in terms for x in (a, b)]
    arrays = [x.raw if isinstance(x, Packed) else x for _, a, b in terms for x in (a, b)]
    fitting = min(ranks) >= 2 and max(ranks) <= products.MOST_BATCH + 2
    return fitting and bits >= products.LEAST_BITS and usable(*arrays)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """The entries of a one-dimensional table, for an index of any shape, none of it negative."""
    return table.index_select(0, index.reshape(-1)).reshape(index.shape)


def pack(x: Tensor, bits: int) -> Bytes:
    """The wire form of a tensor: ceil(k/8) little-endian bytes an element, single bits eight to a byte.

    The word is reduced first: a carry above bit k would give the share away.
    """
    if bits not in _FULL and usable(x):
        return packing.pack(fit(x, bits), bits)
    words = reduce(x, bits).contiguous().numpy().reshape(-1)
    raw = words.view(np.uint8)
    width, stored = (bits + 7) // 8, words.dtype.itemsize
    if width == stored:
        return raw
    return np.ascontiguousarray(raw.reshape(-1, stored)[:, :width]).reshape(-1)


def pack_difference(x: Tensor, y: Tensor, bits: int) -> Bytes:
    """The wire form of x - y, of one shape and of the storage type of the ring."""
    if bits > 1 and usable(x, y):
        return packing.pack_difference(x, y, bits)
    return pack(subtract(x, y, bits), bits)


def unpack(raw: Bytes, part: Part) -> Tensor:
    """The inverse of :func:`pack`; `raw` holds exactly `part.nbytes` bytes."""
    _check_size(raw, part)
    width, stored = (part.bits + 7) // 8, dtype(part.bits).itemsize
    if width != stored:
        if usable():
            return packing.unpack(raw, part.shape, part.bits)
        wide = np.zeros((raw.size // width, stored), np.uint8)
        wide[:, :width] = raw.reshape(-1, width)
        raw = wide.reshape(-1)
    elif not raw.flags.aligned or raw.ctypes.data % stored:
        raw = raw.copy()
    return from_stored(raw, part.bits, part.shape)


def unpack_opened(mine: Tensor, raw: Bytes, part: Part) -> Tensor:
    """The opened value, canonical, of our masked share and the wire form of the peer's: exactly `part.nbytes` bytes."""
    _check_size(raw, part)
    if part.bits > 1 and usable(mine):
        return packing.unpack_sum(raw, fit(mine, part.bits), part.bits)
    return add_opened(mine, unpack(raw, part), part.bits)


def _check_size(raw: Bytes, part: Part) -> None:
    if raw.size != part.nbytes:
        raise ValueError(f"{part.label}: want {part.nbytes} bytes for {part.bits} bits x {part.shape}, got {raw.size}")


def stored_shape(shape: Sequence[int], bits: int) -> tuple[int, ...]:
    """The shape of the tensor that holds values of `shape`."""
    return ((prod(shape) + 7) // 8,) if bits == 1 else tuple(shape)


def from_stored(raw: Bytes, bits: int, shape: Sequence[int]) -> Tensor:
    """Words of storage width, read in place (by numpy: torch cannot view an empty array as another type)."""
    width = dtype(bits).itemsize
    words = torch.from_numpy(raw.view(np.uint8 if width == 1 else f"<i{width}"))
    return words.reshape(stored_shape(shape, bits))


def add(a: Tensor, b: Tensor, bits: int) -> Tensor:
    """a + b mod 2^k, not reduced."""
    return a ^ b if bits == 1 else a + b


def subtract(a: Tensor, b: Tensor, bits: int) -> Tensor:
    """a - b mod 2^k, not reduced."""
    return a ^ b if bits == 1 else a - b


def add_opened(mine: Tensor, theirs: Tensor, bits: int) -> Tensor:
    """The opened value of two masked shares, canonical."""
    return reduce(add(mine, theirs, bits), bits)


def zeros(shape: Sequence[int], bits: int, device: str = "cpu") -> Tensor:
    """Zeros, or on the device "meta" only their shape (:mod:`mpcnet.arrays.shapes`)."""
    stored = stored_shape(shape, bits)
    if device == "meta":
        return cast(Tensor, ShapeOnly(stored, dtype(bits)))
    return torch.zeros(stored, dtype=dtype(bits), device=device)


def pack_bits(x: Tensor) -> Tensor:
    """0 and 1 of any integer type, or booleans, to a ring of one bit."""
    if isinstance(x, ShapeOnly):
        return zeros(x.shape, 1, "meta")
    flat = x.contiguous().numpy().reshape(-1)
    return torch.from_numpy(np.packbits(flat != 0 if flat.dtype.itemsize > 1 else flat, bitorder="little"))


def unpack_bits(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of :func:`pack_bits`: 0 and 1 in uint8.

    :raises ValueError: these are not the bytes of so many bits.
    """
    if tuple(x.shape) != stored_shape(shape, 1):
        raise ValueError(f"want {stored_shape(shape, 1)[0]} bytes for bits {list(shape)}, got {list(x.shape)}")
    if isinstance(x, ShapeOnly):
        return cast(Tensor, ShapeOnly(shape, torch.uint8))
    bits = np.unpackbits(x.numpy(), count=prod(shape), bitorder="little")
    return torch.from_numpy(bits).reshape(tuple(shape))
