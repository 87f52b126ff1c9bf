"""Programs under an audit, of three sentences of five tokens, and their verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from checks import Input, watched
from lockstep import Run
from torch import Tensor

from mpcnet.protocols.arith import lift
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

SENTENCES, TOKENS, WIDTH = 3, 5, 8
Looked = Callable[..., Any]


def verdict(build: Looked, keep: Tensor, *inputs: tuple[Tensor, int, int], seed: int = 0) -> tuple[list[int], Run]:
    """Of two servers, beside that of the oracle; the cost is the plan's. `inputs` are values, bits, fraction bits."""
    done = watched(build, keep, *(Input(*given) for given in inputs), seed=seed)
    found = [int(bit) for bit in done.flagged]
    assert [int(bit) for bit in done.oracle_flagged] == found
    return found, done.run


def rows(value: float, sentence: int, token: int) -> Tensor:
    """Values of 1, and one that is another."""
    x = torch.ones(SENTENCES, TOKENS, WIDTH, dtype=torch.float64)
    x[sentence, token, 3] = value
    return x


async def grow(p: Party, x: Shared) -> None:
    lift(p, await p.open_one(x), 40)
