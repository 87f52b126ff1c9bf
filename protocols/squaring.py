"""(1 + x / 2^t)^(2^t), the limit form of e^x, by squarings; and public combinations of opened bits.

CrypTen squares 8 or 9 times, PUMA 5 times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols.arith import lift, lift_bit, square
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Lifted, MaskedBits, Shared, Term

FRAC, BITS = 20, 24  # of the powers of many elements: below 4 in magnitude, and 3 bytes to open
ROW_FRAC, ROW_BITS = 28, 32  # of one value a row


async def squared(
    p: Party, base: Lifted, times: int, frac: int = FRAC, bits: int = BITS, *, sure: bool = False
) -> Shared:
    """base^(2^times), at `frac` fraction bits in a ring of `bits`. Needs |base^(2^k)| < 2^(bits - 2 - frac) for k from
    1 to times - 1; `sure`: that holds, or what comes out does not count.

    Rounds   times - 1: the first square is local
    Sends    ceil(bits / 8) bytes an element and round each way
    Offline  15 bytes an element and round for 24 bits
    Error    an ulp of each square, doubled by each that follows: 2^times ulp at most, where |base| is about 1
    Source   [CrypTen]; [PUMA]
    """
    value = p.rescale(square(p, base), frac).reduce(bits)
    for _ in range(times - 1):
        opened = await p.open_one(value)
        value = p.rescale(square(p, lift(p, opened, bits + frac, sure=sure)), frac)
    return value


def combined(
    p: Party, bits: Sequence[MaskedBits], weights: Sequence[int], offset: int, frac: int, ring_bits: int
) -> Lifted:
    """offset + the sum of weight * bit, over 2^frac: a public linear form in the bits' masks.

    Rounds   0
    Offline  ceil(ring_bits / 8) bytes an element and bit
    """
    public, terms = torch.tensor(offset), []
    for bit, weight in zip(bits, weights, strict=True):
        lifted = lift_bit(p, bit, ring_bits)
        public = lifted.public * weight + public
        (term,) = lifted.terms
        sign = ring.fit(cast(Tensor, term.coefficient), ring_bits)  # it was narrow
        terms.append(Term(sign * weight, term.secret))
    return Lifted(ring.fit(public, ring_bits), tuple(terms), ring_bits, frac, p.source.party)
