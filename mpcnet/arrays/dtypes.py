"""How a word of a ring is stored: in the narrowest type that holds it."""

from __future__ import annotations

import torch

MAX_BITS = 64


def dtype(bits: int) -> torch.dtype:
    """The storage type of a `bits`-bit ring."""
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"a ring has 1 to {MAX_BITS} bits, got {bits}")
    if bits <= 8:
        return torch.uint8
    if bits <= 16:
        return torch.int16
    return torch.int32 if bits <= 32 else torch.int64
