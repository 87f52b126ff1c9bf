"""Bytes outside the heap, for what is large and lives long among much that does not."""

from __future__ import annotations

import mmap
import sys

import numpy as np

from mpcnet.ring import Bytes

LEAST_BYTES = 1 << 18  # smaller ones cost more in a mapping than they leave behind in a heap
HUGE_BYTES = 1 << 21


def empty(nbytes: int) -> Bytes:
    """An array of so many bytes, given back to the system as soon as the last view of it is dropped.

    In a heap that keeps what is freed (launch/heap.py) hundreds of megabytes that are used up piece by piece leave
    holes; what a run makes meanwhile fills them in part only, so the process would grow while it needs less and less.
    """
    if nbytes < LEAST_BYTES or sys.platform != "linux":
        return np.empty(nbytes, np.uint8)
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a page fault for every 2 MiB instead of every 4 KiB
    return np.frombuffer(memory, np.uint8)
