"""Memory between two pages that nobody may touch: an access beyond either end of a tensor ends the process.

AddressSanitizer does not see masked loads and stores, nor tile registers; pages do. Only one end of a tensor can lie at
a page's edge, unless its bytes fill whole pages: `END` or `START`.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

START, END = "start", "end"
_libc = ctypes.CDLL(None, use_errno=True)


def _bytes(count: int, side: str) -> NDArray[np.uint8]:
    """`count` bytes of which the first or the last lies at the edge; the pages live as long as the array."""
    page = mmap.PAGESIZE
    inside = max(-(-count // page), 1) * page
    pages = np.frombuffer(mmap.mmap(-1, inside + 2 * page), np.uint8)
    for forbidden in (0, page + inside):
        if _libc.mprotect(ctypes.c_void_p(pages.ctypes.data + forbidden), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = page if side == START else page + inside - count
    return pages[first : first + count]


def empty(shape: tuple[int, ...], kind: torch.dtype, side: str) -> Tensor:
    """A contiguous tensor of zeros at the edge."""
    raw = _bytes(torch.Size(shape).numel() * kind.itemsize, side)
    return torch.from_numpy(raw).view(kind).reshape(shape)


def fenced(x: Tensor, side: str) -> Tensor:
    """A contiguous copy of x at the edge."""
    return empty(tuple(x.shape), x.dtype, side).copy_(x)


@contextmanager
def fenced_results(side: str) -> Iterator[None]:
    """What the modules around the kernels allocate meanwhile lies at the edge, too."""

    def of_torch(*shape: Any, dtype: torch.dtype) -> Tensor:
        return empty(tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape, dtype, side)

    def of_numpy(count: int, kind: type) -> NDArray[np.uint8]:
        assert kind is np.uint8
        return _bytes(count, side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", of_torch)
        patch.setattr(torch, "empty_like", lambda x: of_torch(*x.shape, dtype=x.dtype))
        patch.setattr(np, "empty", of_numpy)
        yield
