"""The private range audit: did any value of a sentence leave the range that its number formats were proved for?

Ranges are calibrated; a text that exceeds them, margin included, gets a wrong answer silently. With an audit the
servers also compute one bit a sentence under MPC, which only the client learns.

Where it looks. An answer is right if three kinds of facts hold:

* A value that grows into a wider ring lies in [-2^(k-2), 2^(k-2)) of the k-bit ring it was opened in, or within a
  tighter limit (V's, so that the sum over the keys fits). Whatever grows is checked by protocols.arith.lift: inputs of
  LayerNorm and GeLU, V, weighted sums, 2Quad's scores, and every value between. Contexts are means of V's rows.
* 1/sqrt and 1/x are right: T r^2 = d and x z = 1 to a sixteenth, whatever the range and the method (`Audit.inverse`).
  That covers the square sums of LayerNorms and the row sums of softmax, above their range and below it.
* Scores of exact softmax have a bucket of the coarse maximum, and lie less than 120 below it.

Queries and keys never grow. What may overflow is their product, and it cannot while their rows' norms stay below a
bound (`Audit.norms`; Cauchy and Schwarz).

How. A check reads an opening that takes place anyway: the dealer shares one-hot tables of a few bits of the mask, and
whether the value is outside is a parity of entries, which is local (`outside`). The first table holds the limit in 8 to
16 of its 64 units; further ones lie four bits higher each, up to the top of the ring. For what no opening shows (T,
row sums, norms) a few values a row are opened besides; they travel in rounds that take place anyway
(mpcnet.rounds.Riders). A value that is opened modulo a period is opened in as wide a ring as the same bytes hold.

All bits of a sentence, held as xor shares, are hashed by a fixed public linear map to 40 bits. The hash of the shares
is a share of the hash, so nothing is sent; it is 0 if every bit is, and only for one pattern in 2^40 otherwise. At the
end one test for zero takes two rounds, and its shares are refreshed: the bit is all that the client learns.

What is found. Every value whose residue in the opened ring is outside its limit: from the limit to three times it (V:
500 times for 128 keys; scores: 900, and by the norms whatever queries and keys hold). Beyond that, a value whose
residue comes out inside again is missed: half of them (V, scores: one of 8 or less), each by itself, and one that is
found is enough. That no text can reach so far is a property of the weights: results of LayerNorm have the norm sqrt(d),
so a product with a column w is below |w| sqrt(d) (tests/models/test_audit.py shows it of real weights).
What is never flagged: values within 7/9 of a limit, or 15/16 if it is a power of two.

What is not looked at: padding; pooling, the pooler and the classifier, which are right in all of their rings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcnet import onehot, ring
from mpcnet.rounds import Riders
from mpcnet.shapes import ShapeOnly
from protocols.arith import lift, product, square
from protocols.boolean import xor_of_products
from protocols.division import RowRange
from protocols.party import Party
from protocols.share import Bits, Lifted, Masked, Shared

WINDOW = 6  # bits of a table
STEP = 4  # bits from one table to the next: 3 units of it and more are surely outside, 48 of the one below
LIMIT_BITS = 4  # a limit is 8 to 16 units of the first table

NORM = 384.0  # bound of the squared norms of a head's queries and keys: their products stay below it
BIAS = 64.0  # what a relative position bias may add to a score: 448 is within the scores' ring, which ends at 512
OPERAND_BITS = 28  # queries and keys of less than 2^28 in their ring: sums of 128 squares then fit the wide ring

RELATIVE = 12  # fraction bits of a ratio that should be 1
SIGNIFICANT = 10  # bits of the least value of a factor of it

DIGITS, DIGIT_BITS = 5, 8  # of the hash: 40 bits, compared with 0 by tables of 8
Words = NDArray[np.uint64]


def outside(p: Party, x: Masked, limit: int, centre: int = 0) -> Iterator[Bits]:
    """Bits of which one is 1 where x leaves [centre - limit, centre + limit), and none is well inside.

    For a first table of 2^6 entries whose unit u = 2^s is so that limit = m u, 8 <= m <= 16, and those above it.

    Rounds   0
    Offline  64 bits an element and table; a table for every four bits of the ring above the first
    Error    1 in two of the units next to the limit, inside; never 0 for a residue outside
    """
    if not 1 << (LIMIT_BITS - 1) < limit <= 1 << (x.bits - 2):
        raise ValueError(f"{p.label}: want a limit of 9 to 2^{x.bits - 2} in a ring of {x.bits} bits, got {limit}")
    start, most = max(ring.ceil_log2(limit) - LIMIT_BITS, 0), 0
    word = x.opened.to(torch.int64) - centre
    while True:
        size = min(WINDOW, x.bits - start)
        yield _window(p, x, word, start, size, most or limit >> start)
        if start + size == x.bits:
            return
        start, most = start + STEP, 3


def _window(p: Party, x: Masked, word: Tensor, start: int, size: int, most: int) -> Bits:
    """The bit is 0 for floor(x / 2^start) from 1 - most to most - 2, and 1 if not from -most to most - 1.

    Let X and R be the words' bits from `start` on, of x^ and r: floor(x / 2^start) is X - R, or one less. Inside is
    |X - R| < most: R is above X - most, and not above X + most - 1.
    """
    entries = 1 << size
    table = p.deal(lambda r: onehot.tables(r, (size,), start), (x.mask,), (*x.shape, entries), 1)
    [(above_low, _)] = onehot.read(table.share, word, (size,), start, most << start).digits
    [(above_high, _)] = onehot.read(table.share, word, (size,), start, (1 - most) << start).digits
    low = ((word >> start) - most) & (entries - 1)
    wrapped = low > entries - 2 * most  # low + 2 most - 1 is beyond the table
    return Bits(above_low ^ above_high, x.shape, x.party).flip(ring.pack_bits(wrapped)).flip()


@dataclass(slots=True, repr=False, eq=False)
class Audit:
    """The audit of one run: hashes every check's bits, by sentence, and says in the end if any was 1.

    `keep` [B, n] is the padding mask. Values are [B, n, .], or [B, heads, n, .]; those at padding do not count. Or they
    are a sentence's, [B, .].
    """

    keep: Tensor
    riders: Riders = field(default_factory=Riders)
    _hash: Words = field(init=False)

    def __post_init__(self) -> None:
        self._hash = np.zeros(len(self.keep), np.uint64)

    def within(self, p: Party, x: Masked, limit: int, centre: int = 0, keep: Tensor | None = None) -> None:
        """|x - centre| < limit, as integers, where `keep` is 1.

        Rounds   0
        Offline  as :func:`outside`
        """
        for bits in outside(_own(p), x, limit, centre):
            self._add(bits, keep)

    def inverse(self, p: Party, x: Shared, y: Shared, rows: RowRange, target: float) -> None:
        """x y = target to a sixteenth, for positive x, which should be in the range `rows`.

        Rounds   2, which others pay for
        Sends    about 16 bytes a row each way
        """
        self.riders.start(self._inverse(_own(p), x, y, rows, target))

    def root(self, p: Party, x: Shared, y: Lifted, rows: RowRange, target: float) -> None:
        """x y^2 = target: :meth:`inverse` for a square root."""
        self.inverse(p, x, square(_own(p), y), rows, target)

    def norms(self, p: Party, *values: Masked) -> None:
        """Products of these values' rows are below NORM, since the squares of their norms are.

        Rounds   1, which others pay for
        Sends    6 bytes a row each way
        Offline  42 bytes an element
        """
        for x in values:
            self.riders.start(self._norm(_own(p), x))

    async def _inverse(self, p: Party, x: Shared, y: Shared, rows: RowRange, target: float) -> None:
        factors = [_significant(p, x, rows.low), _significant(p, y, target / rows.high)]
        first, second = (lift(p, value) for value in await p.open(*factors))
        ratio = product(p, first, second).halve(exponent := ring.floor_log2(target))
        error = p.rescale(ratio, RELATIVE) - target / 2.0**exponent
        self.within(p, await p.open_one(error), 1 << (RELATIVE - 4))

    async def _norm(self, p: Party, x: Masked) -> None:
        self.within(p, x, 1 << OPERAND_BITS)
        total = p.rescale(square(p, lift(p, x)).sum(-1, keepdim=True), 0)
        self.within(p, await p.open_one(total), int(NORM))

    async def verdict(self, p: Party) -> Bits:
        """1 for each sentence of which a value was outside. Fresh shares, that say nothing of how they came about.

        Rounds   2, and those that its own openings still wait for
        Sends    10 bytes for a sentence each way, and no less
        Hiding   the hash, and then its digits' bits, are opened under fresh uniform bits
        """
        p = _own(p)
        await self.riders.finish()
        batch = self.keep.shape[0]
        opened = await p.open_bits(*(Bits(digit, (batch, DIGIT_BITS), p.source.party) for digit in self._digits()))
        zeros = []
        for digit in opened:
            table = p.deal(_tables, (digit.mask,), (batch, 1 << DIGIT_BITS), 1)
            [(_, equal)] = onehot.read(table.share, digit.opened, (DIGIT_BITS,)).digits
            zeros.append(Bits(equal, (batch,), digit.party))
        nothing = xor_of_products(p, await p.open_bits(*zeros), [tuple(range(DIGITS))])
        return nothing.flip() ^ p.zero_bits((batch,))

    def _digits(self) -> Iterator[Tensor]:
        """The low digits of the hash, a byte for each sentence."""
        for digit in range(DIGITS):
            yield torch.from_numpy((self._hash >> np.uint64(DIGIT_BITS * digit)).astype(np.uint8))

    def _add(self, bits: Bits, keep: Tensor | None) -> None:
        """h <- h x + sum of the bits times their coefficients, in GF(2^64)."""
        if isinstance(bits.packed, ShapeOnly):
            return
        counted = self._counted(bits, keep).reshape(len(self.keep), -1).numpy()
        added = np.bitwise_xor.reduce(np.where(counted, _coefficients(counted.shape[1]), np.uint64(0)), axis=1)
        carried = (self._hash >> np.uint64(63)) * np.uint64(0x1B)
        self._hash = self._hash << np.uint64(1) ^ carried ^ added

    def _counted(self, bits: Bits, keep: Tensor | None) -> Tensor:
        """Booleans of the bits' shape, false at padding."""
        valid = self.keep.bool()
        found = ring.unpack_bits(bits.packed, bits.shape).bool()
        if len(bits.shape) > 2:
            found = found & (valid.unsqueeze(-1) if len(bits.shape) == 3 else valid[:, None, :, None])
        return found if keep is None else found & keep.bool()


def _own(p: Party) -> Party:
    """For the auditor's own steps: nobody audits those, and they have a name of their own in the ledger."""
    return Party(p.source, "audit")


def _significant(p: Party, x: Shared, least: float) -> Shared:
    """x with as many fraction bits as its least value needs."""
    return p.rescale(x, min(x.frac, max(SIGNIFICANT - ring.floor_log2(least), 0)))


def _tables(mask: Tensor) -> Tensor:
    """The dealer's: rows of packed bits, as digits."""
    return onehot.tables(mask.to(torch.int64), (DIGIT_BITS,))


@cache
def _coefficients(count: int) -> Words:
    """Different words, without a pattern: those of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    words: Words = x ^ x >> np.uint64(31)
    return words
