"""Point functions shared by keys: what stands at a secret place, and 0 elsewhere, read at public places for free.

The place is a mask's word r, the payload a function of r. An opened word x^ = x + r mod 2^K is public, so x is known
as soon as r's place near x^ is: cells of size 2^l tile the ring, X = x^ >> l and alpha = r >> l are the cells of x^ and
r, and z = X - alpha is floor(x / 2^l) or one more. A server reads its shares of [alpha = X - z] payload at every z that
matters; what it then weighs them with is public.

A `Cover` reads cells that grow with x: level by level, from the coarsest, it takes those with z from 8 to 31 and cuts
those with z from 0 to 7 in four. So each x from 8 cells of the finest size on lies in exactly one cell, of size between
x / 32 and x / 7, decided by one carry.

One tree serves all levels: the cell of a coarser level is a prefix of the finer ones. Its nodes hold seeds, equal at
both servers off the path to r and independent on it, with control bits that differ on the path only. Corrections, the
same for both, keep it so from level to level; others turn the difference of two pseudo-random payloads into the dealt
one. Seeds have 126 bits; their two lowest bits, and those of a correction, hold control bits.

Assumption: H_k(s) = AES_k(s) xor s under four public keys is a pseudo-random generator, and stays one for many seeds
(AES as ideal permutations). A key hides r and the payload from one server then. The keys follow from session and
stream, so no two runs have one in common: who guesses seeds guesses those of one run.

Words are 64 bits, blocks two words, little-endian.

Source   docs/protocol.md, "Point functions"; [BGI16] for the tree, [BBCGI21] for payloads at prefixes, [GKWY20] for H_k
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.native import fss as native
from mpcnet.arrays.shapes import ShapeOnly
from mpcnet.randomness.prg import Domain
from mpcnet.rounds import Part

Words: TypeAlias = NDArray[np.uint64]

NEAR_BITS = 3  # cells with z below 8 are cut: a cell's size is an eighth of x at most
RATIO_BITS = 2  # in four
NEAR, CHILDREN = 1 << NEAR_BITS, 1 << (NEAR_BITS + RATIO_BITS)
CELLS = CHILDREN - NEAR  # that a level reads: z from 8 to 31
PAYLOAD = 4  # words of a payload: two blocks
BLOCK = 2  # words

CHILD, LEAF = (0, 1), (2, 3)  # the k of H_k that makes a node's two children, and its two blocks of payload
_ONE = np.uint64(1)
_SEED = np.array([~np.uint64(3), ~np.uint64(0)])  # a block without the place of control bits


@dataclass(frozen=True, slots=True)
class Cover:
    """Cells of `count` sizes: the finest has 2^low units, the next four times that, and so on.

    Serves 8 2^low <= x < 2^bits - 2^bits / 32.
    """

    low: int
    count: int

    def __post_init__(self) -> None:
        if self.low < 0 or self.count < 1 or self.bits >= ring.MAX_BITS:
            raise ValueError(f"no cover has {self.count} sizes of cells from 2^{self.low} on in 63 bits")

    @property
    def depth(self) -> int:
        """Levels of the tree."""
        return NEAR_BITS + RATIO_BITS * self.count

    @property
    def bits(self) -> int:
        """Of the opened word."""
        return self.low + self.depth

    @property
    def sizes(self) -> tuple[int, ...]:
        """log2 of the cells' sizes, coarsest first, as levels are counted everywhere."""
        return tuple(self.low + RATIO_BITS * level for level in reversed(range(self.count)))

    @property
    def steps(self) -> tuple[int, ...]:
        """Levels of the tree from one size of cells to the next."""
        return (NEAR_BITS + RATIO_BITS, *(RATIO_BITS,) * (self.count - 1))

    @property
    def words(self) -> int:
        """Of an element's corrections: a block for each level of the tree, two for each size of cells."""
        return BLOCK * self.depth + PAYLOAD * self.count

    def part(self, shape: Sequence[int], label: str) -> Part:
        """The corrections as they travel: 16 bytes a level of the tree, 32 a size of cells."""
        return Part(64, (*shape, self.words), label)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Hashes:
    """The H_k of one stream: their four public keys, which all three parties know, and what kernels make of them."""

    keys: tuple[bytes, ...]
    schedule: Tensor | None  # None where the kernels are not

    @staticmethod
    def of(session: bytes, stream: int) -> Hashes:
        """Derived from the session's public id and the stream's number."""
        domain = Domain(session, stream, "hash").encode()
        keys = tuple(
            hashlib.blake2b(domain + bytes([k]), digest_size=16, person=b"mpcnet fss 2").digest()
            for k in (*CHILD, *LEAF)
        )
        raw = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), 16)
        return Hashes(keys, native.schedule(raw) if native.usable() else None)


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One server's: a seed for each element, [..., 2], and the corrections, [..., words], which both have.

    `hashes` are those that the corrections were made with; None where there are shapes only.
    """

    party: int
    seeds: Tensor
    corrections: Tensor
    hashes: Hashes | None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.seeds.shape[:-1])


@dataclass(frozen=True, slots=True, repr=False)
class Plain:
    """The oracle's: the place itself, and the payload, [..., size of cells, 4]."""

    place: Tensor
    payload: Tensor


