"""Opened values in wider rings, and their products (csrc/lifted.c); what they mean stands in mpcnet.protocols.arith."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mpcnet.arrays.native import structures
from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, usable
from mpcnet.arrays.native.structures import FORM_PAIRS, FORM_TERMS

_WORDS = ctypes.POINTER(structures.Words)
_product = Kernel("mpc_lifted_product", ctypes.POINTER(structures.FormProduct), SIZE, POINTER)
_share = Kernel("mpc_lifted_share", ctypes.POINTER(structures.Form), SIZE, SIZE, POINTER)
_grow = Kernel("mpc_lifted_grow", _WORDS, _WORDS, _WORDS, SIZE, INT, POINTER, POINTER, POINTER)

KINDS = (torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """public + sum of coefficient 2^shift secret, by a share of each secret."""

    public: Tensor
    terms: Sequence[tuple[Tensor | int, Tensor, int]]  # coefficient, share, shift


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The share of 2^shift times the product of secret `left` of one form and secret `right` of the other."""

    left: int
    right: int
    shift: int
    share: Tensor


def fits(*forms: Form) -> bool:
    """Whether these kernels can work on the forms: their words have 64 bits, and they are not shapes only."""
    return all(usable(f.public) and f.public.dtype == torch.int64 and len(f.terms) <= FORM_TERMS for f in forms)


def product(
    x: Form, y: Form, pairs: Sequence[Pair], party: int, shape: tuple[int, ...], level: str | None = None
) -> Tensor:
    """The party's share of x y; whatever has not the result's `shape` is broadcast to it.

    :raises ValueError: something does not broadcast, or is not made of a ring's words; there are too many terms.
    """
    if len(pairs) > FORM_PAIRS:
        raise ValueError(f"want up to {FORM_PAIRS} pairs, got {len(pairs)}")
    held: list[Tensor] = []
    described = structures.FormProduct(party, len(pairs), _form(x, shape, held), _form(y, shape, held))
    for number, pair in enumerate(pairs):
        if not (0 <= pair.left < len(x.terms) and 0 <= pair.right < len(y.terms)):
            have = f"{len(x.terms)} and {len(y.terms)}"
            raise ValueError(f"want a pair of {have} secrets, got numbers {pair.left} and {pair.right}")
        words = _words(pair.share, shape, held)
        described.pair[number] = structures.FormPair(pair.left, pair.right, _shift(pair.shift), words)
    out = torch.empty(shape, dtype=torch.int64)
    _product(level, described, out.numel(), out.data_ptr())
    return out


def share(x: Form, party: int, level: str | None = None) -> Tensor:
    """The party's share of x. :raises ValueError: as in :func:`product`."""
    held: list[Tensor] = []
    shape = tuple(x.public.shape)
    out = torch.empty(shape, dtype=torch.int64)
    _share(level, _form(x, shape, held), party, out.numel(), out.data_ptr())
    return out


def grow(opened: Tensor, mask: Tensor, carry: Tensor, k: int, level: str | None = None) -> tuple[Tensor, ...]:
    """From k bits: the public part, 1 - msb of the moved opening, and the share of the mask as an integer.

    :raises ValueError: the shares do not broadcast to the opened value, or k is out of range.
    """
    if not 2 <= k < 64:
        raise ValueError(f"want a ring of 2 to 63 bits to grow from, got {k}")
    held: list[Tensor] = []
    shape = tuple(opened.shape)
    words = [_words(x, shape, held) for x in (opened, mask, carry)]
    out = [torch.empty(shape, dtype=torch.int64) for _ in range(3)]
    _grow(level, *words, opened.numel(), k, *(x.data_ptr() for x in out))
    return tuple(out)


def _form(form: Form, shape: tuple[int, ...], held: list[Tensor]) -> structures.Form:
    """`held` keeps alive what it points to."""
    if len(form.terms) > FORM_TERMS:
        raise ValueError(f"want up to {FORM_TERMS} terms, got {len(form.terms)}")
    described = structures.Form(_words(form.public, shape, held), len(form.terms))
    for number, (coefficient, secret, shift) in enumerate(form.terms):
        term = structures.FormTerm(share=_words(secret, shape, held), shift=_shift(shift))
        if isinstance(coefficient, int):
            term.constant = coefficient
        else:
            term.coefficient = _words(coefficient, shape, held)
        described.term[number] = term
    return described


def _words(x: Tensor, shape: tuple[int, ...], held: list[Tensor]) -> structures.Words:
    """How a result of that shape reads x. `held` keeps x alive.

    :raises ValueError: x has no ring's type, or does not broadcast to the shape.
    """
    if not usable(x) or x.dtype not in KINDS:
        raise ValueError(f"want words of a ring on the cpu, got {x.dtype} on {x.device}")
    own = (1,) * (len(shape) - x.ndim) + tuple(x.shape)
    if len(own) != len(shape) or any(size not in (1, wanted) for size, wanted in zip(own, shape, strict=True)):
        raise ValueError(f"{list(x.shape)} does not broadcast to {list(shape)}")
    first = next((i for i, size in enumerate(own) if size != 1), len(own))
    last = next((i for i in reversed(range(len(own))) if own[i] != 1), -1) + 1
    if own[first:last] != shape[first:last]:  # ones between other dimensions
        x, first, last = x.expand(shape), 0, len(shape)
    x = x.contiguous()
    held.append(x)
    return structures.Words(x.data_ptr(), x.dtype.itemsize, max(prod(shape[last:]), 1), max(x.numel(), 1))


def _shift(shift: int) -> int:
    if not 0 <= shift < 64:
        raise ValueError(f"want a shift of 0 to 63 bits, got {shift}")
    return shift
