"""Every example runs as its docstring says, without arguments, and explains itself."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def run(*line: object) -> str:
    done = subprocess.run([sys.executable, *map(str, line)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 60
    assert "usage:" in run(example, "--help")
    assert run(example).strip()


def test_there_are_examples() -> None:
    assert {"classify", "latency_curve", "plan_deployment", "search"} <= {path.stem for path in EXAMPLES}
