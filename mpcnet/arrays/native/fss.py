"""Point functions (csrc/fss.c); what they mean stands in :mod:`mpcnet.randomness.fss` and mpcnet.protocols.cells."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mpcnet.arrays.native import library
from mpcnet.arrays.native.library import INT, POINTER, SIZE, Kernel, check

_schedule = Kernel("mpc_fss_schedule", POINTER, POINTER)
_generate = Kernel("mpc_fss_generate", POINTER, POINTER, POINTER, POINTER, POINTER, SIZE, INT, POINTER)
_sum = Kernel(
    "mpc_fss_sum", POINTER, INT, POINTER, POINTER, POINTER, SIZE, INT, INT, POINTER, INT, POINTER
)  # fmt: skip

SCHEDULE = (4, 11, 16)  # bytes of the round keys of four keys
PAYLOAD, CELLS, NEAR_BITS, RATIO_BITS, BLOCK = 4, 24, 3, 2, 2  # of csrc/fss.c


@cache
def _available() -> bool:
    """Whether the kernels were built, and the processor has the AES instructions that they are made of."""
    loaded = library.load()
    return loaded is not None and bool(loaded.mpc_fss_usable())


def usable(*tensors: Tensor) -> bool:
    """Whether these kernels can work on these."""
    return library.usable(*tensors) and _available()


def schedule(keys: Tensor) -> Tensor:
    """The round keys of four keys, uint8 [4, 16], as the kernels below take them."""
    keys, out = check("keys", keys, torch.uint8, (4, 16)), torch.empty(SCHEDULE, dtype=torch.uint8)
    _schedule(None, keys.data_ptr(), out.data_ptr())
    return out


def generate(keys: Tensor, places: Tensor, payload: Tensor, roots: tuple[Tensor, Tensor]) -> Tensor:
    """Corrections [row, words]: `keys` are a :func:`schedule`, the rest int64.

    Places [row] have as many bits as the tree has levels; payloads are [row, size of cells, 4], both seeds [row, 2].
    """
    rows, count = payload.shape[0], payload.shape[1]
    keys, places = check("keys", keys, torch.uint8, SCHEDULE), check("places", places, torch.int64, (rows,))
    payload = check("payload", payload, torch.int64, (rows, count, PAYLOAD))
    first, second = (check("roots", root, torch.int64, (rows, BLOCK)) for root in roots)
    out = torch.empty(rows, _words(count), dtype=torch.int64)
    _generate(
        None, keys.data_ptr(), places.data_ptr(), payload.data_ptr(), first.data_ptr(), second.data_ptr(), rows, count,
        out.data_ptr(),
    )  # fmt: skip
    return out


def weighted_sum(
    keys: Tensor, party: int, roots: Tensor, corrections: Tensor, opened: Tensor, low: int, table: Tensor, tau_frac: int
) -> Tensor:
    """[2, row]: a server's shares of the payload in every cell of the opened words, int64 [row], times the cell's
    cubic, and of the payload's first word.

    `keys` are a :func:`schedule`; `table` is [size of cells, z - 8, power], the finest size 2^low; fractions of a cell
    have `tau_frac` bits.
    """
    rows, count = opened.numel(), len(table)
    keys, opened = check("keys", keys, torch.uint8, SCHEDULE), check("opened", opened, torch.int64, (rows,))
    roots = check("roots", roots, torch.int64, (rows, BLOCK))
    corrections = check("corrections", corrections, torch.int64, (rows, _words(count)))
    table = check("table", table, torch.int64, (count, CELLS, PAYLOAD))
    if not 1 <= low <= 63 - NEAR_BITS - RATIO_BITS * count or not 1 <= tau_frac <= 32:
        raise ValueError(f"{count} sizes of cells from 2^{low} on, fractions of {tau_frac} bits: beyond these kernels")
    out = torch.empty(2, rows, dtype=torch.int64)
    _sum(
        None, keys.data_ptr(), party, roots.data_ptr(), corrections.data_ptr(), opened.data_ptr(), rows, low, count,
        table.data_ptr(), tau_frac, out.data_ptr(),
    )  # fmt: skip
    return out


def _words(count: int) -> int:
    return BLOCK * (NEAR_BITS + RATIO_BITS * count) + PAYLOAD * count
