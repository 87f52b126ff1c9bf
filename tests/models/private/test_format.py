"""The format version: what every release that has it makes of the same programs."""

import json
from pathlib import Path
from typing import Any

import pytest
from format_vectors import PATH, record

from mpcnet.errors import LocalConfigError
from mpcnet.models.private import program
from mpcnet.transport.handshake import FORMAT_VERSION

VECTORS = json.loads(PATH.read_text())
RAISE = "raise FORMAT_VERSION (its comment says when), then run tests/support/format_vectors.py"


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "program.json"
    path.write_text(json.dumps(values))
    return path


def test_the_vectors_are_of_this_format_version() -> None:
    assert VECTORS["version"] == FORMAT_VERSION, RAISE


@pytest.mark.parametrize("row", VECTORS["programs"], ids=lambda row: row["digests"]["program"][:8])
def test_another_release_of_this_format_version_does_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    """It reads the program, writes it as it was, has the same plans, and opens the same words."""
    config = program.read(write(tmp_path, row["program"]))
    program.save(config, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == row["program"], RAISE
    assert record(config) == row["digests"], RAISE


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, str(FORMAT_VERSION), "0.1.0", None])
def test_a_program_of_another_format_version(version: object, tmp_path: Path) -> None:
    path = write(tmp_path, VECTORS["programs"][0]["program"] | {"version": version})
    with pytest.raises(LocalConfigError) as caught:
        program.read(path)
    assert str(caught.value) == (
        f"program {path}: want 'mpcnet program' of format version {FORMAT_VERSION}, got 'mpcnet program' of {version!r}; "
        "install the release of mpcnet that wrote it, or make it again: mpcnet init"
    )
