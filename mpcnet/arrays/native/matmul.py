"""Matrix products mod 2^k (csrc/matmul*.c): exact mod 2^k for operands whose bits above k are arbitrary."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpcnet.arrays.dtypes import dtype
from mpcnet.arrays.native import library, structures
from mpcnet.arrays.native.library import POINTER, SIZE, Kernel
from mpcnet.arrays.shapes import broadcast

MOST_BATCH, MOST_TERMS = structures.MOST_BATCH, structures.MOST_TERMS  # dimensions of a batch; terms of a sum
LEAST_BITS = 9  # of a ring: products of bytes are left to torch
STRIP = 48  # columns of a strip: MPC_STRIP of csrc/product.h
STEP = 64  # rows of the tiles of planes
ROWS, STRIPS, PLANES = range(3)  # enum mpc_layout

_matmul = Kernel("mpc_matmul", ctypes.POINTER(structures.Product))
_planes = Kernel("mpc_matmul_planes", POINTER, POINTER, SIZE, SIZE, SIZE)


def _in_planes(level: str | None = None) -> bool:
    """Whether this level (or the best) multiplies planes of bytes."""
    return (level or library.level()) == "amx"


@dataclass(frozen=True, slots=True, repr=False)
class Packed:
    """A matrix at wire width, as the kernels read it fastest: little-endian canonical words in strips of columns.

    `raw` is uint8 [..., rows, columns, bytes of a word], but only its size is to be read from that: each matrix holds
    its first 48 columns, row by row, then the next 48, and so on. So a product reads memory from start to end, where
    rows of thousands of columns would make it visit a page of memory for each of them, again and again.

    With `planes`, whole strips are split into tiles of planes of bytes as far as these are full, which AMX multiplies:
    once, and not for each product (csrc/matmul_amx_planes.h). So it is by default where there is AMX.
    """

    raw: Tensor
    planes: bool = field(default_factory=_in_planes)

    @staticmethod
    def of(words: Tensor, level: str | None = None) -> Packed:
        """From uint8 [..., rows, columns, bytes of a word], for kernels of this level or the best."""
        raw, planes = torch.empty(words.shape, dtype=torch.uint8), _in_planes(level)
        if planes and raw.numel():
            size = raw.shape[-3:]
            for one, split in zip(words.contiguous().view(-1, *size), raw.view(-1, *size), strict=True):
                _planes(level, one.data_ptr(), split.data_ptr(), *size)
        else:
            for strip, columns in _strips(raw):
                strip.copy_(words[..., columns, :])
        return Packed(raw, planes)

    def words(self) -> Tensor:
        """The inverse of :meth:`of`."""
        words = torch.empty_like(self.raw)
        for strip, columns in _strips(self.raw):
            words[..., columns, :] = _joined(strip) if self.planes else strip
        return words

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.raw.shape[:-1])


Right = Tensor | Packed


def _strips(raw: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Views [..., rows, columns of the strip, bytes] and the columns that they hold."""
    *batch, rows, columns, width = raw.shape
    flat = raw.view(*batch, rows * columns * width)
    for first in range(0, columns, STRIP):
        here = min(STRIP, columns - first)
        strip = flat[..., rows * first * width : rows * (first + here) * width]
        yield strip.view(*batch, rows, here, width), slice(first, first + here)


