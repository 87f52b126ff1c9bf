"""One-hot tables of a mask's digits, and what a server reads from its share of them at a public digit.

A word is cut into digits of `sizes` bits, from the lowest; the table of a digit d of b bits has 2^b entries, of which
entry d is 1. The tables of all digits of a word lie side by side, so a row has sum(2^b) bits.

Source   docs/protocol.md, "Comparisons"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import onehot as native
from mpcnet.arrays.shapes import ShapeOnly


def entries(sizes: Sequence[int]) -> int:
    """Bits of a row."""
    return sum(1 << size for size in sizes)


def tables(words: Tensor, sizes: Sequence[int], drop: int = 0) -> Tensor:
    """The rows of the words without their `drop` lowest bits, as bits [..., entries]."""
    if native.fits(sizes, words):
        return native.tables(words.to(torch.int64), sizes, drop)
    hot = [digit.unsqueeze(-1) == torch.arange(1 << size) for digit, size in _digits(words, sizes, drop)]
    return ring.pack_bits(torch.cat(hot, -1))


@dataclass(frozen=True, slots=True, repr=False)
class Read:
    """What a server reads at a public word: packed bits, one for each element."""

    digits: list[tuple[Tensor, Tensor]]  # shares of [public digit < secret digit], [public digit = secret digit]
    above: Tensor  # the public bit above the digits


def read(rows: Tensor, public: Tensor, sizes: Sequence[int], drop: int = 0, subtract: int = 0) -> Read:
    """Read the tables at the digits of (public - subtract) >> drop."""
    if isinstance(rows, ShapeOnly):
        nothing = ring.zeros(public.shape, 1, "meta")
        return Read([(nothing, nothing) for _ in sizes], nothing)
    words = public.to(torch.int64)
    if native.fits(sizes, rows, words):
        *digits, above = native.read(rows, words, subtract, sizes, drop)
        return Read(list(zip(digits[::2], digits[1::2], strict=True)), above)
    words = words - subtract
    digits = [_look_up(table, digit) for table, digit in _tables(rows, words, sizes, drop)]
    place = drop + sum(sizes)
    return Read(digits, ring.pack_bits(words >> place & 1 if place < ring.MAX_BITS else torch.zeros_like(words)))


def _look_up(table: Tensor, digit: Tensor) -> tuple[Tensor, Tensor]:
    up_to = table.cumsum(-1, dtype=torch.uint8)
    less = up_to[..., -1:] - torch.take_along_dim(up_to, digit, -1)
    equal = torch.take_along_dim(table, digit, -1)
    return ring.pack_bits(less.squeeze(-1) & 1), ring.pack_bits(equal.squeeze(-1))


def _tables(rows: Tensor, public: Tensor, sizes: Sequence[int], drop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each digit's table, a bit to an entry, and the public digit."""
    bits = ring.unpack_bits(rows, (*public.shape, entries(sizes)))
    starts = accumulate((1 << size for size in sizes), initial=0)
    for start, (digit, size) in zip(starts, _digits(public, sizes, drop), strict=False):
        yield bits[..., start : start + (1 << size)], digit.unsqueeze(-1)


def _digits(words: Tensor, sizes: Sequence[int], drop: int) -> list[tuple[Tensor, int]]:
    starts = accumulate(sizes, initial=drop)
    words = words.to(torch.int64)
    return [((words >> start) & ((1 << size) - 1), size) for start, size in zip(starts, sizes, strict=False)]
