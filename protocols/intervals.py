"""Is a digit of an opened value in a public interval? Read locally from a one-hot table of the mask's digit.

Let X and R be the `size` bits from `start` on of the words x^ and r. Then J = X - R mod 2^size is floor(x / 2^start),
or one more: what lies below borrows. The dealer shares a one-hot table of R as bits; "J is from a to b" says that R is
from X - b to X - a, and is a parity of entries around X. One table serves every interval.

Source   docs/protocol.md, "Comparisons"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked
from mpcnet.randomness import onehot


@dataclass(frozen=True, slots=True, repr=False)
class Digit:
    """A digit of an opened value, with this server's share of its mask's table."""

    rows: Tensor
    word: Tensor
    start: int
    size: int
    shape: tuple[int, ...]
    party: int


def digit(p: Party, x: Masked, start: int, size: int) -> Digit:
    """Deal the table of the `size` bits of x's mask from `start` on.

    Rounds   0
    Offline  2^size bits an element
    """
    table = p.deal(lambda r: onehot.tables(r, (size,), start), (x.mask,), (*x.shape, 1 << size), 1)
    return Digit(table.share, x.opened.to(torch.int64), start, size, x.shape, x.party)


def between(x: Digit, intervals: Sequence[tuple[int, int]]) -> list[Bits]:
    """The bits [a <= J <= b] of each interval (a, b), which is shorter than the table.

    Rounds   0
    """
    # R is in (X - b - 1, X - a] if it is above the one end and not above the other; an interval that wraps flips that.
    above = cache(lambda by: onehot.read(x.rows, x.word, (x.size,), x.start, by << x.start).digits[0][0])
    place = (x.word >> x.start).to(torch.int16)  # narrow: it is only compared
    found = []
    for low, high in intervals:
        wraps = ring.pack_bits(((place - low) & ((1 << x.size) - 1)) <= high - low)
        found.append(Bits(above(high + 1) ^ above(low), x.shape, x.party).flip(wraps))
    return found
