"""Settings of the C library's heap, in a process of their own: they cannot be taken back."""

import subprocess
import sys

import pytest

KEPT = """
import resource, numpy as np
from mpcnet.launch.party.heap import keep_freed, release_freed
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


LOADED = """
import numpy as np
from mpcnet.launch.party.heap import keep_freed, loading
from mpcnet.arrays.buffers import Buffers
pages = lambda: int(open("/proc/self/statm").read().split()[1])
assert keep_freed()
before, stay = pages(), []
with loading():
    for _ in range(16):  # what stays lies between what is dropped, 1,024 pages each
        dropped = np.ones(1 << 19)
        stay.append(np.ones(1 << 19))
        del dropped
kept = pages() - before
again = np.ones(1 << 19)
del again
held = pages()
buffers = Buffers()
dealt = [buffers.empty(1 << 22) for _ in range(16)]
for payload in dealt:
    payload[:] = 1
full, last = pages() - held, dealt[-1][5:]
del payload, dealt
rest = pages() - held
buffers.release()
print(kept, full, rest, pages() - held, int(last.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_what_stays_and_what_is_used_up_leave_no_holes() -> None:
    """The weights that a load makes, and a run's material."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    kept, full, rest, released, sum_of_view = map(int, done.stdout.split())
    assert 16 * 1024 <= kept < 17 * 1024
    assert 16 * 1024 <= full < 17 * 1024
    assert 13 * 1024 <= rest < 15 * 1024, "an eighth at once"
    assert released < 2 * 1024, "one view is left, and holds one of sixteen"
    assert sum_of_view == (1 << 22) - 5


BROKEN = """
import weakref, numpy as np
from mpcnet.launch.party.heap import keep_freed, loading
assert keep_freed()
class Weights: pass
def session():
    weights = Weights()
    held.append(weakref.ref(weights))
    try:
        raise ConnectionError
    except ConnectionError as error:
        kept = error  # a frame, its exception, and the frame again
held = []
session()
before = held[0]() is not None
with loading():
    print(before, held[0]() is None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_weights_of_a_broken_session_are_gone_before_the_next_load() -> None:
    """Or each restart of somebody else would cost a server as much memory as the model takes."""
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_no_process_holds_what_only_some_commands_need() -> None:
    code = "import sys, mpcnet.launch.cli; print({'transformers', 'torch._dynamo', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
