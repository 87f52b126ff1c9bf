"""How fast a core multiplies and adds words when it does nothing else (csrc/bound.c): what products are measured by."""

from __future__ import annotations

import ctypes

from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel

_bound = Kernel("mpc_bound", INT, SIZE, POINTER)


def multiply_adds(bits: int, count: int, level: str | None = None) -> int:
    """Do some `count` multiply-adds in registers, by the instructions that a product of `bits` bits uses; how many.

    0 where the level leaves the choice to the compiler.
    """
    done = ctypes.c_int64(0)
    _bound(level, bits, count, ctypes.addressof(done))
    return done.value
