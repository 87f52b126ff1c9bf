"""AES-128 in counter mode (csrc/keystream.c): the keystream of :mod:`mpcnet.randomness.prg`, from any byte on."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mpcnet.arrays.native import library
from mpcnet.arrays.native.library import POINTER, SIZE, Kernel

KEY_BYTES = 16

_keystream = Kernel("mpc_keystream", POINTER, SIZE, SIZE, POINTER)


@cache
def usable() -> bool:
    """Whether the kernel was built, and the processor has the instructions that it is made of."""
    loaded = library.load()
    return loaded is not None and bool(loaded.mpc_keystream_usable())


class Counter:
    """The keystream of a key of 16 bytes. It remembers how far it was drawn, and only goes on.

    Threads that draw at once get different bytes, and a draw that fails leaves a gap.
    """

    __slots__ = ("_drawn", "_key", "_lock")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"keystream: want a key of {KEY_BYTES} bytes, got {len(key)}")
        self._key = np.frombuffer(key, np.uint8)
        self._drawn = 0
        self._lock = threading.Lock()

    def draw(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes."""
        out = np.empty(count, np.uint8)
        with self._lock:
            first, self._drawn = self._drawn, self._drawn + count
        _keystream(None, self._key.ctypes.data, first, count, out.ctypes.data)
        return out
