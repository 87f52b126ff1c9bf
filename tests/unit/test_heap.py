"""Settings of the C library's heap, in a process of their own: they cannot be taken back."""

import subprocess
import sys

import pytest

KEPT = """
import resource, numpy as np
from launch.heap import keep_freed, release_freed
assert keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pages = lambda: int(open("/proc/self/statm").read().split()[1])
first = np.ones(1 << 24)  # 128 MiB
del first
held = pages()
before = faults()
second = np.ones(1 << 24)
print(faults() - before)
del second
release_freed()
print(held - pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_freed_memory_is_kept_until_it_is_released() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    faults, released = map(int, done.stdout.split())
    assert faults < 1000, "128 MiB are 32,768 pages; kept ones cost no fault"
    assert released > 30_000
