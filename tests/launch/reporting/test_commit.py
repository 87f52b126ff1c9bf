"""What a result says of the code that made it: a commit of this project, or the installed version, and never another's."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mpcnet
from mpcnet.launch.reporting import report

VERSION = f"version {mpcnet.__version__}"


def git(folder: Path, *arguments: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Another project's, with a commit of its own."""
    folder = tmp_path / "another project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "theirs.py").write_text("print(1)\n")
    git(folder, "add", "theirs.py")
    git(folder, "commit", "--quiet", "--message", "theirs")
    return folder


@pytest.fixture
def installed(repository: Path) -> Path:
    """Our module as pip would put it into a virtual environment of that project."""
    source = Path(report.__file__)
    package = repository / ".venv/lib/python3/site-packages" / source.parent.name
    package.mkdir(parents=True)
    return Path(shutil.copy(source, package))


def commit_of(path: Path) -> str:
    """What the copy says of itself."""
    spec = importlib.util.spec_from_file_location("installed_report", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[], str] = module.commit
    return found()


@pytest.mark.parametrize("ignored", [False, True])
def test_a_repository_around_an_installed_copy_is_not_ours(repository: Path, installed: Path, ignored: bool) -> None:
    if ignored:
        (repository / ".gitignore").write_text(".venv/\n")
    assert git(installed.parent, "describe", "--always")  # git itself would answer there
    assert commit_of(installed) == VERSION


def test_no_repository_at_all(repository: Path, installed: Path) -> None:
    shutil.rmtree(repository / ".git")
    assert commit_of(installed) == VERSION


def test_a_checkout_tells_its_commit_and_what_differs_from_it(repository: Path, installed: Path) -> None:
    git(repository, "add", "--force", str(installed))
    git(repository, "commit", "--quiet", "--message", "ours")
    head = git(repository, "rev-parse", "--short=10", "HEAD")
    assert commit_of(installed) == head
    (repository / "theirs.py").write_text("print(2)\n")
    assert commit_of(installed) == f"{head}+"


def test_a_hook_of_another_repository_changes_nothing(
    repository: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git tells its hooks by the environment where their repository is, and believes that more than the folder."""
    ours = report.commit()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(installed.parent))
    git(repository, "add", "--force", str(installed))  # by its name within the tree: the same as ours
    assert git(installed.parent, "ls-files") == f"{installed.name}\ntheirs.py"
    assert report.commit() == ours
    assert commit_of(installed) == VERSION


def test_without_git(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit_of(installed) == VERSION
