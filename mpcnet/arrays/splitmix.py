"""Public constants without a pattern."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint64]


def splitmix(count: int) -> Words:
    """The first words of SplitMix64, which all differ, read-only.

    However many lengths were asked for, what is kept takes at most four times the memory of the longest.

    Source   [Steele14]
    """
    return _made(max(count - 1, 0).bit_length())[:count]


@cache
def _made(bits: int) -> Words:
    """The first 2^bits words."""
    x = np.arange(1, (1 << bits) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    words: Words = x ^ x >> np.uint64(31)
    words.flags.writeable = False
    return words
