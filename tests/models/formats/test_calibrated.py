"""Stored calibrations: which one serves, what is made again without an error, and what is refused with the command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_models import ATOMS, SPECIAL, layout, save_atoms, save_embedding, save_weights

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats import calibrated
from mpcnet.models.formats.calibrate import Calibration, Outdated, Range
from mpcnet.models.formats.calibrated import Coverage, Kept, widened
from mpcnet.models.formats.calibration_batches import own_batches, recipe
from mpcnet.models.private import prepare


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def model(tmp_path, cache):
    return save_embedding(tmp_path / "model", max_position_embeddings=64)


def stored(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.json"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_made_once_and_kept_in_the_cache(model, cache):
    """Nothing is written beside the model; progress is told."""
    before, said = sorted(model.iterdir()), []
    made = prepare.prepare(str(model), "fast", say=said.append)
    assert sorted(model.iterdir()) == before
    (path,) = stored(cache)
    assert path == cache / "mpcnet" / made.checkpoint.sha256[:16] / "mpcnet-calibration-64.json"
    assert any("once for these weights: 0%" in text for text in said) and any(text[-3:] >= "50%" for text in said)
    written = path.stat().st_mtime_ns
    again = prepare.prepare(str(model), "fast")
    assert (again.calibration, again.note, path.stat().st_mtime_ns) == (made.calibration, "", written)
    assert calibrated.read(path, made.checkpoint.sha256).coverage == Coverage(64, recipe())


def test_retrained_weights_in_the_same_folder_are_new_weights(model, cache):
    first = prepare.prepare(str(model), "fast")
    save_weights(model, seed=1, max_position_embeddings=64)
    second = prepare.prepare(str(model), "fast")
    assert first.calibration.weights_sha256 != second.calibration.weights_sha256
    assert len(stored(cache)) == 2 and second.note == ""


def test_another_prompt_is_another_calibration(model, cache):
    """Of the same weights: prompts change what the model reads, so the stored one does not serve."""
    plain = prepare.prepare(str(model), "fast")
    layout(model, config_sentence_transformers={"prompts": {"q": "the ship: "}, "default_prompt_name": "q"})
    asked = prepare.prepare(str(model), "fast")
    assert asked.checkpoint.sha256 == plain.checkpoint.sha256
    assert asked.calibration.ranges != plain.calibration.ranges
    again = prepare.prepare(str(model), "fast")
    assert again.calibration == asked.calibration
    shutil.rmtree(model / "1_Pooling")
    (model / "modules.json").unlink()
    assert prepare.prepare(str(model), "fast").calibration == plain.calibration


def test_what_an_older_version_left_beside_the_model_is_not_read(model, cache):
    (model / "mpcnet-calibration-128.json").write_text("{}")
    (model / "mpcnet-calibration-64.json").write_text("{}")
    assert prepare.prepare(str(model), "fast").note == ""
    assert (model / "mpcnet-calibration-64.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [{"version": 1}, {"ranges": {}}, {"coverage": {"longest": 64, "recipe": "other", "own": 0}}, {"coverage": None}],
)
def test_stored_ones_that_do_not_fit_are_made_again(model, cache, values):
    made = prepare.prepare(str(model), "fast")
    (path,) = stored(cache)
    whole = path.read_text()
    change(path, **values)
    assert prepare.prepare(str(model), "fast").calibration == made.calibration
    assert path.read_text() == whole


def test_a_named_file_that_does_not_fit_is_refused_with_the_command(model, cache, tmp_path):
    prepare.prepare(str(model), "fast")
    (path,) = stored(cache)
    command = f"run: mpcnet calibrate --model {model} --out"
    with pytest.raises(LocalConfigError, match=f"missing: want a file, got none; {command}"):
        prepare.prepare(str(model), "fast", calibration_file=tmp_path / "missing")
    change(path, coverage={"longest": 16, "recipe": recipe(), "own": 0})
    assert prepare.prepare(str(model), "fast", length=16, calibration_file=path).note == ""
    with pytest.raises(LocalConfigError, match=rf"texts of 17 tokens, got one for up to 16; {command} .* --length 17"):
        prepare.prepare(str(model), "fast", length=17, calibration_file=path)
    change(path, version=1)
    with pytest.raises(Outdated, match=command):
        prepare.prepare(str(model), "fast", calibration_file=path)
    change(path, version=4)
    save_weights(model, seed=1, max_position_embeddings=64)
    with pytest.raises(LocalConfigError, match=f"belongs to other weights: .*; {command}"):
        prepare.prepare(str(model), "fast", calibration_file=path)
    assert json.loads(path.read_text())["coverage"]["longest"] == 16


def test_the_users_own_comes_first(model, cache):
    """Until it does not fit: then the built-in one serves, and a note says what to do."""
    known = prepare.prepare(str(model), "fast")
    found, folded = known.checkpoint, {name: value.float() for name, value in known.folded.items()}
    kept = calibrated.built_in(found, 64)
    ranges = {name: dict(sites) for name, sites in kept.calibration.ranges.items()}
    ranges["exact"]["layer0.up"] = Range(-9.0, 9.0, 7)
    wide = calibrated.widen(
        Kept(replace(kept.calibration, ranges=ranges), kept.coverage), found.shape, folded,
        own_batches(found, ["bad cat", "old ship sings"], 64),
    )  # fmt: skip
    assert wide.coverage == Coverage(64, recipe(), own=2)
    assert wide.calibration.sentences == kept.calibration.sentences + 2
    own = calibrated.folder(found) / calibrated.OWN
    calibrated.write(replace(wide, coverage=replace(wide.coverage, longest=32)), own)
    assert prepare.prepare(str(model), "fast", length=32).calibration == wide.calibration
    longer = prepare.prepare(str(model), "fast", length=33)
    assert longer.calibration == known.calibration
    assert (
        f"is for up to 32 tokens, and was left aside; run: mpcnet calibrate --model {model} --length 33" in longer.note
    )
    change(own, version=1)
    older = prepare.prepare(str(model), "fast")
    assert older.calibration == known.calibration
    assert "was left aside" in older.note and f"run: mpcnet calibrate --model {model}" in older.note


def test_a_tokenizer_of_other_things_than_english(tmp_path, cache):
    """And a model of few positions and one type of token: neither is the user's fault, and nothing is said of it."""
    folder = tmp_path / "atoms"
    save_weights(folder, words=len(SPECIAL) + len(ATOMS), max_position_embeddings=12, type_vocab_size=1)
    save_atoms(folder)
    made = prepare.prepare(str(folder), "fast")
    assert calibrated.built_in(made.checkpoint, 12) is not None and made.note == ""


