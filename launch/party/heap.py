"""Memory that one step frees stays with the process, for the next step.

A run makes and drops arrays of some megabytes all the time. By default the C library gives them back to the system,
which clears every page before it hands it out again: a quarter of a server's CPU time. Garbage collection is made rare
for the same reason: what a run makes is freed by its reference counts, and plans and models stay for long.

Loading is the other way round: what it makes is either dropped for good or stays for the whole session. In one heap the
weights would pin what lies between them, a third of the peak; so each large array gets a mapping of its own meanwhile.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's <malloc.h>
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -2, -3, -4, -8
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
TOP_PAD_BYTES = 64 << 20
APART_BYTES = 1 << 18  # while loading
RARE = (100_000, 50, 50)  # thresholds of the collector's generations
MAPPINGS = 1 << 15  # half of what Linux allows a process


def keep_freed() -> bool:
    """Set this process up so; False where the C library knows no such settings."""
    gc.set_threshold(*RARE)
    # One arena and no mappings of their own, or threads would keep heaps of their own, and large arrays none.
    return _set((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, TOP_PAD_BYTES))


@contextmanager
def loading() -> Iterator[None]:
    """Meanwhile a large array is a mapping of its own, given back as soon as it is dropped. For who keeps freed memory.

    What is made here and stays lies outside the heap, which then holds the arrays of runs only. First the garbage of an
    earlier session is collected, which broke with an exception: its frames, in a cycle, may hold all of its weights.
    Later collections pass over what is there afterwards, all modules and the model: it stays for the session.
    """
    rare = gc.get_threshold() == RARE
    if rare:
        gc.unfreeze()
        gc.collect()
    _set((MMAP_THRESHOLD, APART_BYTES), (MMAP_MAX, MAPPINGS))
    try:
        yield
    finally:
        _set((MMAP_MAX, 0))
        if rare:
            gc.freeze()


def release_freed() -> None:
    """Give back what is free now, once: loading needs more memory than serving. Takes time: not for the event loop.

    No garbage is collected: that would hold up every thread, and what loading made is freed by its reference counts.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _set(*settings: tuple[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all([mallopt(name, value) for name, value in settings])
