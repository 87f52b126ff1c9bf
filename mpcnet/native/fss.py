"""Point functions (csrc/fss.c); what they mean stands in :mod:`mpcnet.fss` and protocols.cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from mpcnet.native import library
from mpcnet.native.library import INT, POINTER, SIZE, Kernel, check

_generate = Kernel("mpc_fss_generate", POINTER, POINTER, POINTER, POINTER, POINTER, SIZE, INT, POINTER)
_sum = Kernel(
    "mpc_fss_sum", POINTER, INT, POINTER, POINTER, POINTER, SIZE, INT, INT, POINTER, INT, POINTER
)  # fmt: skip

FIRST_LEVEL = "avx2"  # every processor that has it has AES instructions; whether it has is asked


@cache
def levels() -> tuple[str, ...]:
    """Those at which these kernels can run here."""
    loaded = library.load()
    if loaded is None or not loaded.mpc_fss_usable() or FIRST_LEVEL not in library.levels():
        return ()
    return library.levels()[library.LEVELS.index(FIRST_LEVEL) :]


def usable(*tensors: Tensor) -> bool:
    return library.usable(*tensors) and bool(levels())


def generate(
    keys: Sequence[bytes], places: Tensor, payload: Tensor, roots: tuple[Tensor, Tensor], level: str | None = None
) -> Tensor:
    """Corrections [row, words] for int64 places [row] of as many bits as the tree has levels, payloads [row, size, 4]."""
    rows, count = payload.shape[:2]
    places, payload = check("places", places, torch.int64, (rows,)), check("payload", payload, torch.int64, (rows, count, 4))
    first, second = (check("roots", root, torch.int64, (rows, 2)) for root in roots)
    out = torch.empty(rows, 2 * (3 + 2 * count) + 4 * count, dtype=torch.int64)
    _generate(
        level, _joined(keys).data_ptr(), places.data_ptr(), payload.data_ptr(), first.data_ptr(), second.data_ptr(), rows,
        count, out.data_ptr(),
    )  # fmt: skip
    return out
