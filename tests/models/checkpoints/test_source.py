"""Hub names: what is in the cache is read without a connection, and what may be missing is never taken for absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sentences import save_encoder, save_modules

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.source import find
from mpcnet.models.float_model.huggingface import published

NAME, COMMIT = "someone/some-model", "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a machine without a connection."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path) -> Path:
    """A model of the hub as `hf download` leaves it: the folder of its files."""
    folder = cache / "models--someone--some-model"
    snapshot = folder / "snapshots" / COMMIT
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot.mkdir(parents=True)
    save_encoder(snapshot)
    save_modules(snapshot, pooling={"embedding_dimension": 32, "pooling_mode": "cls"})
    (snapshot / ".gitattributes").touch()
    return snapshot


def test_the_whole_of_a_model(cache: Path) -> None:
    snapshot = cached(cache)
    found = load_checkpoint(NAME)
    assert (found.origin, found.source, found.shape.pooling) == (NAME, str(snapshot), "cls")
    assert found.sha256 == load_checkpoint(snapshot).sha256
    assert published(found)(["the dog"]).shape == (1, 32)


def test_a_part_of_a_model(cache: Path) -> None:
    """As transformers alone fetches it. Without modules.json it would be the mean that is taken, in silence."""
    snapshot = cached(cache)
    (snapshot / ".gitattributes").unlink()
    (snapshot / "modules.json").unlink()
    shutil.rmtree(snapshot / "1_Pooling")
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(NAME)
    assert str(caught.value) == (
        f"{NAME}: want a directory, or a hub model whose files are in the cache, got no modules.json, which it may have, "
        f"and the hub does not answer; run, with a connection: hf download {NAME}"
    )


def test_what_the_hub_said_it_has_not(cache: Path) -> None:
    snapshot = cached(cache)
    (snapshot / ".gitattributes").unlink()
    absent = cache / "models--someone--some-model" / ".no_exist" / COMMIT
    absent.mkdir(parents=True)
    (absent / "pytorch_model.bin").touch()
    assert find(NAME, "pytorch_model.bin") is None
    assert find(NAME, "config.json") == snapshot / "config.json"


def test_no_model_of_that_name(cache: Path) -> None:
    with pytest.raises(
        LocalConfigError, match=r"no/such: want a directory, .* got neither, and the hub does not answer; run"
    ):
        load_checkpoint("no/such")
    with pytest.raises(LocalConfigError, match="/no/such/folder: want a directory or hub name that holds config"):
        load_checkpoint("/no/such/folder")
