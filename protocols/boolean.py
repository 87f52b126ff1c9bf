"""Bits: shares mod 2, where addition is xor and the masked opening hides a bit under a uniform bit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from mpcnet import ring
from protocols.party import Party
from protocols.share import Masked, Shared


def xor_of_products(p: Party, bits: Sequence[Masked], monomials: Sequence[tuple[int, ...]]) -> Shared:
    """The xor of products of opened bits, for example b0 b1 b2 + b1 b3; `monomials` holds index tuples.

    prod_i (b^_i + r_i) expands into public products times dealt products of masks; one dealt bit serves a subset of
    masks in every monomial that holds it.

    Rounds   0
    Offline  1 bit an element for each distinct subset of two or more masks
    """
    shape = bits[0].shape
    total = torch.zeros_like(bits[0].opened)
    coefficient: dict[tuple[int, ...], Tensor] = {}
    for monomial in monomials:
        for size in range(len(monomial) + 1):
            for subset in combinations(monomial, size):
                public = _product([bits[i].opened for i in monomial if i not in subset], total)
                known = coefficient.get(subset)
                coefficient[subset] = public if known is None else known ^ public
    party = bits[0].party
    for subset, public in coefficient.items():
        if not subset:
            total = total ^ public if party == 0 else total
        elif len(subset) == 1:
            total = total ^ (public & bits[subset[0]].mask.share)
        else:
            dealt = p.deal(_and, [bits[i].mask for i in subset], shape, 1)
            total = total ^ (public & dealt.share)
    return Shared(total, 1, 0, party)


def _product(values: Sequence[Tensor], like: Tensor) -> Tensor:
    result = torch.ones_like(like)
    for value in values:
        result = result & value
    return result


def _and(*masks: Tensor) -> Tensor:
    result = masks[0]
    for mask in masks[1:]:
        result = result & mask
    return ring.reduce(result, 1)
