"""Products of opened values, and the faithful Pi_Mul, Pi_Square, Pi_MatMul on top of them.

Opening costs the round, multiplying costs none. For x = X + sum_i a_i and y = Y + sum_j b_j, with X, Y public and
a_i, b_j known to the dealer,

    [x y] = X [y] + Y [x] - X Y + sum_ij [a_i b_j]

where the public product is added by party 0 only, and [a_i b_j] is dealt.

Source   docs/protocol.md, "Dealt correlations"
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import lifted as native
from mpcnet.arrays.native.library import usable
from mpcnet.arrays.native.matmul import Packed
from mpcnet.arrays.shapes import broadcast
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Lifted, Masked, MaskedBits, Shared, Term, Weight
from mpcnet.randomness.source import Secret, carry

WIDE = 64  # the ring products land in unless a narrower one is asked for


def own_ring(x: Masked) -> Lifted:
    """x = x^ - r as a form in the ring it was opened in: no growth, nothing dealt."""
    return Lifted(x.opened, (Term(-1, x.mask),), x.bits, x.frac, x.party)


def lift(p: Party, x: Masked, bits: int = WIDE, *, sure: bool = False) -> Lifted:
    """Grow an opened value to a wider ring. Needs |x| < 2^(k-2) as an integer of its k-bit ring.

    An audit looks whether that is so, unless it is `sure`: proved for every text, or multiplied by 0 where it is not.

    With x' = x + 2^(k-2), over the integers x' = x'^ - r + 2^k m (1 - msb x'^), m = msb(r); and r = r_0 + r_1 - 2^k c.
    So x is a form in r, whose wide shares cost the dealt carry c, and in m.

    Rounds   0
    Offline  2 ceil((bits - k) / 8) bytes an element
    Source   docs/protocol.md, "Growing rings"
    """
    k = x.bits
    if bits < k:
        raise ValueError(f"{p.label}: cannot lift {k} bits to {bits}")
    if bits == k:
        return own_ring(x)
    if not sure:
        p.audit.within(p, x, 1 << (k - 2))
    spare = _spare(bits - k)
    wrapped = _deal_carry(p, x.mask, x.shape, spare)
    top = p.deal(lambda r: ring.unsigned(r, k) >> (k - 1), (x.mask,), x.shape, spare)
    public, positive, wide = _grow(x, wrapped.share, bits)
    plain = None if x.mask.plain is None else ring.unsigned(x.mask.plain, k)
    return Lifted(public, (Term(-1, Secret(bits, wide, plain)), Term(positive, top, k)), bits, x.frac, x.party)


def _grow(x: Masked, carry: Tensor, bits: int) -> tuple[Tensor, ...]:
    """The public part, 1 - msb x'^, and the share of r in the ring of `bits`."""
    k, offset = x.bits, 1 << (x.bits - 2)
    if ring.dtype(bits) == torch.int64 and usable(x.opened, x.mask.share, carry):
        return native.grow(x.opened, x.mask.share, carry, k)
    moved = ring.unsigned(x.opened.to(torch.int64) + offset, k)
    wide = ring.fit(ring.unsigned(x.mask.share, k), bits) - (ring.fit(carry, bits) << k)
    return ring.fit(moved - offset, bits), ring.fit(1 - (moved >> (k - 1)), bits), wide


def _spare(bits: int) -> int:
    """The ring for numbers that count mod 2^bits: one of a single bit would hold packed bits, which are no numbers."""
    return max(bits, 2)


def _deal_carry(p: Party, mask: Secret, shape: Sequence[int], bits: int) -> Secret:
    with_first = Secret(mask.bits, mask.share, mask.first)
    return p.deal(lambda r, first: carry(r, first, mask.bits), (mask, with_first), shape, bits)


def lift_bit(p: Party, b: MaskedBits, bits: int = WIDE) -> Lifted:
    """Opened bits b = b^ xor rho as numbers: b^ + (1 - 2 b^) rho, rho dealt in the wide ring.

    Rounds   0
    Offline  ceil(bits / 8) bytes an element
    """
    rho = p.deal(lambda r: ring.unpack_bits(r, b.shape), (b.mask,), b.shape, bits)
    public = ring.unpack_bits(b.opened, b.shape)
    sign = 1 - 2 * public.to(torch.int16)  # narrow: it is only read
    return Lifted(ring.fit(public, bits), (Term(sign, rho),), bits, 0, b.party)


def product(p: Party, x: Lifted, y: Lifted) -> Shared:
    """Elementwise product with broadcasting; fraction bits add up.

    Rounds   0
    Offline  for every pair of terms, ceil((bits - shifts) / 8) bytes an element of the result
    """
    if x.bits != y.bits:
        raise ValueError(f"{p.label}: cannot multiply in rings of {x.bits} and {y.bits} bits")
    pairs = [(i, j, 1) for i in range(len(x.terms)) for j in range(len(y.terms))]
    return _product(p, x, y, pairs)


