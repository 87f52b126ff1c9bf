"""The wheel beside a user's own modules: what is installed is mpcnet alone, and runs there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from mpcnet.arrays.native import library

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OWN = "OWN = True\n"


def run(*line: str | Path, folder: Path) -> str:
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("mpcnet", "protocols", "models", "launch"):
        unwanted = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=unwanted)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    # Kernels as they were built for these tests are not compiled again; .ci/sanitize has a build of its own.
    native = Path("mpcnet/arrays/native")
    built = source / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / native
    built.mkdir(parents=True)
    for kernels in (ROOT / native).glob("_kernels*.so"):
        shutil.copy(kernels, built)
    pip = sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"
    run(*pip, "--wheel-dir", folder, source, folder=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project with a fresh environment: the wheel, and below it what is installed here."""
    folder = tmp_path_factory.mktemp("project")
    environment = folder / ".venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=folder)
    python = environment / "bin" / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", folder=folder).strip()
    )
    (packages / "below.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"
    run(*pip, "--force-reinstall", wheel, folder=folder)
    for name in ("models.py", "launch.py", "protocols/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(OWN)
    return folder


def test_what_is_installed_is_mpcnet_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"mpcnet"}
    wanted = ["py.typed", "protocols/softmax.py", "models/checkpoints/sentiment/model.safetensors"]
    wanted += ["models/formats/calibration_texts/english.txt", "launch/evaluation/corpus_texts/english.txt"]
    assert {f"mpcnet/{name}" for name in wanted} <= set(names)
    kernels = [name for name in names if name.startswith("mpcnet/arrays/native/_kernels")]
    assert bool(kernels) == (library.load() is not None)


def test_a_private_inference_beside_modules_of_the_same_names(project: Path) -> None:
    script = project / "ask.py"
    script.write_text(
        "import models, launch, protocols\n"
        "import mpcnet.launch.cli\n"
        "assert models.OWN and launch.OWN and protocols.OWN\n"
        "assert '.venv' in mpcnet.__file__\n"
        "mpcnet.launch.cli.main()\n"
    )
    python = project / ".venv" / "bin" / "python"
    line = python, script, "simulate", "--task", "sentiment", "--json", "answer.json", "A fine film."
    run(*line, folder=project)
    document = json.loads((project / "answer.json").read_text())
    assert [row["label"] for row in document["answers"]] == ["positive"]
    assert document["wrong"] == []
    assert not os.path.lexists(project / "mpcnet")
