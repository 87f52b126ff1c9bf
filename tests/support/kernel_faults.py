"""Deliberate faults in calls of the kernels: what .ci/sanitize must see caught before it trusts a clean run.

`python tests/support/kernel_faults.py read|write|shift` bypasses the checks of the modules around the kernels and commits that
fault. Exits with 0 where nothing notices, which includes a build without sanitizers.
"""

import sys

import numpy as np
import torch

from mpcnet.arrays.native import exponential, packing

COUNT, BITS = 100, 64


def read() -> None:
    """Pack one word more than a tensor has."""
    words, out = torch.zeros(COUNT, dtype=torch.int64), np.empty(8 * (COUNT + 1), np.uint8)
    packing._pack("portable", words.data_ptr(), None, False, out.ctypes.data, COUNT + 1, 8, BITS)


def write() -> None:
    """Pack a tensor into an array with room for one word less."""
    words, out = torch.zeros(COUNT, dtype=torch.int64), np.empty(8 * (COUNT - 1), np.uint8)
    packing._pack("portable", words.data_ptr(), None, False, out.ctypes.data, COUNT, 8, BITS)


def shift() -> None:
    """Round by a shift of 0 bits, half of whose unit is 1 << -1."""
    words = torch.zeros(3, dtype=torch.int64)
    pointer = words.data_ptr()
    exponential._sum("portable", pointer, 1, 1, 1, 0, 0, pointer, pointer, 0, pointer, pointer)


if __name__ == "__main__":
    {"read": read, "write": write, "shift": shift}[sys.argv[1]]()
