"""A folder of sealed tapes, and levels of kernels, for each test that asks for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mpcnet.arrays.native import library
from mpcnet.runtime.sealed_tape import SealedTapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tapes"


@pytest.fixture
def tapes(folder: Path) -> Iterator[SealedTapes]:
    tapes = SealedTapes.open(folder)
    yield tapes
    tapes.close()


LEVELS = [level for level in library.levels() if level != "amx"]  # it differs in matrix products only


@pytest.fixture(
    params=[(level, threads) for level in LEVELS for threads in (1, 2)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each such level that this processor has, with one thread and with two. Where no kernels were built there is none."""
    level, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield level
    torch.set_num_threads(before)
