"""Products of opened bits. Shares of bits add by xor, and the masked opening hides a bit under a uniform bit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, MaskedBits


def xor_of_products(p: Party, bits: Sequence[MaskedBits], monomials: Sequence[tuple[int, ...]]) -> Bits:
    """The xor of products of opened bits, for example b0 b1 b2 + b1 b3; `monomials` holds index tuples.

    prod_i (b^_i + r_i) expands into public products times dealt products of masks; one dealt bit serves a subset of
    masks in every monomial that holds it.

    Rounds   0
    Offline  1 bit an element for each distinct subset of two or more masks
    Source   docs/protocol.md, "Products of bits"; [ABY2] for products of several factors
    """
    shape, party = bits[0].shape, bits[0].party
    total = torch.zeros_like(bits[0].opened)
    for subset, public in _coefficients(bits, monomials).items():
        if not subset:
            total = total ^ public if party == 0 else total
        elif len(subset) == 1:
            total = total ^ (public & bits[subset[0]].mask.share)
        else:
            dealt = p.deal(_and, [bits[i].mask for i in subset], shape, 1)
            total = total ^ (public & dealt.share)
    return Bits(total, shape, party)


def _coefficients(bits: Sequence[MaskedBits], monomials: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
    """For each subset of masks, the public bits that multiply it."""
    found: dict[tuple[int, ...], Tensor] = {}
    one = torch.zeros_like(bits[0].opened) | 0xFF
    for monomial in monomials:
        for size in range(len(monomial) + 1):
            for subset in combinations(monomial, size):
                public = _and(one, *(bits[i].opened for i in monomial if i not in subset))
                known = found.get(subset)
                found[subset] = public if known is None else known ^ public
    return found


def _and(*values: Tensor) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = result & value
    return result
