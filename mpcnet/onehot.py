"""One-hot tables of a mask's digits, and what a server reads from its share of them at a public digit.

A word is cut into digits of `sizes` bits, from the lowest; the table of a digit d of b bits has 2^b entries, of which
entry d is 1. The tables of all digits of a word lie side by side, so a row has sum(2^b) bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from mpcnet import ring
from mpcnet.shapes import ShapeOnly


def entries(sizes: Sequence[int]) -> int:
    """Bits of a row."""
    return sum(1 << size for size in sizes)


def tables(words: Tensor, sizes: Sequence[int], drop: int = 0) -> Tensor:
    """The rows of the words without their `drop` lowest bits, as bits [..., entries]."""
    hot = [digit.unsqueeze(-1) == torch.arange(1 << size) for digit, size in _digits(words, sizes, drop)]
    return ring.pack_bits(torch.cat(hot, -1))


def equal(rows: Tensor, public: Tensor, sizes: Sequence[int], drop: int = 0) -> list[Tensor]:
    """For each digit, shares of the bits [public digit = secret digit], packed."""
    if isinstance(rows, ShapeOnly):
        return [ring.zeros(public.shape, 1, "meta") for _ in sizes]
    return [
        ring.pack_bits(torch.take_along_dim(table, digit, -1).squeeze(-1))
        for table, digit in _read(rows, public, sizes, drop)
    ]


def less(rows: Tensor, public: Tensor, sizes: Sequence[int], drop: int = 0) -> list[Tensor]:
    """For each digit, shares of the bits [public digit < secret digit], packed."""
    if isinstance(rows, ShapeOnly):
        return [ring.zeros(public.shape, 1, "meta") for _ in sizes]
    result = []
    for table, digit in _read(rows, public, sizes, drop):
        up_to = table.cumsum(-1, dtype=torch.uint8)
        result.append(ring.pack_bits((up_to[..., -1:] - torch.take_along_dim(up_to, digit, -1)).squeeze(-1) & 1))
    return result


def _read(rows: Tensor, public: Tensor, sizes: Sequence[int], drop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each digit's table, a bit to an entry, and the public digit."""
    bits = ring.unpack_bits(rows, (*public.shape, entries(sizes)))
    starts = accumulate((1 << size for size in sizes), initial=0)
    for start, (digit, size) in zip(starts, _digits(public, sizes, drop), strict=False):
        yield bits[..., start : start + (1 << size)], digit.unsqueeze(-1)


def _digits(words: Tensor, sizes: Sequence[int], drop: int) -> list[tuple[Tensor, int]]:
    starts = accumulate(sizes, initial=drop)
    words = words.to(torch.int64)
    return [((words >> start) & ((1 << size) - 1), size) for start, size in zip(starts, sizes, strict=False)]
