"""Memory that one step frees stays with the process, for the next step.

A run makes and drops arrays of some megabytes all the time. By default the C library gives them back to the system,
which clears every page before it hands it out again: a quarter of a server's CPU time. Garbage collection is made rare
for the same reason: what a run makes is freed by its reference counts, and plans and models stay for long.
"""

from __future__ import annotations

import ctypes
import gc
import sys

# glibc's <malloc.h>
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
TOP_PAD_BYTES = 64 << 20


def keep_freed() -> bool:
    """Set this process up so; False where the C library knows no such settings."""
    gc.set_threshold(100_000, 50, 50)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    # One arena and no mappings of their own, or threads would keep heaps of their own, and large arrays none.
    settings = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, TOP_PAD_BYTES))
    return all([mallopt(name, value) for name, value in settings])


def release_freed() -> None:
    """Give back what is free now, once: loading needs more memory than serving. Takes time: not for the event loop.

    No garbage is collected: that would hold up every thread, and what loading made is freed by its reference counts.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
