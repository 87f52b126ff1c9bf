"""Every script of examples/ runs, says what it found, and explains itself."""

import runpy
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
SMALL = ["--values", "96", "--keys", "24"]  # arguments that make compare_protocols quick


def run(script: Path, *arguments: str, folder: Path) -> str:
    line = [sys.executable, str(script), *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


class Here:
    """Runs a script in this process; the parties that it starts are forked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, script: Path, *arguments: str) -> str:
        self.monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        with suppress(SystemExit):  # as --help ends
            runpy.run_path(str(script), run_name="__main__")
        return self.capsys.readouterr().out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(monkeypatch, capsys)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help(script: Path, here: Here) -> None:
    assert "usage:" in here(script, "--help")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["latency_curve", "plan_deployment", "search"])
def test_example(name: str, here: Here) -> None:
    assert here(FOLDER / f"{name}.py").strip()


@pytest.mark.slow
def test_an_example_as_a_user_runs_it(tmp_path: Path) -> None:
    assert run(FOLDER / "classify.py", folder=tmp_path).strip()


def test_there_are_examples() -> None:
    """Each of them is run by a test here."""
    names = {path.stem for path in SCRIPTS}
    assert {"classify", "compare_protocols", "latency_curve", "plan_deployment", "search"} == names


def test_protocols_are_compared(tmp_path: Path) -> None:
    """The table has the rounds that the protocols' own pages state, whatever the size."""
    script = FOLDER / "compare_protocols.py"
    table = run(script, *SMALL, folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("\u2502")[1:4]] for line in table.splitlines() if "\u2502" in line]
    assert ["GeLU", "fast", "3"] in rows
    assert ["GeLU", "secformer", "4"] in rows
    assert ["1/sqrt(x)", "fast", "1"] in rows
    assert ["exact softmax V", "fast", "6"] in rows
    assert len(rows) == 13