def test_random_weights_are_calibrated_for_what_is_asked(cache):
    made = prepare.prepare("bert-tiny", "fast", "2quad", 8)
    assert made.config.formats.longest == 128
    assert [path.name for path in stored(cache)] == ["mpcnet-calibration-128.json"]


def test_which_ranges_widened():
    """Of sums that are divided by a smaller least counts, and of others the span and the largest magnitude."""
    before = {
        "a": Range(-2.0, 2.0, 3),
        "b.row_sum": Range(1.0, 8.0, 3),
        "c": Range(0.0, 1.0, 3),
        "d": Range(1.0, 2.0, 3),
    }
    after = {
        "a": Range(-2.0, 3.0, 3),
        "b.row_sum": Range(0.5, 9.0, 3),
        "c": Range(0.0, 1.0, 9),
        "d": Range(0.0, 2.0, 3),
    }
    old, new = (Calibration("", 1, 1, {"exact": ranges}) for ranges in (before, after | {"new": Range(0.0, 1.0, 1)}))
    found = widened(old, new, "exact")
    assert [(each.site, each.factor) for each in found] == [("b.row_sum", 2.0), ("d", 2.0), ("a", 1.5)]
    assert (found[2].before, found[2].after) == ((-2.0, 2.0), (-2.0, 3.0))


def test_values_of_a_text_that_are_not_finite_are_refused(model, cache):
    found = load_checkpoint(str(model))
    folded = fold(found)
    kept = prepare.calibration_of(found, folded, 64)
    broken = folded | {"layer0.up.bias": folded["layer0.up.bias"] * float("inf")}
    with pytest.raises(LocalConfigError, match="finite values"):
        calibrated.widen(kept, found.shape, broken, own_batches(found, ["bad cat"], 64))
