"""Write fixed_point.json: encodings, rescaled shares and wire forms, and calls that must be refused.

Run from the repository root: python tests/vectors/make_fixed_point.py
The numbers are computed here with Python's integers and fractions, not with mpcnet.arrays.ring.
"""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

WIDTHS = (1, 2, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 63, 64)


def word(text: str, bits: int) -> int:
    """A reproducible number of `bits` bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 2**bits


def nearest(x: Fraction) -> int:
    """To the nearest integer, ties to even, as IEEE rounding does."""
    return round(x)


def encode(real: float, frac: int, bits: int) -> int:
    return nearest(Fraction(real) * 2**frac) % 2**bits


def packed(words: list[int], bits: int) -> str:
    """ceil(k/8) little-endian bytes an element, single bits eight to a byte from the lowest."""
    if bits == 1:
        total = sum((value & 1) << i for i, value in enumerate(words))
        return total.to_bytes((len(words) + 7) // 8, "little").hex()
    return b"".join((value % 2**bits).to_bytes((bits + 7) // 8, "little") for value in words).hex()


def encodings() -> list[dict[str, Any]]:
    reals = [0.0, 1.0, -1.0, 0.5, -0.5, 2.0**-12, -(2.0**-12), 1.5 * 2.0**-12, 2.5 * 2.0**-12, 3.14159, -7.99, 2047.75]
    formats = [(12, 16), (12, 24), (16, 64), (0, 8), (30, 32), (14, 28)]
    return [
        {"real": real, "frac": frac, "bits": bits, "word": encode(real, frac, bits)}
        for frac, bits in formats
        for real in reals
    ]


def rescales() -> list[dict[str, Any]]:
    """Both shares shifted as unsigned words; party 0 adds one."""
    rows = []
    for bits, count in [(8, 3), (12, 1), (16, 4), (24, 12), (32, 7), (40, 16), (48, 24), (63, 20), (64, 12), (64, 40)]:
        for index in range(4):
            name = f"{bits} {count} {index}"
            first, second = word(f"first {name}", bits), word(f"second {name}", bits)
            shifted = [((first >> count) + 1) % 2 ** (bits - count), second >> count]
            rows.append({"bits": bits, "count": count, "shares": [first, second], "rescaled": shifted})
    return rows


def packs() -> list[dict[str, Any]]:
    rows = []
    for bits in WIDTHS:
        for size in (0, 1, 3, 9):
            words = [word(f"pack {bits} {i}", bits) for i in range(size)]
            rows.append({"bits": bits, "shape": [size], "words": words, "bytes": packed(words, bits)})
        words = [2**bits - 1, 0, 2 ** (bits - 1), 1]
        rows.append({"bits": bits, "shape": [2, 2], "words": words, "bytes": packed(words, bits)})
    scalar = word("scalar", 20)
    rows.append({"bits": 20, "shape": [], "words": [scalar], "bytes": packed([scalar], 20)})
    return rows


NEGATIVE = [
    {"what": "unpack", "bits": 16, "shape": [2], "bytes": "010203", "reason": "want 4 bytes"},
    {"what": "unpack", "bits": 16, "shape": [2], "bytes": "0102030405", "reason": "want 4 bytes"},
    {"what": "unpack", "bits": 17, "shape": [1], "bytes": "01020304", "reason": "want 3 bytes"},
    {"what": "unpack", "bits": 1, "shape": [9], "bytes": "01", "reason": "want 2 bytes"},
    {"what": "unpack", "bits": 64, "shape": [0], "bytes": "00", "reason": "want 0 bytes"},
    {"what": "unpack", "bits": 8, "shape": [], "bytes": "", "reason": "want 1 bytes"},
    {"what": "unpack", "bits": 65, "shape": [1], "bytes": "00" * 9, "reason": "1 to 64 bits"},
    {"what": "unpack", "bits": 0, "shape": [1], "bytes": "", "reason": "1 to 64 bits"},
    {"what": "shift", "bits": 16, "count": 16, "reason": "cannot drop 16 of 16 bits"},
    {"what": "shift", "bits": 16, "count": -1, "reason": "cannot drop -1 of 16 bits"},
    {"what": "unsigned", "bits": 64, "reason": "no unsigned form"},
]


def main() -> None:
    vectors = {"encode": encodings(), "rescale": rescales(), "pack": packs(), "negative": NEGATIVE}
    path = Path(__file__).with_name("fixed_point.json")
    rows = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(row) for row in vectors[name]) + "\n ]" for name in vectors
    ]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
