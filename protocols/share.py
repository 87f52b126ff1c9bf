"""Values as the computing parties hold them: `Shared`, `Masked`, `Lifted`, and `Bits`, `MaskedBits`.

Shared   x = x_0 + x_1 mod 2^bits; the real number is x / 2^frac, x read as signed. Sums, public factors and
         rearrangements are operators and free.
Masked   public x^ = x + r mod 2^bits with r known to the dealer only. Products of masked values are local
         (:mod:`mpcnet.protocols.arith`).
Lifted   x as a public linear form in values only the dealer knows, x = X + sum_i c_i 2^(s_i) t_i, in a ring
         that may be wider than the one x was opened in. Masks, wrap bits and opened bits are all such forms, so one
         product rule serves them.
Bits     b = b_0 xor b_1 for every bit of a shape, held as eight bits to a byte; MaskedBits are b xor r, opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import lifted as native
from mpcnet.randomness.source import Secret

Rearrange = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Shared:
    """One party's additive share. `party` decides who adds public numbers: party 0."""

    value: Tensor
    bits: int
    frac: int
    party: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def reduce(self, bits: int) -> Shared:
        """The same value in a narrower ring: free."""
        if bits > self.bits:
            raise ValueError(f"a share cannot grow from {self.bits} to {bits} bits by itself: open it and lift it")
        return replace(self, value=ring.fit(self.value, bits), bits=bits)

    def map(self, rearrange: Rearrange) -> Shared:
        return replace(self, value=rearrange(self.value))

    def take(self, index: Any) -> Shared:
        """The elements at `index`: an integer, a slice, or a tuple of them."""
        return self.map(lambda value: value[index])

    def reshape(self, *shape: int) -> Shared:
        return self.map(lambda value: value.reshape(shape))

    def sum(self, dim: int, keepdim: bool = False) -> Shared:
        return self.map(lambda value: value.sum(dim, keepdim=keepdim, dtype=value.dtype))

    def scale(self, factor: int | Tensor, frac: int = 0) -> Shared:
        """Times a public integer (or integer tensor) that stands for factor / 2^frac."""
        if isinstance(factor, Tensor):
            factor = ring.fit(factor, self.bits)
        return replace(self, value=self.value * factor, frac=self.frac + frac)

    def halve(self, count: int = 1) -> Shared:
        """Divided by 2^count exactly, by reading the same integer at a finer scale."""
        return replace(self, frac=self.frac + count)

    def finer(self, count: int) -> Shared:
        """The same number with `count` more fraction bits, in a ring that is as much wider (64 bits at most): free."""
        bits = min(self.bits + count, ring.MAX_BITS)
        return replace(self, value=ring.fit(self.value, bits) << count, bits=bits, frac=self.frac + count)

    def __neg__(self) -> Shared:
        return replace(self, value=-self.value)

    def __add__(self, other: Shared | float | Tensor) -> Shared:
        if isinstance(other, Shared):
            if other.frac != self.frac:
                raise ValueError(f"cannot add {self.frac} and {other.frac} fraction bits: rescale one")
            bits = min(self.bits, other.bits)
            return replace(self, value=ring.fit(self.value, bits) + ring.fit(other.value, bits), bits=bits)
        if self.party != 0:
            return self
        number = torch.as_tensor(other, dtype=torch.float64)
        return replace(self, value=self.value + ring.encode(number, self.frac, self.bits))

    def __sub__(self, other: Shared | float | Tensor) -> Shared:
        return self + (-other)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Masked:
    """An opened value x^ = x + r: `opened` is public and canonical, `mask` is r as this party sees it."""

    opened: Tensor
    mask: Secret
    frac: int
    party: int

    @property
    def bits(self) -> int:
        return self.mask.bits

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.opened.shape)

    def reduce(self, bits: int) -> Masked:
        """The same value as opened in a narrower ring: free."""
        mask = self.mask.map(lambda x: ring.reduce(x, bits))
        return replace(self, opened=ring.reduce(self.opened, bits), mask=replace(mask, bits=bits))

    def map(self, rearrange: Rearrange) -> Masked:
        """The same rearrangement of the opened value and of its mask."""
        return replace(self, opened=rearrange(self.opened), mask=self.mask.map(rearrange))

    def shared(self) -> Shared:
        """The shares again: x^ - r, for free."""
        value = self.opened - self.mask.share if self.party == 0 else -self.mask.share
        return Shared(value, self.bits, self.frac, self.party)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Weight:
    """A matrix opened once under a standing mask; both are kept at wire width (:func:`mpcnet.arrays.ring.narrow`)."""

    opened: Tensor  # uint8 [rows, columns, bytes of a word], and so are the views of the mask
    mask: Secret
    frac: int

    @staticmethod
    def of(x: Masked) -> Weight:
        """Keep an opened matrix; the dealer's copy of r_0 goes, since a weight is never grown."""
        plain = None if x.mask.plain is None else ring.narrow(x.mask.plain, x.bits).raw
        mask = Secret(x.bits, ring.narrow(x.mask.share, x.bits).raw, plain)
        return Weight(ring.narrow(x.opened, x.bits).raw, mask, x.frac)

    @property
    def bits(self) -> int:
        return self.mask.bits

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.opened.shape[:-1])


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Bits:
    """One party's xor share of a bit for every element of `shape`; `packed` is flat, eight of them to a byte."""

    packed: Tensor
    shape: tuple[int, ...]
    party: int

    @staticmethod
    def of(bits: Tensor, party: int) -> Bits:
        """From 0 and 1, one to an element."""
        return Bits(ring.pack_bits(bits), tuple(bits.shape), party)

    def __xor__(self, other: Bits) -> Bits:
        if other.shape != self.shape:
            raise ValueError(f"cannot add bits {list(self.shape)} and {list(other.shape)}")
        return replace(self, packed=self.packed ^ other.packed)

    def flip(self, where: Tensor | int = 0xFF) -> Bits:
        """1 - b, or only where packed public bits are 1: party 0 flips its share."""
        return replace(self, packed=self.packed ^ where) if self.party == 0 else self

    def map(self, rearrange: Rearrange) -> Bits:
        """The bits, one to an element, rearranged."""
        return Bits.of(rearrange(ring.unpack_bits(self.packed, self.shape)), self.party)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MaskedBits:
    """Opened bits b^ = b xor r: `opened` is public and packed, `mask` is r as this party sees it."""

    opened: Tensor
    mask: Secret
    shape: tuple[int, ...]
    party: int


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Term:
    """coefficient * 2^shift * secret, with a public coefficient."""

    coefficient: Tensor | int
    secret: Secret
    shift: int = 0


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Lifted:
    """x = public + sum of terms, mod 2^bits; every secret's share lives in a ring of bits - shift or more."""

    public: Tensor
    terms: tuple[Term, ...]
    bits: int
    frac: int
    party: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.public.shape)

    def affine(self, factor: int, offset: float, frac: int = 0) -> Lifted:
        """x * factor / 2^frac + offset, for a public integer and a public real number: free."""
        shift = ring.encode(torch.tensor(offset, dtype=torch.float64), self.frac + frac, self.bits)
        terms = tuple(Term(t.coefficient * factor, t.secret, t.shift) for t in self.terms)
        public = self.public * factor + shift
        return replace(self, public=public, terms=terms, frac=self.frac + frac)

    def shared(self) -> Shared:
        """The additive shares of x in the wide ring: free."""
        if native.fits(form := self.form()):
            return Shared(native.share(form, self.party), self.bits, self.frac, self.party)
        total = self.public if self.party == 0 else torch.zeros_like(self.public)
        for term in self.terms:
            part = term.coefficient * ring.fit(term.secret.share, self.bits)
            total = total + (part << term.shift if term.shift else part)
        return Shared(ring.fit(total, self.bits), self.bits, self.frac, self.party)

    def form(self) -> native.Form:
        """What the native kernels need of it."""
        return native.Form(self.public, [(t.coefficient, t.secret.share, t.shift) for t in self.terms])