def _joined(strip: Tensor) -> Tensor:
    """The words of a strip whose full tiles are split into planes; those of a narrow strip are not."""
    *batch, rows, columns, width = strip.shape
    steps = rows // STEP if columns == STRIP else 0
    if not steps:
        return strip
    tiles, rest = strip.flatten(-3).tensor_split([steps * STEP * columns * width], -1)
    # Row 16 z + 4 l + c of a tile, and a column of it: at l, z, column, c.
    planes = tiles.reshape(*batch, STRIP // 16, steps, width, 4, 4, 16, 4)
    words = planes.movedim((-6, -3, -4, -1, -7, -2, -5), (-7, -6, -5, -4, -3, -2, -1))
    parts = (x.reshape(*batch, -1, columns, width) for x in (words, rest))
    return torch.cat(tuple(parts), -3)


def product(a: Tensor, b: Right, bits: int, level: str | None = None) -> Tensor:
    """a b mod 2^bits: [..., m, k] x [..., k, n], leading dimensions broadcast; the bits above are arbitrary.

    :raises ValueError: types, devices or shapes do not fit.
    """
    return combine(((1, a, b),), None, bits, level)


def combine(
    terms: Sequence[tuple[int, Tensor, Right]], c: Tensor | None, bits: int, level: str | None = None
) -> Tensor:
    """c + sum of sign a b mod 2^bits, in one pass over the result: for one or two (sign, a, b) of one shape of result.

    `a` and `c` (of the result's shape) and `b`, unless it is :class:`Packed`, are of the ring's storage type. Without
    copies: any `b`, and `a` with words of a row side by side. The bits of the result above are arbitrary.

    :raises ValueError: types, devices or shapes do not fit.
    """
    kind = dtype(bits)
    if bits < LEAST_BITS:
        raise ValueError(f"matrix product: want {LEAST_BITS} bits or more, got {bits}")
    if not 1 <= len(terms) <= MOST_TERMS or any(sign not in (1, -1) for sign, _, _ in terms):
        raise ValueError("matrix product: want one or two terms with sign 1 or -1")
    shapes = [_shape(a, b) for _, a, b in terms]
    shape = shapes[0]
    if shapes[-1] != shape or (c is not None and tuple(c.shape) != shape):
        raise ValueError(f"matrix product: terms of {[list(s) for s in shapes]} and {c is not None and list(c.shape)}")
    terms = [term for term in terms if term[1].shape[-1]]  # the others are zero
    out = torch.empty(shape, dtype=kind)
    if c is not None:
        c = _plain(c, kind).contiguous()
    if not out.numel() or not terms:
        return out.zero_() if c is None else out.copy_(c)
    one_matrix = all(len(b.shape) == 2 for _, _, b in terms)
    batch, rows = ((), out.numel() // shape[-1]) if one_matrix else (shape[:-2], shape[-2])
    if len(batch) > MOST_BATCH:
        raise ValueError(f"matrix product: want a batch of up to {MOST_BATCH} dimensions, got {list(batch)}")
    described = structures.Product(
        None if c is None else c.data_ptr(), out.data_ptr(), (*(1,) * (MOST_BATCH - len(batch)), *batch), rows,
        shape[-1], bits, len(terms),
    )  # fmt: skip
    kept = []  # what must live until the call
    for number, (sign, a, b) in enumerate(terms):
        kept.append(left := _left(a, kind, rows if one_matrix else None))
        right = _right(b, bits, kind, level)
        described.term[number] = structures.Term(_operand(left), right, a.shape[-1], sign < 0)
    _matmul(level, described)
    return out


def _shape(a: Tensor, b: Right) -> tuple[int, ...]:
    """The shape of a product."""
    one, other = tuple(a.shape), tuple(b.shape)
    if len(one) < 2 or len(other) < 2 or one[-1] != other[-2]:
        raise ValueError(f"matrix product of {list(one)} and {list(other)}")
    batch = one[:-2] if len(other) == 2 else broadcast(one[:-2], other[:-2])
    return (*batch, one[-2], other[-1])


def _plain(x: Tensor, kind: torch.dtype) -> Tensor:
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype != kind:
        raise ValueError(f"matrix product: want {kind} on the cpu, got {x.dtype} on {x.device}")
    return x


def _left(a: Tensor, kind: torch.dtype, rows: int | None) -> Tensor:
    """`a` with words of a row side by side; as one matrix of so many rows, if there is no batch."""
    a = _plain(a, kind)
    if rows is not None and a.ndim > 2:
        a = a.reshape(rows, a.shape[-1])
    return a if a.stride(-1) == 1 or a.shape[-1] <= 1 else a.contiguous()


def _right(b: Right, bits: int, kind: torch.dtype, level: str | None) -> structures.Operand:
    if not isinstance(b, Packed):
        return _operand(_plain(b, kind))
    raw, width = _plain(b.raw, torch.uint8), (bits + 7) // 8
    if raw.ndim < 3 or raw.shape[-1] != width or not raw.is_contiguous():
        raise ValueError(f"matrix product: want packed words of {width} bytes side by side, got {list(raw.shape)}")
    if b.planes and not _in_planes(level):
        raise ValueError(f"matrix product: want words in strips at level {level}, got planes")
    operand = _operand(raw[..., 0])
    operand.end = raw.data_ptr() + raw.numel()
    operand.bytes, operand.layout = width, PLANES if b.planes else STRIPS
    return operand


def _operand(x: Tensor) -> structures.Operand:
    """Where the words of [..., rows, columns] lie."""
    size, start, sizes, strides = x.element_size(), x.data_ptr(), x.shape, x.stride()
    last = sum((count - 1) * stride for count, stride in zip(sizes, strides, strict=True))
    batch = [0 if count == 1 else size * stride for count, stride in zip(sizes[:-2], strides[:-2], strict=True)]
    return structures.Operand(
        start, start + (last + 1) * size, (*(0,) * (MOST_BATCH - len(batch)), *batch), size * strides[-2],
        size * strides[-1], size, ROWS,
    )  # fmt: skip
