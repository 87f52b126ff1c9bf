"""The student that comes with the package: its files, their size, and what it says."""

import json
import tomllib
from pathlib import Path

import torch

from mpcnet.models.checkpoints.bundled import FOLDER, SHA256, sentiment_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model import reference
from mpcnet.models.float_model.students import load_student
from mpcnet.models.formats import calibrate
from mpcnet.models.private import prepare
from mpcnet.models.texts.tasks import Examples
from mpcnet.models.texts.tokens import encode
from mpcnet.models.training.loop import collate, predict, tokenise

TEXTS = [
    "A wonderful, moving film.",
    "Dull, stupid and far too long.",
    "An absolute delight.",
    "I hated every minute of it.",
]
LARGEST = 20e6  # bytes: a package, not a model hub


def test_every_file_is_in_the_package_and_all_are_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {*SHA256, "LICENSE", "NOTICE", "README.md", "mpcnet-calibration-512.json"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST
    settings = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["mpcnet.models.checkpoints"]
    packed = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert set(FOLDER.iterdir()) <= packed


def test_licence_and_what_it_was_trained_for():
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert sentiment_checkpoint().license == "apache-2.0"
    assert json.loads((FOLDER / "config.json").read_text())["softmax"] == "2quad"
    assert sentiment_checkpoint().labels == ("negative", "positive")


def test_calibration_comes_with_it(monkeypatch, tmp_path):
    """Preparing writes nothing, here or in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    prepared = prepare.prepare("sentiment", "fast", "2quad")
    assert prepared.calibration == calibrate.load(FOLDER / "mpcnet-calibration-512.json", prepared.checkpoint.sha256)
    assert {path: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == before and not any(tmp_path.iterdir())


def test_it_tells_praise_from_blame():
    found, tokens = sentiment_checkpoint(), encode(FOLDER, TEXTS, 128)
    logits = reference.classify(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask, "2quad")
    assert logits.argmax(1).tolist() == [1, 0, 1, 0]


def test_the_folded_model_is_the_student_that_was_trained():
    rows = tokenise(FOLDER, Examples(list(TEXTS), [1.0, 0.0, 1.0, 0.0]), 128)
    want = predict(load_student(FOLDER), rows)
    inputs = collate(rows, range(4)).inputs
    found = sentiment_checkpoint()
    got = reference.classify(
        found.shape, fold(found), inputs["input_ids"], inputs["token_type_ids"], inputs["attention_mask"], "2quad"
    )
    assert (got - want).abs().max() < 1e-4
    assert torch.equal(got.argmax(1), want.argmax(1))
