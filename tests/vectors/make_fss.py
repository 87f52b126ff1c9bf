"""Write fss.json: keys of point functions, what each server reads from them, and what must be refused.

Run from the repository root: python tests/vectors/make_fss.py
The construction is spelled out here on Python integers, one node at a time from the root, not with mpcnet.randomness.fss.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SESSION, STREAM = bytes(range(16)), 7
FIELDS = (SESSION, STREAM.to_bytes(8, "big"), b"hash")
DOMAIN = b"".join(len(field).to_bytes(4, "big") + field for field in FIELDS)
KEYS = [hashlib.blake2b(DOMAIN + bytes([k]), digest_size=16, person=b"mpcnet fss 2").digest() for k in range(4)]
WORD, BLOCK = 1 << 64, 1 << 128


def hashed(k: int, seed: int) -> int:
    """AES_k(s) xor s; a block is 16 bytes, little-endian."""
    cipher = Cipher(algorithms.AES(KEYS[k]), modes.ECB()).encryptor()
    return int.from_bytes(cipher.update(seed.to_bytes(16, "little")), "little") ^ seed


def child(node: tuple[int, int], side: int, block: int) -> tuple[int, int]:
    """The seed and control bit below a node: the block corrects where the node's control bit is 1."""
    seed, control = node
    raw = hashed(side, seed)
    return ((raw ^ control * block) >> 2 << 2, raw & 1 ^ control & block >> side & 1)


def leaf(seed: int) -> list[int]:
    return [half for k in (2, 3) for half in reversed(divmod(hashed(k, seed), WORD))]


def sizes(low: int, count: int) -> list[int]:
    return [low + 2 * level for level in reversed(range(count))]


def correct(
    place: int, payload: list[list[int]], roots: list[int], low: int, count: int
) -> tuple[list[int], list[list[int]]]:
    """A block for each level of the tree, four words for each size of cells."""
    bits = low + 3 + 2 * count
    nodes = [(root >> 2 << 2, party) for party, root in enumerate(roots)]
    blocks, words = [], []
    for depth in range(1, bits - low + 1):
        turn = place >> (bits - depth) & 1
        differ = [hashed(side, nodes[0][0]) ^ hashed(side, nodes[1][0]) for side in (0, 1)]
        controls = [differ[side] & 1 ^ (turn == side) for side in (0, 1)]
        blocks.append(differ[1 - turn] >> 2 << 2 | controls[0] | controls[1] << 1)
        nodes = [child(node, turn, blocks[-1]) for node in nodes]
        if bits - depth in sizes(low, count):
            sign = nodes[0][1] - nodes[1][1]
            wanted = payload[len(words)]
            pairs = zip(wanted, leaf(nodes[0][0]), leaf(nodes[1][0]), strict=True)
            words.append([sign * (value - first + second) % WORD for value, first, second in pairs])
    return blocks, words


def cells(opened: int, low: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Level, z and cell of every cell that is read: z from 8 to 31, its coarser cell one that is cut (z below 8)."""
    bits = low + 3 + 2 * count
    for level, size in enumerate(sizes(low, count)):
        for z in range(8, 32):
            at = ((opened >> size) - z) % 2 ** (bits - size)
            if level == 0 or ((opened >> size + 2) - (at >> 2)) % 2 ** (bits - size - 2) < 8:
                yield level, z, at


def read(
    party: int, root: int, blocks: list[int], words: list[list[int]], opened: int, low: int, count: int
) -> list[Any]:
    """[level, z, four words] of every cell that is read."""
    bits, rows = low + 3 + 2 * count, []
    for level, z, at in cells(opened, low, count):
        node, depth = (root >> 2 << 2, party), bits - sizes(low, count)[level]
        for d in range(depth):
            node = child(node, at >> (depth - 1 - d) & 1, blocks[d])
        values = [(value + node[1] * word) % WORD for value, word in zip(leaf(node[0]), words[level], strict=True)]
        rows.append([level, z, [f"{(-value if party else value) % WORD:016x}" for value in values]])
    return rows


def number(text: str, bits: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode()).digest(), "little") % 2**bits


def positive(low: int, count: int, x: int) -> dict[str, Any]:
    bits, name = low + 3 + 2 * count, f"{low} {count} {x} "
    place, roots = number(name + "place", bits), [number(name + f"root {i}", 128) for i in (0, 1)]
    payload = [[number(name + f"payload {level} {i}", 64) for i in range(4)] for level in range(count)]
    blocks, words = correct(place, payload, roots, low, count)
    opened = (place + x) % 2**bits
    flat = [half for block in blocks for half in reversed(divmod(block, WORD))] + [w for row in words for w in row]
    return {
        "low": low, "count": count, "x": x, "place": place, "opened": opened,
        "payload": [[f"{word:016x}" for word in row] for row in payload],
        "roots": [[f"{half:016x}" for half in reversed(divmod(root, WORD))] for root in roots],
        "corrections": [f"{word:016x}" for word in flat],
        "shares": [read(party, roots[party], blocks, words, opened, low, count) for party in (0, 1)],
    }  # fmt: skip


POSITIVE = [(0, 1, 8), (0, 1, 30), (5, 1, 977), (2, 2, 32), (2, 2, 491), (13, 3, 70000), (13, 3, 4063231)]
NEGATIVE = [
    {"low": -1, "count": 2, "reason": "no cover has 2 sizes of cells from 2^-1 on"},
    {"low": 3, "count": 0, "reason": "no cover has 0 sizes"},
    {"low": 31, "count": 15, "reason": "no cover has 15 sizes of cells from 2^31 on in 63 bits"},
    {"low": 2, "count": 2, "words": 21, "reason": "a key for [1] does not go with [1] opened words"},
    {"low": 2, "count": 2, "words": 23, "reason": "a key for [1] does not go with [1] opened words"},
    {"low": 2, "count": 2, "roots": 1, "reason": "places do not go with payloads"},
    {"low": 2, "count": 2, "payload": 3, "reason": "places do not go with payloads"},
]


def main() -> None:
    lines = [
        ",\n".join("  " + json.dumps(row) for row in group)
        for group in ([positive(*row) for row in POSITIVE], NEGATIVE)
    ]
    session = f'"session": "{SESSION.hex()}", "stream": {STREAM}'
    text = "{\n " + session + ',\n "positive": [\n' + lines[0] + '\n ],\n "negative": [\n' + lines[1] + "\n ]\n}\n"
    Path(__file__).with_name("fss.json").write_text(text)


if __name__ == "__main__":
    main()