Points: TypeAlias = Key | Plain


def shape_only(shape: Sequence[int], cover: Cover) -> Key:
    """A key of which the dealer and the meter need the shape."""
    return Key(0, ring.zeros((*shape, BLOCK), 64, "meta"), ring.zeros((*shape, cover.words), 64, "meta"), None)


def generate(place: Tensor, payload: Tensor, roots: tuple[Tensor, Tensor], cover: Cover, hashes: Hashes) -> Tensor:
    """The corrections, [..., words], for places [...], payloads [..., size, 4] and both servers' seeds [..., 2].

    :raises ValueError: their shapes do not go together.
    """
    shape, rows = tuple(place.shape), place.numel()
    if payload.shape != (*shape, cover.count, PAYLOAD) or any(root.shape != (*shape, BLOCK) for root in roots):
        raise ValueError(f"{list(shape)} places do not go with payloads {list(payload.shape)}")
    alpha = ring.unsigned(place, cover.bits) >> cover.low
    if hashes.schedule is not None and native.usable(alpha, payload, *roots):
        first, second = (root.reshape(rows, BLOCK) for root in roots)
        wanted = payload.reshape(rows, cover.count, PAYLOAD)
        made = native.generate(hashes.schedule, alpha.reshape(rows), wanted, (first, second))
        return made.reshape(*shape, cover.words)
    words = _words(alpha, rows), _words(payload, rows, cover.count, PAYLOAD)
    return _tensor(_generate(*words, roots, cover, hashes), *shape, cover.words)


def _generate(alpha: Words, payload: Words, roots: tuple[Tensor, Tensor], cover: Cover, hashes: Hashes) -> Words:
    rows = len(alpha)
    seeds = [_words(root, rows, 1, BLOCK) & _SEED for root in roots]
    controls = [np.full((rows, 1), party, np.uint64) for party in (0, 1)]
    blocks, leaves = [], []
    depth = 0
    for level, steps in enumerate(cover.steps):
        for _ in range(steps):
            depth += 1
            right = alpha >> np.uint64(cover.depth - depth) & _ONE
            blocks.append(_descend(seeds, controls, right, hashes))
        first, second = (_leaves(seed, hashes)[:, 0] for seed in seeds)
        leaves.append((payload[:, level] - first + second) * (controls[0] - controls[1]))
    return np.concatenate([*blocks, *leaves], 1)


def _descend(seeds: list[Words], controls: list[Words], right: Words, hashes: Hashes) -> Words:
    """One step along the path, for both servers in place; returns its correction."""
    rows, turn = np.arange(len(right)), right.astype(np.int64)
    raw = [_expand(seed, hashes) for seed in seeds]
    differ = (raw[0] ^ raw[1])[:, 0]  # [row, side, 2]
    block: Words = differ[rows, 1 - turn] & _SEED
    left_bit, right_bit = (differ[:, 0, 0] ^ right ^ _ONE) & _ONE, (differ[:, 1, 0] ^ right) & _ONE
    block[:, 0] |= left_bit | right_bit << _ONE
    for party in (0, 1):
        seed, control = _correct(raw[party], controls[party], block)
        seeds[party], controls[party] = seed[rows, turn][:, None], control[rows, turn][:, None]
    return block


def shares(points: Points, opened: Tensor, cover: Cover) -> Tensor:
    """Shares of [r in that cell] payload for the cells of each opened word: [..., size, z - 8, 4] in the 64-bit ring.

    Cells that a word does not have hold 0.
    """
    shape = tuple(opened.shape)
    if isinstance(points, Key) and (points.shape, points.corrections.shape) != (shape, (*shape, cover.words)):
        raise ValueError(f"a key for {list(points.shape)} does not go with {list(shape)} opened words")
    result = (*shape, cover.count, CELLS, PAYLOAD)
    if isinstance(opened, ShapeOnly):
        return ring.zeros(result, 64, "meta")
    words = _words(ring.unsigned(opened, cover.bits), opened.numel())
    return _tensor(
        _plain(points, words, cover) if isinstance(points, Plain) else _shares(points, words, cover), *result
    )


