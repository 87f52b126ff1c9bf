"""Which model a name means: a built-in one, a preset, or a directory, which comes first and says so."""

from pathlib import Path

import pytest
from small_models import save_embedding
from typer.testing import CliRunner

from mpcnet.errors import LocalConfigError
from mpcnet.launch.cli import app
from mpcnet.models.checkpoints.bundled import FOLDER
from mpcnet.models.private.prepare import builtin, checkpoint, folder_of_that_name, tokenizer_source


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "sentiment", "bert-tiny"):
        assert builtin(name) == builtin(f"builtin:{name}") == name
        assert folder_of_that_name(name) == ""
    assert builtin("some/hub-name") == ""
    assert checkpoint("bert-tiny").source == "" and tokenizer_source("sentiment") == str(FOLDER)
    with pytest.raises(LocalConfigError, match=r"model: want builtin: and one of demo, .*bert-base.*, got 'mine'"):
        builtin("builtin:mine")
    with pytest.raises(LocalConfigError, match="want one with a tokenizer, got bert-tiny, whose weights are random"):
        tokenizer_source("builtin:bert-tiny")


@pytest.mark.parametrize("name", ["sentiment", "bert-tiny"])
def test_a_directory_of_such_a_name_comes_first_and_says_so(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    save_embedding(tmp_path / name)
    found = checkpoint(name)
    assert (found.shape.hidden, found.shape.head) == (32, "embedding") and tokenizer_source(name) == name
    assert checkpoint(f"builtin:{name}").shape.hidden == 128
    note = f"--model {name} is the directory {tmp_path / name}; the built-in model is builtin:{name}"
    assert folder_of_that_name(name) == note and folder_of_that_name(f"builtin:{name}") == ""
    done = CliRunner().invoke(app, ["plan", "--model", name, "--length", "999"])
    assert f"warning: {note}" in done.stderr


def test_the_default_is_never_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_embedding(tmp_path / "demo")
    done = CliRunner().invoke(app, ["plan", "--length", "999"])
    assert "warning" not in done.stderr and "512 positions, got 999" in str(done.exception)
