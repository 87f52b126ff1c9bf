"""Bytes outside the heap, for what is large and lives long among much that does not."""

from __future__ import annotations

import mmap
import sys
import threading
import weakref

import numpy as np

from mpcnet.arrays.ring import Bytes

LEAST_BYTES = 1 << 18  # smaller ones cost more in a mapping than they leave behind in a heap
HUGE_BYTES = 1 << 21
KEPT = 7 / 8  # of the most that was in use at once
SLACK = 9 / 8  # a mapping is used again for what is smaller by so much


class Buffers:
    """Mappings, most of which are used again: the system clears every page that it hands out, which takes as long as
    to fill it from a channel. One for all runs of a process.

    In a heap that keeps what is freed (launch/party/heap.py) hundreds of megabytes that are used up piece by piece
    leave holes; what a run makes meanwhile fills them in part only, so the process would grow while it needs less and
    less.

    A run holds the most when it starts, and its heap then grows beside that; so what is dropped first goes back to
    the system: together in use and kept is at most 7/8 of the most that was in use at once.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an array may be dropped by a collection, in the midst of anything
        self._kept: list[mmap.mmap] = []
        self._used_bytes = self._kept_bytes = self._most_bytes = 0

    def empty(self, nbytes: int) -> Bytes:
        """An array of so many bytes, apart from the heap, until the last view is dropped. All of it is to be written
        first: it may hold an earlier run's material, as freed memory of the heap does, until :meth:`release`.
        """
        if nbytes < LEAST_BYTES or sys.platform != "linux":
            return np.empty(nbytes, np.uint8)
        memory = self._take(nbytes)
        array = np.frombuffer(memory, np.uint8, nbytes)
        weakref.finalize(array, self._give, memory).atexit = False
        return array

    def release(self) -> None:
        """Give back what is kept for the next run."""
        with self._lock:
            self._shrink(0)
            self._most_bytes = self._used_bytes

    def _take(self, nbytes: int) -> mmap.mmap:
        with self._lock:
            memory = self._again(nbytes) or _mapping(nbytes)
            self._used_bytes += len(memory)
            self._most_bytes = max(self._most_bytes, self._used_bytes)
            self._shrink(self._most_bytes)  # what does not fit this run's sizes
            return memory

    def _give(self, memory: mmap.mmap) -> None:
        with self._lock:
            self._used_bytes -= len(memory)
            if self._used_bytes + self._kept_bytes + len(memory) <= KEPT * self._most_bytes:
                self._kept.append(memory)
                self._kept_bytes += len(memory)

    def _again(self, nbytes: int) -> mmap.mmap | None:
        for index, memory in enumerate(self._kept):
            if nbytes <= len(memory) <= SLACK * nbytes:
                self._kept_bytes -= len(memory)
                return self._kept.pop(index)
        return None

    def _shrink(self, limit_bytes: int) -> None:
        """Give back the oldest until all together are within the limit, or none is left."""
        while self._kept and self._used_bytes + self._kept_bytes > limit_bytes:
            self._kept_bytes -= len(self._kept.pop(0))


def _mapping(nbytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a page fault for every 2 MiB instead of every 4 KiB
    return memory
