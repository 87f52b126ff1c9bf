"""What tests of the native kernels share: sizes, extreme words, and the same formulas in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from mpcnet.arrays.native import library
from mpcnet.arrays.shapes import ShapeOnly

T = TypeVar("T")

SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 129, 1025)  # around bytes, vectors, and the blocks that threads take
KINDS = (torch.uint8, torch.int16, torch.int32, torch.int64)


def words(shape: Sequence[int], kind: torch.dtype = torch.int64, seed: int = 0) -> Tensor:
    """Random words of a storage type, all bits of it; the first of them extreme."""
    x = torch.randint(-(2**63), 2**63 - 1, tuple(shape), generator=torch.Generator().manual_seed(seed))
    extreme = torch.tensor([-1, 0, -(2**63), 2**63 - 1, -(2**31), 2**31 - 1, -(2**15), 2**15 - 1, 255])
    flat = x.view(-1)
    flat[: len(extreme)] = extreme[: len(flat)]
    return x.to(kind)


@contextmanager
def without_kernels() -> Iterator[None]:
    """As on a machine where they were not built: torch does all the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "best", lambda: -1)
        yield


def in_torch(formula: Callable[..., T], *arguments: object) -> T:
    """The formula's value, computed without kernels."""
    with without_kernels():
        return formula(*arguments)


def refuse(call: Callable[..., object], *arguments: object, **named: object) -> None:
    """The call raises before a pointer leaves Python."""
    with pytest.raises(ValueError, match=r"want|does not broadcast|do not fit"):
        call(*arguments, **named)


def strangers(x: Tensor) -> list[Tensor]:
    """Operands in place of x that no kernel may touch: of another type, another size, without data."""
    other = torch.float64 if x.dtype == torch.int64 else torch.int64
    larger = torch.zeros(*x.shape[:-1], x.shape[-1] + 1, dtype=x.dtype)
    only: Tensor = ShapeOnly(x.shape, x.dtype)  # type: ignore[assignment]
    return [x.to(other), larger, larger[..., :-2], x.to("meta"), only, torch.nn.Parameter(x, requires_grad=False)]