def _shares(key: Key, opened: Words, cover: Cover) -> Words:
    assert key.hashes is not None
    rows, hashes = len(opened), key.hashes
    seeds = _words(key.seeds, rows, 1, BLOCK) & _SEED
    controls = np.full((rows, 1), key.party, np.uint64)
    corrections = _words(key.corrections, rows, cover.words)
    blocks = corrections[:, : BLOCK * cover.depth].reshape(rows, cover.depth, BLOCK)
    leaves = corrections[:, BLOCK * cover.depth :].reshape(rows, cover.count, 1, PAYLOAD)
    out = np.zeros((rows, cover.count, CELLS, PAYLOAD), np.uint64)
    depth = 0
    for level, (size, steps) in enumerate(zip(cover.sizes, cover.steps, strict=True)):
        for _ in range(steps):
            seeds, controls = _correct(_expand(seeds, hashes), controls, blocks[:, depth])
            depth += 1
        nodes = _nodes(opened >> np.uint64(size), level)
        far, near = nodes[:, NEAR:], nodes[:, NEAR - 1 :: -1]  # the near ones in the order of the tree
        there = np.take_along_axis(controls, np.maximum(far, 0), 1)[..., None]
        chosen = np.take_along_axis(seeds, np.maximum(far, 0)[..., None], 1)
        values = _leaves(chosen, hashes) + there * leaves[:, level]
        out[:, level] = np.where((far >= 0)[..., None], values, np.uint64(0))
        seeds, controls = np.take_along_axis(seeds, near[..., None], 1), np.take_along_axis(controls, near, 1)
    return out if key.party == 0 else np.negative(out)


def _nodes(cells: Words, level: int) -> NDArray[np.int64]:
    """Where the cells with z = 0, 1, ... 31 are among the nodes of a level, [row, z]; below 0: not there.

    The coarsest level has all nodes of the tree; others have the children of the cells with z from 7 to 0.
    """
    z, at = np.arange(CHILDREN), cells.astype(np.int64)[:, None]
    if level == 0:
        return (at - z) % CHILDREN
    return CHILDREN - (1 << RATIO_BITS) + at % (1 << RATIO_BITS) - z


def _plain(points: Plain, opened: Words, cover: Cover) -> Words:
    place = _words(ring.unsigned(points.place, cover.bits), len(opened))
    payload = _words(points.payload, len(opened), cover.count, 1, PAYLOAD)
    hot = np.zeros((len(opened), cover.count, CELLS), np.uint64)
    for level, size in enumerate(cover.sizes):
        cells = opened >> np.uint64(size)
        distance = (cells - (place >> np.uint64(size))) % np.uint64(1 << (cover.bits - size))
        there = _nodes(cells, level)[:, NEAR:] >= 0
        hot[:, level] = (distance[:, None] == np.arange(NEAR, CHILDREN, dtype=np.uint64)) & there
    return hot[..., None] * payload


def _expand(seeds: Words, hashes: Hashes) -> Words:
    """Both children of each node, uncorrected: [row, node, side, 2]."""
    return np.stack([_hash(hashes.keys[k], seeds) for k in CHILD], 2)


def _leaves(seeds: Words, hashes: Hashes) -> Words:
    """Each node's pseudo-random payload: [row, node, 4]."""
    return np.concatenate([_hash(hashes.keys[k], seeds) for k in LEAF], 2)


def _correct(raw: Words, controls: Words, block: Words) -> tuple[Words, Words]:
    """Seeds [row, 2 nodes, 2] and control bits [row, 2 nodes] of children whose parents have those control bits."""
    rows, nodes = controls.shape
    bits = np.stack([block[:, 0] & _ONE, block[:, 0] >> _ONE & _ONE], 1)[:, None]
    control = (raw[..., 0] & _ONE) ^ controls[..., None] & bits
    seeds = (raw & _SEED) ^ controls[..., None, None] * (block & _SEED)[:, None, None]
    return seeds.reshape(rows, 2 * nodes, BLOCK), control.reshape(rows, 2 * nodes)


def _hash(key: bytes, seeds: Words) -> Words:
    """H_k(s) = AES_k(s) xor s of every block."""
    source = np.ascontiguousarray(seeds, "<u8")
    room = bytearray(source.nbytes + 15)  # what the cipher asks for
    # ECB is AES itself, block by block: this is a hash of pseudo-random seeds, and encrypts nothing.
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    cipher.update_into(source.tobytes(), room)
    hashed: Words = np.frombuffer(room, "<u8", source.size).reshape(source.shape) ^ source
    return hashed


def _words(x: Tensor, *shape: int) -> Words:
    return x.contiguous().numpy().view(np.uint64).reshape(shape)


def _tensor(words: Words, *shape: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(words).view(np.int64)).reshape(shape)
