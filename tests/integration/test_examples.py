"""Every script of examples/ runs, in a process of its own, says what it found, and explains itself."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
SMALL = {"compare_protocols.py": ["--values", "96", "--keys", "24"]}  # arguments that make a script quick


def run(script: Path, *arguments: str, folder: Path) -> str:
    line = [sys.executable, str(script), *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example(script: Path, tmp_path: Path) -> None:
    assert "usage:" in run(script, "--help", folder=tmp_path)
    assert run(script, *SMALL.get(script.name, []), folder=tmp_path).strip()


def test_there_are_examples() -> None:
    names = {path.stem for path in SCRIPTS}
    assert {"classify", "compare_protocols", "latency_curve", "plan_deployment", "search"} <= names


def test_protocols_are_compared(tmp_path: Path) -> None:
    """The table has the rounds that the protocols' own pages state, whatever the size."""
    script = FOLDER / "compare_protocols.py"
    table = run(script, *SMALL[script.name], folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("\u2502")[1:4]] for line in table.splitlines() if "\u2502" in line]
    assert ["GeLU", "fast", "3"] in rows
    assert ["GeLU", "secformer", "4"] in rows
    assert ["1/sqrt(x)", "fast", "1"] in rows
    assert ["exact softmax V", "fast", "6"] in rows
    assert len(rows) == 13
