"""A process that holds keys, shares or texts leaves no copy of its memory: no core dump, and no debugger of its user's.

The units in deploy/ say the same, and these are the limits of whoever starts a party by hand. Best effort: who is root
on a host reads what it likes, and other systems than Linux have other ways.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress

SET_DUMPABLE = 4  # of prctl(2): also who may attach by ptrace(2), and read /proc/PID/mem


def protect_memory() -> None:
    """First of all in a command that holds secrets; what it starts later is not affected, but for core dumps."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(SET_DUMPABLE, 0, 0, 0, 0)
