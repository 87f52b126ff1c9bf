"""Whether a bucket of a long row is in use, by random parities of its scores instead of their count.

A count of more than 255 scores would take two dealt bytes for every score and bucket. A parity takes a bit: what is
dealt for a score is its bucket, one-hot, in shares of bits. For each bucket the scores in it or above are those whose
bits add up to 1. Each has a random word that both servers know. The xor of these words is 0 if there is no such score,
and uniform otherwise.

Source   docs/protocol.md, "Row maximum"
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import parity as native
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.arrays.splitmix import splitmix
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Masked
from mpcnet.randomness import onehot

PARITY_BITS = 40
AT_A_TIME = 1 << 22  # bits that torch adds up, where there are no kernels: each takes some 20 bytes
DIGITS = (5,) * 8  # of a parity, which is 0 if they are; the bits that say so are a word again


async def none_at_or_above(p: Party, x: Masked, low: int, buckets: int, keep: Tensor) -> Bits:
    """For each bucket b >= 1, in no order: whether no kept score of a row lies in b or above it.

    [..., query, key] -> [..., query, B - 1]. A score's bucket is the number of its bits from `low` on, mod B. A "none"
    is always said where it is true; it is said where it is false with a chance of 2^-40, over the words that the
    servers draw, for each bucket by itself.

    Rounds   2 (parities, their digits)
    Sends    6 bytes a row and bucket but the lowest, each way
    Offline  a bit a score and bucket, and a row and bucket but the lowest 64 bytes
    Hiding   parities and the bits of digits are opened under fresh uniform bits
    Source   docs/protocol.md, "Row maximum"
    """
    size = buckets.bit_length() - 1
    table = p.deal(lambda r: onehot.tables(r, (size,), low), (x.mask,), (*x.shape, buckets), 1).share
    found = _parities(x, low, keep, table, _coefficients(p, x.shape[-1], buckets))
    digits = await _are_zero(p, Bits(found, (*x.shape[:-1], buckets - 1, PARITY_BITS), x.party), DIGITS)
    (none,) = await _are_zero(p, _side_by_side(digits).flip(), (len(DIGITS),))
    return none


def _coefficients(p: Party, keys: int, buckets: int) -> Tensor:
    """A word for each key and bucket. The oracle's own words are 0, so that it has the constants alone."""
    own = p.source.common((keys, buckets), ring.MAX_BITS)
    constants = splitmix(keys * buckets).view(np.int64).reshape(keys, buckets)
    return own ^ torch.from_numpy(constants.copy())


def _parities(x: Masked, low: int, keep: Tensor, table: Tensor, coefficients: Tensor) -> Tensor:
    """Packed [row, B - 1, PARITY_BITS]."""
    rows, keys, buckets = prod(x.shape[:-1]), x.shape[-1], coefficients.shape[-1]
    if isinstance(table, ShapeOnly):
        return ring.zeros((rows, buckets - 1, PARITY_BITS), 1, "meta")
    opened = ring.fit(x.opened >> low, 16).reshape(rows, keys)
    kept = keep.expand(x.shape).reshape(rows, keys).to(torch.uint8)
    if native.fits(buckets, table, opened):
        return native.parities(opened, kept, table, coefficients, PARITY_BITS // 8)
    return ring.pack_bits(_summed(opened, kept, ring.unpack_bits(table, (rows, keys, buckets)), coefficients))


def _summed(opened: Tensor, keep: Tensor, table: Tensor, coefficients: Tensor) -> Tensor:
    """:func:`_parities` in torch, a bit to an element.

    Bucket b of a score opened as u is entry u - b of its table. From the highest bucket down these are the entries from
    u + 1 on.
    """
    keys, buckets = coefficients.shape
    words = (coefficients[:, :-1, None] >> torch.arange(PARITY_BITS) & 1).float().transpose(0, 1)
    found = torch.empty(len(opened), buckets - 1, PARITY_BITS, dtype=torch.uint8)
    parts = range(0, len(opened), max(1, AT_A_TIME // max(1, keys * buckets)))
    for part in (slice(start, start + parts.step) for start in parts):
        places = (opened[part, :, None].to(torch.int64) + 1 + torch.arange(buckets)) & (buckets - 1)
        inside = table[part].gather(-1, places)[..., :-1].cumsum(-1) & keep[part, :, None] & 1
        found[part] = (inside.float().permute(2, 0, 1) @ words).permute(1, 0, 2).to(torch.int64).to(torch.uint8) & 1
    return found


async def _are_zero(p: Party, words: Bits, sizes: tuple[int, ...]) -> list[Bits]:
    """For each digit of the words along the last axis, whether it is 0.

    Rounds   1
    Offline  2^b bits a word for each digit of b bits
    """
    shape, width = words.shape[:-1], words.shape[-1]
    (opened,) = await p.open_bits(words)
    rows = p.deal(
        lambda r: onehot.tables(_numbers(r, shape, width), sizes), (opened.mask,), (*shape, onehot.entries(sizes)), 1
    )
    read = onehot.read(rows.share, _numbers(opened.opened, shape, width), sizes)
    return [Bits(equal, shape, words.party) for _, equal in read.digits]


def _numbers(packed: Tensor, shape: tuple[int, ...], width: int) -> Tensor:
    """Words of `width` bits, whole bytes, as int64."""
    if isinstance(packed, ShapeOnly):
        return ring.zeros(shape, ring.MAX_BITS, "meta")
    numbers = torch.zeros(prod(shape), 8, dtype=torch.uint8)
    numbers[:, : width // 8] = packed.reshape(-1, width // 8)
    return numbers.view(torch.int64).reshape(shape)


def _side_by_side(bits: list[Bits]) -> Bits:
    """One word of them for each element."""
    shape, party = bits[0].shape, bits[0].party
    if isinstance(bits[0].packed, ShapeOnly):
        return Bits(ring.zeros((*shape, len(bits)), 1, "meta"), (*shape, len(bits)), party)
    return Bits.of(torch.stack([ring.unpack_bits(b.packed, shape) for b in bits], -1), party)
