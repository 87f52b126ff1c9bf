"""The private range audit: did any value of a sentence leave the range that its number formats serve?

Most ranges are proved for every text from the weights alone (mpcnet.models.formats.bounds), and need no audit. What is
only calibrated is audited: the servers compute, under MPC, one bit a sentence, which only the client learns.

Where it looks. An answer is right if these facts hold:

* A value that grows into a wider ring lies in [-2^(k-2), 2^(k-2)) of the k-bit ring it was opened in. What is not
  proved to is checked by mpcnet.protocols.arith.lift (`Audit.within`), and V, whose sum over the keys must fit, by
  mpcnet.models.families.bert.
* 1/sqrt and 1/x are right: by point functions, some cell holds x (mpcnet.protocols.cells); by iterations, T r^2 = d and
  x z = 1 to one part in 128 (`Audit.inverse`). That covers LayerNorm's sums of squares and softmax's row sums, too
  large or small.
* No score of exact softmax is above its row's maximum (mpcnet.protocols.exponential).
* Scores lie in their ring. Where the weights do not prove it, the norms of queries and keys stay below a bound
  (`Audit.norms`; Cauchy and Schwarz).

How. A check reads an opening that takes place anyway: the dealer shares a one-hot table of a few bits of the mask, and
whether the value is outside is a parity of entries, which is local (mpcnet.protocols.intervals). Whether a cell holds x
is a bit of what the servers read from the point function anyway. For what no opening shows (norms; iterations) a few
values a row are opened besides; they are piggybacked on rounds that take place anyway (mpcnet.rounds.Piggyback).

All bits of a sentence, held as xor shares, are hashed by a fixed public linear map to 40 bits. The hash of the shares
is a share of the hash, so nothing is sent; it is 0 if every bit is, and only for one pattern in 2^40 otherwise. In the
end it is multiplied by two random elements of GF(2^40): one is dealt, which takes an opening, and neither server knows
it; the other is the servers' own, and the dealer does not know it. What the client puts together is 0 where the hash
is, and otherwise uniform, whatever the hash was and even if it talks to one of the three. Twice in 2^40 it is 0 by
chance.

What is found by `within`. Every value whose residue in the opened ring is outside its limit: from the limit to three
times it. Beyond that, a value whose residue comes out inside again is missed. Never flagged: values within 7/9 of a
limit, or 15/16 if it is a power of two. The other checks miss nothing.

What is not looked at: padding; pooling, the pooler and the classifier, which are right in all of their rings.

Source   docs/protocol.md, "Audit and verdict"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.arrays.splitmix import Words, splitmix
from mpcnet.protocols.arith import lift, product, square
from mpcnet.protocols.intervals import between, digit
from mpcnet.protocols.party import UNAUDITED, Check, Party
from mpcnet.protocols.share import Bits, Masked, Shared
from mpcnet.rounds import Part, Piggyback

WINDOW = 6  # bits of a table
STEP = 4  # bits from one table to the next: 3 units of it and more are surely outside, 48 of the one below
LIMIT_BITS = 4  # a limit is 8 to 16 units of the first table

OPERAND_BITS = 28  # queries and keys of less than 2^28 in their ring: sums of 128 squares then fit the wide ring

RELATIVE = 12  # fraction bits of a ratio that should be 1
AGREE = 2.0**-7  # a ratio this far from 1 is surely found, one within 2/3 of it never; right runs stay within 3/5
BEYOND = 9 / 7  # of the end of a range: the least that :func:`out_of_range` can tell from what is in it
SIGNIFICANT = 10  # bits of the least value of a factor of it

HASH_BITS = 40
MODULUS = (1 << 40) | 0b111001  # x^40 + x^5 + x^4 + x^3 + 1 is irreducible: GF(2^40)


def out_of_range(p: Party, x: Masked, limit: int, centre: int = 0) -> Iterator[Bits]:
    """Bits of which one is 1 where x leaves [centre - limit, centre + limit), and none is well inside.

    For a first table of 2^6 entries whose unit u = 2^s is so that limit = m u, 8 <= m <= 16, and those above it.

    Rounds   0
    Offline  64 bits an element and table; a table for every four bits of the ring above the first
    Error    1 in two of the units next to the limit, inside; never 0 for a residue outside
    """
    if not 1 << (LIMIT_BITS - 1) < limit <= 1 << (x.bits - 2):
        raise ValueError(f"{p.label}: want a limit of 9 to 2^{x.bits - 2} in a ring of {x.bits} bits, got {limit}")
    start, most = max(ring.ceil_log2(limit) - LIMIT_BITS, 0), 0
    moved = Masked(x.opened.to(torch.int64) - centre, x.mask, x.frac, x.party)
    while True:
        size = min(WINDOW, x.bits - start)
        units = most or limit >> start  # floor(x / 2^start) is J or J - 1: inside is |J| < units
        yield between(digit(p, moved, start, size), [(1 - units, units - 1)])[0].flip()
        if start + size == x.bits:
            return
        start, most = start + STEP, 3


@dataclass(slots=True, repr=False, eq=False)
class Audit:
    """The audit of one run: hashes every check's bits, by sentence, and says in the end if any was 1.

    `keep` [B, n] is the padding mask. Values are [B, n, .], or [B, heads, n, .]; those at padding do not count. Or they
    are a sentence's, [B, .], or of no place in it, [B, 1, 1, ., .].
    """

    keep: Tensor
    _openings: Piggyback = field(default_factory=Piggyback)
    _hash: Words = field(init=False)
    _pending: bool = False  # bits were added to the hash since it was last told
    _told: Bits | None = None

    def __post_init__(self) -> None:
        self._hash = np.zeros(len(self.keep), np.uint64)

    def within(self, p: Party, x: Masked, limit: int, centre: int = 0, keep: Tensor | None = None) -> None:
        """|x - centre| < limit, as integers, where `keep` is 1.

        Rounds   0
        Offline  as :func:`out_of_range`
        """
        self.flag(lambda: out_of_range(_own(p), x, limit, centre), keep)

    def flag(self, check: Check, keep: Tensor | None = None) -> None:
        """The bits that `check` makes should be 0, where `keep` is 1.

        Rounds   0
        Offline  what `check` asks the dealer for
        """
        for bits in check():
            self._add(bits, keep)

    def _add(self, bits: Bits, keep: Tensor | None) -> None:
        """h <- h x + sum of the bits times their coefficients, in GF(2^64)."""
        self._pending = True
        if isinstance(bits.packed, ShapeOnly):
            return
        counted = self._counted(bits, keep).reshape(len(self.keep), -1).numpy()
        added = np.bitwise_xor.reduce(np.where(counted, splitmix(counted.shape[1]), np.uint64(0)), axis=1)
        carried = (self._hash >> np.uint64(63)) * np.uint64(0x1B)
        self._hash = self._hash << np.uint64(1) ^ carried ^ added

    def inverse(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        """x y = target to AGREE of it, for positive x, which should be from `low` to `high`: x < BEYOND high.

        Error    x and y are rounded to SIGNIFICANT bits of their least values, which changes the ratio by up to 2^-9,
                 and by 2^-8 in :meth:`root`; x or y is far from its least where the range is wide, and an iteration's
                 own error up to 1.2e-3
        Rounds   2, which others pay for
        Sends    about 16 bytes a row each way
        Offline  as :func:`out_of_range`, for x and for the product
        """
        self._openings.start(self._inverse(_own(p), x, y, low, high, target))

    def root(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        """x y^2 = target: :meth:`inverse` for a square root.

        Rounds   3, which others pay for
        """
        self._openings.start(self._root(_own(p), x, y, low, high, target))

    def norms(self, p: Party, limit: float, *values: Masked) -> None:
        """Products of these values' rows are below `limit`, since the squares of their norms are.

        Rounds   1, which others pay for
        Sends    6 bytes a row each way
        Offline  30 bytes an element of 32 bits, and about 66 a row
        """
        for x in values:
            self._openings.start(self._norm(_own(p), x, limit))

    async def _inverse(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        factors = [_significant(p, x, low), _significant(p, y, target / high)]
        opened = await p.open(*factors)
        first, second = (lift(p, value) for value in opened)
        limit = int(BEYOND * high * 2.0 ** opened[0].frac)
        self.within(p, opened[0], min(limit, 1 << (opened[0].bits - 2)))
        ratio = product(p, first, second).halve(exponent := ring.floor_log2(target))
        scaled = target / 2.0**exponent  # 1 to 2
        error = p.rescale(ratio, RELATIVE) - scaled
        self.within(p, await p.open_one(error), int(AGREE * scaled * 2**RELATIVE))

    async def _root(self, p: Party, x: Shared, y: Shared, low: float, high: float, target: float) -> None:
        opened = await p.open_one(_significant(p, y, sqrt(target / high)))
        await self._inverse(p, x, square(p, lift(p, opened)), low, high, target)

    async def _norm(self, p: Party, x: Masked, limit: float) -> None:
        self.within(p, x, 1 << OPERAND_BITS)
        total = p.rescale(square(p, lift(p, x)).sum(-1, keepdim=True), 0)
        self.within(p, await p.open_one(total), int(limit))

    def shown_bits(self, needed: int, possible: int) -> int:
        """All that travel: they show what does not fit."""
        return possible

    async def exchange(self, parts: tuple[Part, ...], mine: tuple[Tensor, ...]) -> list[Tensor]:
        """The protocol's exchange, with the audit's openings that wait.

        Rounds   1
        """
        return await self._openings.exchange(parts, mine)

    def tell(self, p: Party) -> None:
        """Tell what was found so far, in a round that others pay for; for when nothing is expected to follow."""
        self._openings.start(self._tell(_own(p)))

    async def verdict(self, p: Party) -> Bits:
        """Bits [B, 40], all 0 where nothing was found, and otherwise uniform: some are 1, but for two times in 2^40.

        Shares of (1 + pi) times what was told, pi the servers' own and fresh, and refreshed: they are what a client
        gets, and tell it no more if it knows all that the dealer does.

        Rounds   0 if all was told and no opening of the audit waits; 1 more for what was not, and those waited for
        Sends    5 bytes for a sentence each way
        """
        await self._openings.finish()
        if self._pending or self._told is None:
            self.tell(p)
            await self._openings.finish()
        assert self._told is not None
        told, shape = self._told, self._told.shape
        own = Bits(_times(told.packed, p.source.common(shape, 1), shape), shape, told.party)
        return told ^ own ^ p.zero_bits(shape)

    async def _tell(self, p: Party) -> None:
        """(1 + rho) h, from the opened hash h^ = h + r: h^ + rho h^ + r + rho r, with rho and rho r dealt.

        The hash goes on, so what is told later holds all that was told before: no two of them cancel, rho or not.

        Hiding   the hash is opened under fresh uniform bits; (1 + rho) h is uniform for h other than 0, since rho is
        """
        shape = (len(self.keep), HASH_BITS)
        places = np.uint64(1) << np.arange(HASH_BITS, dtype=np.uint64)
        mine = torch.from_numpy((self._hash[:, None] & places != 0).astype(np.uint8))
        self._pending = False
        (opened,) = await p.open_bits(Bits.of(mine, p.source.party))
        rho = p.source.mask(shape, 1)
        dealt = p.deal(lambda a, b: _times(a, b, shape), (rho, opened.mask), shape, 1)
        share = _times(rho.share, opened.opened, shape) ^ opened.mask.share ^ dealt.share
        told = Bits(share, shape, p.source.party).flip(opened.opened)
        self._told = told if self._told is None else self._told ^ told  # uniform if either is

    def _counted(self, bits: Bits, keep: Tensor | None) -> Tensor:
        """Booleans of the bits' shape, false at padding."""
        valid = self.keep.bool()
        found = ring.unpack_bits(bits.packed, bits.shape).bool()
        if len(bits.shape) in (3, 4):
            found = found & (valid.unsqueeze(-1) if len(bits.shape) == 3 else valid[:, None, :, None])
        return found if keep is None else found & keep.bool()


