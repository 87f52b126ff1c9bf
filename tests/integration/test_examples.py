"""Every script of examples/ runs, in a process of its own, and says what it found."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SMALL = {"compare_protocols.py": ["--values", "96", "--keys", "24"]}  # arguments that make a script quick


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_example(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), *SMALL.get(script.name, [])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it prints nothing"
    assert "Traceback" not in done.stderr


def test_protocols_are_compared(tmp_path: Path) -> None:
    """The table has the rounds that the protocols' own pages state, whatever the size."""
    script = FOLDER / "compare_protocols.py"
    command = [sys.executable, str(script), *SMALL[script.name]]
    table = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    rows = [[cell.strip() for cell in line.split("\u2502")[1:4]] for line in table.splitlines() if "\u2502" in line]
    assert ["GeLU", "fast", "3"] in rows
    assert ["GeLU", "secformer", "4"] in rows
    assert ["1/sqrt(x)", "fast", "1"] in rows
    assert ["exact softmax V", "fast", "6"] in rows
    assert len(rows) == 13
