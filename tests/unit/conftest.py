"""A drawer of tapes for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpcnet.drawer import Drawer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tapes"


@pytest.fixture
def drawer(folder: Path) -> Iterator[Drawer]:
    drawer = Drawer.open(folder)
    yield drawer
    drawer.close()