def square(p: Party, x: Lifted) -> Shared:
    """x * x: the symmetric half of the pairs of :func:`product` is dealt once.

    Rounds   0
    Offline  8 + 5 + 1 bytes an element for a 28-bit opening in a 64-bit ring
    """
    pairs = [(i, j, 1 if i == j else 2) for i in range(len(x.terms)) for j in range(i, len(x.terms))]
    return _product(p, x, x, pairs)


def _product(p: Party, x: Lifted, y: Lifted, pairs: Sequence[tuple[int, int, int]]) -> Shared:
    """The product by dealt products of terms (i of x, j of y, times 1 or 2); those beyond the ring are left out."""
    shape, bits = broadcast(x.shape, y.shape), x.bits
    crosses = []
    for i, j, times in pairs:
        left, right = x.terms[i], y.terms[j]
        shift = left.shift + right.shift + times - 1
        if shift < bits:
            secrets = left.secret, right.secret
            dealt = p.deal(lambda a, b: _word(a, bits) * _word(b, bits), secrets, shape, _spare(bits - shift))
            crosses.append(native.Pair(i, j, shift, dealt.share))
    return Shared(_combine(x, y, crosses, shape), bits, x.frac + y.frac, x.party)


def _combine(x: Lifted, y: Lifted, crosses: Sequence[native.Pair], shape: tuple[int, ...]) -> Tensor:
    """X [y] + Y [x] - X Y + the dealt products, each times the coefficients of its terms."""
    forms = x.form(), y.form()
    if native.fits(*forms):
        return native.product(*forms, crosses, x.party, shape)
    total = x.public * y.shared().value + y.public * x.shared().value
    if x.party == 0:
        total = total - x.public * y.public
    for cross in crosses:
        value = ring.fit(cross.share, x.bits)
        value = value << cross.shift if cross.shift else value
        total = total + x.terms[cross.left].coefficient * (y.terms[cross.right].coefficient * value)
    return total


def _word(plain: Tensor, bits: int) -> Tensor:
    """A term's plain value in the wide ring. Terms keep their plain values canonical, so widening is exact."""
    return ring.fit(plain, bits)


def matmul(p: Party, x: Masked, y: Masked) -> Shared:
    """Matrix product of two opened values in the narrower of their rings; fraction bits add up.

    [x y] = [x] y^ - x^ [r_y] + [r_x r_y]

    Rounds   0
    Offline  ceil(bits / 8) bytes an element of the result
    """
    bits = min(x.bits, y.bits)
    shape = _matmul_shape(x.shape, y.shape)
    cross = p.deal(lambda a, b: ring.matmul(a, b, bits), (x.mask, y.mask), shape, bits)
    terms = ((1, x.shared().value, y.opened), (-1, x.opened, y.mask.share))
    return Shared(ring.combine(terms, cross.share, bits), bits, x.frac + y.frac, x.party)


def linear(p: Party, x: Masked, w: Weight) -> Shared:
    """:func:`matmul` by a matrix that was opened under a standing mask; only the cross term is fresh for each use.

    Rounds   0
    Offline  ceil(bits / 8) bytes an element of the result
    """
    if x.bits != w.bits:
        raise ValueError(f"{p.label}: cannot multiply {x.bits} bits by a weight of {w.bits}")
    bits, shape = w.bits, _matmul_shape(x.shape, w.shape)
    cross = p.deal(lambda a, b: p.combine(((1, a, Packed(b)),), None, bits), (x.mask, w.mask), shape, bits)
    terms = ((1, x.shared().value, Packed(w.opened)), (-1, x.opened, Packed(w.mask.share)))
    return Shared(p.combine(terms, cross.share, bits), bits, x.frac + w.frac, x.party)


def _matmul_shape(x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
    if x[-1] != y[-2]:
        raise ValueError(f"matrix product of {list(x)} and {list(y)}")
    return (*broadcast(tuple(x[:-2]), tuple(y[:-2])), x[-2], y[-1])


async def pi_mul(p: Party, x: Shared, y: Shared) -> Shared:
    """Pi_Mul: [x], [y] -> [x y], by Beaver's identity.

    Rounds   1
    Sends    16 bytes an element each way in the 64-bit ring
    Offline  8 bytes an element
    Source   [SecFormer], Pi_Mul; [Beaver91]
    """
    a, b = await p.open(x, y)
    return product(p, own_ring(a), own_ring(b))


async def pi_square(p: Party, x: Shared) -> Shared:
    """Pi_Square: [x] -> [x^2].

    Rounds   1
    Sends    8 bytes an element each way in the 64-bit ring
    Offline  8 bytes an element
    Source   [SecFormer], Pi_Square; [Beaver91]
    """
    return square(p, own_ring(await p.open_one(x)))


async def pi_matmul(p: Party, x: Shared, y: Shared) -> Shared:
    """Pi_MatMul: [X], [Y] -> [X Y].

    Rounds   1
    Sends    8 bytes an element of X and of Y each way in the 64-bit ring
    Offline  8 bytes an element of the result
    Source   [SecFormer], Pi_MatMul; [Beaver91]
    """
    a, b = await p.open(x, y)
    return matmul(p, a, b)
