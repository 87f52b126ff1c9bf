"""Rows of a private table at private places: a client shares an index, and whatever it shares names a row.

The index i is shared in the ring of K bits, 2^K not less than the table's rows, and opened under a mask, i^ = i + r.
The dealer shares a one-hot row of 2^K entries with its 1 at -r; turned by i^ it has its 1 at i. Places from the end of
the table on are folded onto its first rows: the index i stands for row i mod rows. So the servers look up by shares of
a row of the dealer's, never of the client's, and no client can ask for a sum of rows, or for none.

What is one-hot is a sum of any kind: of words, or mod 2. A long table is a matrix of bits, shared by xor
(:func:`look_up`): a place costs a bit to open then instead of a word, and the row that comes out is bits, which become
words in one round more. A short table is a matrix of words (:func:`look_up_short`).

Source   docs/protocol.md, "Lookups"
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from mpcnet.arrays import bitmatrix, ring
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.protocols.arith import linear
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked, MaskedBits, Shared, Weight
from mpcnet.randomness.source import Secret
from mpcnet.rounds import Part

BYTE = 8
LEAST_BITS = 6  # of a long table's index: its one-hot rows are whole words of 64 bits
LEAST_SHORT_BITS = 2  # of a short one's: a ring of one bit holds packed bits


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Table:
    """A matrix of `bits`-bit words, as bits that were opened once under a standing mask: opened = table xor r.

    Words have whole bytes, as on the wire, so a row is its words' bytes. Both are uint8, flat.
    """

    opened: Tensor
    mask: Secret
    rows: int
    columns: int
    bits: int
    frac: int

    @staticmethod
    def of(x: MaskedBits, columns: int, bits: int, frac: int) -> Table:
        """Keep an opened table [rows, bits of a row]; the dealer's copy of r_0 goes, as a weight's does."""
        mask = Secret(1, x.mask.share, x.mask.plain)
        return Table(x.opened, mask, x.shape[0], columns, bits, frac)

    @property
    def row_bytes(self) -> int:
        return self.columns * _bytes(self.bits)


def table_shape(rows: int, columns: int, bits: int) -> tuple[int, int]:
    """The shape of a :class:`Table` as bits."""
    return rows, BYTE * _bytes(bits) * columns


def table_bits(words: Tensor, bits: int) -> Tensor:
    """Ring words [rows, columns] as the packed bits of a :class:`Table`."""
    return torch.from_numpy(ring.pack(words, BYTE * _bytes(bits)))


def index_bits(rows: int, *, short: bool = False) -> int:
    """Of the ring in which the index of a table of so many rows is shared."""
    return max(ring.ceil_log2(rows), LEAST_SHORT_BITS if short else LEAST_BITS)


async def look_up(p: Party, index: Shared, table: Table) -> Shared:
    """table[index mod rows] of a long table: [...] in `index_bits(rows)` bits -> [..., columns] in the table's ring.

    Rounds   3: the index, the one-hot rows, the rows that were found
    Sends    for an index each way: its ceil(K / 8) bytes, a bit for each row of the table, and the row found
    Offline  for an index: 2^K bits, the bits of a row, and for each of its words 24 bytes if it has 16 bits, 48 if 24
    Hiding   i^ = i + r mod 2^K, and bits xor r, with r fresh and uniform: all that is opened is uniform
    Error    none
    Source   docs/protocol.md, "Lookups"
    """
    shape, count = index.shape, prod(index.shape)
    opened = await p.open_one(index.reshape(count))
    (places,) = await p.open_bits(_one_hot_bits(p, opened, table.rows))
    (found,) = await p.open_bits(_sum_of_rows(p, places, table))
    return _words(p, found, (count, table.columns), table).reshape(*shape, table.columns)


async def look_up_short(p: Party, index: Shared, table: Weight) -> Shared:
    """table[index mod rows] of a table of few rows: [...] in `index_bits(rows, short=True)` bits -> [..., columns].

    Rounds   2: the index, and the one-hot rows
    Sends    for an index each way: its ceil(K / 8) bytes, and a word of the table's ring for each row of the table
    Offline  for an index: 2^K words of the table's ring, and a word for each column
    Hiding   i^ = i + r mod 2^K, and words of the table's ring under fresh masks
    Error    none
    Source   docs/protocol.md, "Lookups"
    """
    rows, columns = table.shape
    shape, count = index.shape, prod(index.shape)
    opened = await p.open_one(index.reshape(count))
    hot = _one_hot_words(p, opened, rows, table.bits)
    return linear(p, await p.open_one(hot), table).reshape(*shape, columns)


async def one_hot_rows(p: Party, index: Shared, rows: int, bits: int) -> Shared:
    """The one-hot row of index mod rows: [...] in `index_bits(rows or more, short=True)` bits -> [..., rows] in `bits`.

    Whatever a client shares, each row has one 1: a product with it picks one row of a shared matrix.

    Rounds   1
    Sends    for an index its ceil(K / 8) bytes each way
    Offline  for an index: 2^K words of `bits`
    Hiding   i^ = i + r mod 2^K with r fresh and uniform: i^ is uniform
    Error    none
    Source   docs/protocol.md, "Lookups"
    """
    opened = await p.open_one(index.reshape(prod(index.shape)))
    return _one_hot_words(p, opened, rows, bits).reshape(*index.shape, rows)


def _one_hot_bits(p: Party, index: Masked, rows: int) -> Bits:
    """Shares of the one-hot row of each index, [count, rows] in whole bytes: bits behind the last row mean nothing."""
    size = 1 << index.bits
    count = len(index.opened)
    dealt = p.deal(lambda r: _packed_places(r, index.bits), (index.mask,), (count, size), 1)
    shape = (count, BYTE * _bytes(rows))
    if isinstance(dealt.share, ShapeOnly):
        return Bits(ring.zeros(shape, 1, "meta"), shape, index.party)
    by = ring.unsigned(index.opened, index.bits)
    found = bitmatrix.turned(dealt.share.reshape(count, size // BYTE), by, rows)
    return Bits(found.reshape(-1), shape, index.party)


def _one_hot_words(p: Party, index: Masked, rows: int, bits: int) -> Shared:
    """Shares of the one-hot row of each index, [count, rows]."""
    size, count = 1 << index.bits, len(index.opened)
    dealt = p.deal(lambda r: _places(r, index.bits)[:, None] == torch.arange(size), (index.mask,), (count, size), bits)
    if isinstance(dealt.share, ShapeOnly):
        return Shared(ring.zeros((count, rows), bits, "meta"), bits, 0, index.party)
    by = ring.unsigned(index.opened, index.bits)
    turned = torch.take_along_dim(dealt.share, (torch.arange(size) - by[:, None]) % size, 1)
    found = torch.zeros(count, rows, dtype=turned.dtype)
    for start in range(0, size, rows):
        part = turned[:, start : start + rows]
        found[:, : part.shape[1]] += part
    return Shared(found, bits, 0, index.party)


def _packed_places(mask: Tensor, bits: int) -> Tensor:
    """The dealer's one-hot rows of 2^bits, packed: 1 at -r."""
    places = _places(mask, bits)
    hot = torch.zeros(len(places), (1 << bits) // BYTE, dtype=torch.uint8)
    return hot.scatter_(1, (places // BYTE)[:, None], (1 << places % BYTE).to(torch.uint8)[:, None]).reshape(-1)


def _places(mask: Tensor, bits: int) -> Tensor:
    return -ring.unsigned(mask, bits) % (1 << bits)


def _sum_of_rows(p: Party, places: MaskedBits, table: Table) -> Bits:
    """The table's rows at one-hot places, mod 2: [x] W^ + x^ [r_W] + [r_x r_W] (see mpcnet.protocols.arith.linear)."""
    count, width = places.shape[0], table.row_bytes
    shape = (count, BYTE * width)
    sizes = (count, _bytes(table.rows)), (table.rows, width)

    def cross(a: Tensor, b: Tensor) -> Tensor:
        return bitmatrix.product((a.reshape(sizes[0]), b.reshape(sizes[1]))).reshape(-1)

    dealt = p.deal(cross, (places.mask, table.mask), shape, 1)
    if isinstance(dealt.share, ShapeOnly):
        return Bits(ring.zeros(shape, 1, "meta"), shape, places.party)
    mine = places.opened ^ places.mask.share if places.party == 0 else places.mask.share
    chosen, opened, mask = mine.reshape(sizes[0]), table.opened.reshape(sizes[1]), table.mask.share.reshape(sizes[1])
    sums = bitmatrix.product((chosen, opened), (places.opened.reshape(sizes[0]), mask))
    return Bits(sums.reshape(-1) ^ dealt.share, shape, places.party)


def _words(p: Party, found: MaskedBits, shape: tuple[int, int], table: Table) -> Shared:
    """Opened bits b^ = b xor rho as the words they make: the sum of 2^s (b^ + (1 - 2 b^) rho), with the rho dealt.

    Bit s counts mod 2^(k - s), so the eight bits of a byte are dealt in the ring that the lowest of them needs.
    """
    bits, width = table.bits, _bytes(table.bits)
    planes = (*shape, BYTE)
    dealt = [
        p.deal(lambda r, at=at: _byte(r, at, width).reshape(planes), (found.mask,), planes, max(bits - BYTE * at, 2))
        for at in range(width)
    ]
    if isinstance(found.opened, ShapeOnly):
        return Shared(ring.zeros(shape, bits, "meta"), bits, table.frac, found.party)
    public = ring.unpack(found.opened.numpy(), Part(bits, shape))
    total = public if found.party == 0 else torch.zeros_like(public)
    for at, secret in enumerate(dealt):
        share = ring.fit(secret.share, bits)
        for place in range(BYTE):
            negative = -(public >> (BYTE * at + place) & 1)  # -1 where b^ is 1: x ^ -1 is -x - 1
            total = total + (((share[..., place] ^ negative) - negative) << (BYTE * at + place))
    return Shared(total, bits, table.frac, found.party)


def _byte(mask: Tensor, at: int, width: int) -> Tensor:
    """Byte `at` of each word of packed bits, as bits, one to an element."""
    bytes_of = mask.reshape(-1, width)[:, at].contiguous()
    return ring.unpack_bits(bytes_of, (BYTE * len(bytes_of),))


def _bytes(bits: int) -> int:
    """That hold so many bits."""
    return (bits + BYTE - 1) // BYTE
