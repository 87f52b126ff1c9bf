"""How much memory this process may use: that of the machine, or less where its control group has a limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OURS = Path("/proc/self/cgroup")


def memory_bytes(groups: Path = GROUPS, ours: Path = OURS) -> int:
    """The physical memory, or the smallest limit of our control group and those around it."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_limits(groups, ours)])


def _limits(groups: Path, ours: Path) -> Iterator[int]:
    """Of version 2's groups; a container sees its own as the root."""
    try:
        place = groups / ours.read_text().rpartition("::/")[2].strip()
    except OSError:
        place = groups
    for folder in (place, *place.parents):
        with suppress(OSError, ValueError):  # no such file outside a group; "max" without a limit
            yield int((folder / "memory.max").read_text())
        if folder == groups:
            return
