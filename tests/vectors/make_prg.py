"""Write prg.json: keystream words of seeds and domains, and seeds that must be refused.

Run from the repository root: python tests/vectors/make_prg.py
The construction is spelled out here with hashlib and AES in ECB mode on explicit counter blocks, not with mpcnet.randomness.prg.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encoded(session: bytes, stream: int, purpose: str) -> bytes:
    fields = (session, stream.to_bytes(8, "big"), purpose.encode())
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def keystream(seed: bytes, session: bytes, stream: int, purpose: str, count: int) -> bytes:
    """AES-128 of the counters 0, 1, 2, ... (16 bytes, big-endian) under the domain's key."""
    message = encoded(session, stream, purpose)
    key = hashlib.blake2b(message, digest_size=16, key=seed, person=b"mpcnet prg 1").digest()
    blocks = b"".join(i.to_bytes(16, "big") for i in range(count // 16 + 1))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)[:count]


def stored_bytes(bits: int) -> int:
    """Words are drawn at the width they are stored in."""
    return next(width for width in (1, 2, 4, 8) if bits <= 8 * width)


DOMAINS = [
    (bytes(32), b"session", 0, "mask"),
    (bytes(range(32)), b"session", 0, "mask"),
    (bytes(range(32)), b"session", 1, "mask"),
    (bytes(range(32)), b"session", 0, "mask2"),
    (bytes(range(32)), b"sessionm", 0, "ask"),
    (b"\xff" * 32, b"", 2**63, "größe"),
]
DRAWS = [
    [(1, [5])],
    [(8, [3]), (16, [2, 2]), (20, [3])],
    [(64, [2]), (33, [1]), (1, [17]), (16, [1])],
    [(64, [])],
    [(24, [0])],
]


def positive(seed: bytes, session: bytes, stream: int, purpose: str, draws: list[Any]) -> dict[str, Any]:
    """Words of consecutive draws from one keystream.

    The low `bits` bits of each little-endian stored word; single bits are eight to a byte, from the lowest.
    """
    offset, rows = 0, []
    for bits, shape in draws:
        width, count = stored_bytes(bits), 1
        for size in shape:
            count *= size
        used = (count + 7) // 8 if bits == 1 else width * count
        raw = keystream(seed, session, stream, purpose, offset + used)[offset:]
        offset += used
        if bits == 1:
            words = [raw[i // 8] >> (i % 8) & 1 for i in range(count)]
        else:
            words = [int.from_bytes(raw[i * width : (i + 1) * width], "little") % 2**bits for i in range(count)]
        rows.append({"bits": bits, "shape": shape, "words": [f"{value:0{(bits + 3) // 4}x}" for value in words]})
    domain = {"session": session.hex(), "stream": stream, "purpose": purpose}
    return {"seed": seed.hex(), "domain": domain, "encoded": encoded(session, stream, purpose).hex(), "draws": rows}


NEGATIVE = [
    {"seed": "", "reason": "32 bytes, got 0"},
    {"seed": "00" * 31, "reason": "32 bytes, got 31"},
    {"seed": "00" * 33, "reason": "32 bytes, got 33"},
    {"seed": "00" * 32, "bits": 0, "reason": "1 to 64 bits, got 0"},
    {"seed": "00" * 32, "bits": 65, "reason": "1 to 64 bits, got 65"},
]


def main() -> None:
    rows = [positive(*domain, draws) for domain in DOMAINS for draws in DRAWS]
    lines = [",\n".join("  " + json.dumps(row) for row in group) for group in (rows, NEGATIVE)]
    text = '{\n "positive": [\n' + lines[0] + '\n ],\n "negative": [\n' + lines[1] + "\n ]\n}\n"
    Path(__file__).with_name("prg.json").write_text(text)


if __name__ == "__main__":
    main()
