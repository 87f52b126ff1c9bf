"""Changes of bytes, and of values before they become bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

INTERESTING = (
    0, 1, -1, 2, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**40, 2**40 + 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63),
)  # fmt: skip
STRANGE: tuple[Any, ...] = (
    None, True, False, 0.0, -0.0, 0.5, 1e308, -1e308, float("inf"), float("nan"), "", "x", "\x00", "\n\x1b[2J", "é" * 300, "x" * 5000,
    b"", b"x", bytes(16), bytes(32), bytes(5000), [], [[]], {}, {"": None}, {"x": {"x": []}}, [None] * 5,
)  # fmt: skip


def changed_bytes(draw: random.Random, data: bytes) -> bytes:
    """A few bytes are changed, cut out, repeated or added."""
    found = bytearray(data)
    for _ in range(1 + int(4 * draw.random() ** 3)):
        at = int(draw.random() * (len(found) + 1))
        match int(draw.random() * 7):
            case 0 | 1 if at < len(found):
                found[at] ^= 1 << int(draw.random() * 8)
            case 2 if at < len(found):
                found[at] = int(draw.random() * 256)
            case 3:
                del found[at : at + 1 + int(draw.random() * 8)]
            case 4:
                found[at:at] = draw.randbytes(1 + int(draw.random() * 8))
            case 5:
                found[at:at] = found[at : at + 1 + int(draw.random() * 32)]
            case _:
                del found[at:]
    return bytes(found)


def changed_value(draw: random.Random, value: Any) -> Any:
    """One place of a tree of maps and lists is other than it was."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        found = dict(value)
        key = draw.choice(list(found))
        match int(draw.random() * 8):
            case 0:
                del found[key]
            case 1:
                found[strange_key(draw, key)] = found.pop(key)
            case 2:
                found[strange_key(draw, key)] = draw.choice((found[key], strange(draw)))
            case _:
                found[key] = changed_value(draw, found[key])
        return found
    if isinstance(value, (list, tuple)) and value and draw.random() < 0.9:
        rows = list(value)
        at = draw.randrange(len(rows))
        match int(draw.random() * 6):
            case 0:
                del rows[at]
            case 1:
                rows.insert(at, draw.choice((rows[at], strange(draw))))
            case 2:
                rows = rows * draw.choice((2, 3, 300))
            case _:
                rows[at] = changed_value(draw, rows[at])
        return rows
    if isinstance(value, bool):
        return draw.choice((not value, int(value), strange(draw)))
    if isinstance(value, int) and draw.random() < 0.7:
        return draw.choice((value + 1, value - 1, -value, 2 * value, float(value), draw.choice(INTERESTING)))
    if isinstance(value, float) and draw.random() < 0.7:
        return draw.choice((-value, value * 1e6, value / 1e6, int(value) if abs(value) < 1e300 else 0, str(value)))
    if isinstance(value, str) and draw.random() < 0.7:
        return changed_bytes(draw, value.encode()).decode("utf-8", "replace")
    if isinstance(value, bytes) and draw.random() < 0.7:
        return changed_bytes(draw, value)
    return strange(draw)


def strange(draw: random.Random) -> Any:
    """A value that nobody expects."""
    return draw.choice(STRANGE) if draw.random() < 0.6 else draw.choice(INTERESTING)


def strange_key(draw: random.Random, key: str) -> str:
    return draw.choice(
        (key + "x", key.upper(), "", "é" * 300, key[:-1], draw.choice(("kind", "version", "role", "id")))
    )


def deep(draw: random.Random, opening: bytes, closing: bytes) -> bytes:
    """Something nested deeper than a stack is."""
    depth = draw.choice((10, 500, 5000, 100_000))
    return opening * depth + closing * draw.choice((depth, 0))


Change = Callable[[random.Random, bytes], bytes]