def _own(p: Party) -> Party:
    """For the auditor's own steps: nobody audits those, and they have a name of their own in the ledger."""
    return replace(p, label="audit", audit=UNAUDITED)


def _significant(p: Party, x: Shared, least: float) -> Shared:
    """x with as many fraction bits as its least value needs."""
    return p.rescale(x, min(x.frac, max(SIGNIFICANT - ring.floor_log2(least), 0)))


def _times(a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Products in GF(2^40) of elements [B, 40], packed; coefficients of 1, x, x^2, ... in order."""
    if isinstance(a, ShapeOnly) or isinstance(b, ShapeOnly):
        return ring.zeros(shape, 1, "meta")
    first, second = (_elements(x, shape) for x in (a, b))
    total = np.zeros(shape[0], np.uint64)
    for place in range(HASH_BITS):
        total ^= first * (second >> np.uint64(place) & np.uint64(1))
        first = first << np.uint64(1)
        first ^= (first >> np.uint64(HASH_BITS)) * np.uint64(MODULUS)
    bits = total[:, None] >> np.arange(HASH_BITS, dtype=np.uint64) & np.uint64(1)
    return ring.pack_bits(torch.from_numpy(bits.astype(np.uint8)))


def _elements(x: Tensor, shape: tuple[int, ...]) -> Words:
    """Rows of bits as words."""
    bits = ring.unpack_bits(x, shape).numpy().astype(np.uint64)
    words: Words = (bits << np.arange(HASH_BITS, dtype=np.uint64)).sum(1, dtype=np.uint64)
    return words
