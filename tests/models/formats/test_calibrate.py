"""Calibration: ranges are those of the values, the file round-trips, and other weights' files are refused."""

import json

import pytest
import torch

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.demo import demo_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model.reference import forward
from mpcnet.models.formats.calibrate import Calibration, Outdated, Range, calibrate, load, save
from mpcnet.models.formats.calibration_batches import built_in_batches
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Tokens

SHAPE = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


def batches():
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    return [Tokens(ids, ids * 0, (ids > 0).long()), Tokens(ids[:1], ids[:1] * 0, ids[:1] * 0 + 1)]


@pytest.fixture(scope="module")
def calibration():
    checkpoint = random_checkpoint(SHAPE, seed=1)
    return calibrate(SHAPE, fold(checkpoint), batches(), checkpoint.sha256)


def test_ranges_are_the_values(calibration):
    seen = {}
    folded = fold(random_checkpoint(SHAPE, seed=1))
    for batch in batches():
        show = lambda site, value: seen.setdefault(site, []).append(value.flatten())  # noqa: E731
        forward(SHAPE, folded, batch.ids, batch.types, batch.mask, "2quad", show)
    assert all(set(calibration.ranges[softmax]) == set(seen) for softmax in ("exact", "2quad", "2relu"))
    for site, values in seen.items():
        value = torch.cat(values)
        assert calibration.at("2quad", site) == Range(value.min().item(), value.max().item(), len(value))
    assert (calibration.sentences, calibration.tokens) == (3, 10)


def test_softmax_variants_differ_only_after_the_scores(calibration):
    exact, quad = calibration.ranges["exact"], calibration.ranges["2quad"]
    assert all(
        exact[site] == quad[site] for site in ("embedding.centred", "layer0.qkv", "layer0.scores", "layer0.row_max")
    )
    assert all(
        exact[site] != quad[site] for site in ("layer0.row_sum", "layer0.context_raw", "layer0.up", "final.hidden")
    )


def test_range():
    assert Range(-3.0, 2.0, 5).absmax == 3.0
    assert Range(-3.0, 2.0, 5).join(Range(-1.0, 4.0, 2)) == Range(-3.0, 4.0, 7)


def test_round_trip(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    save(calibration, path)
    assert load(path, calibration.weights_sha256) == calibration


def test_refused_for_other_weights(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    save(calibration, path)
    other = random_checkpoint(SHAPE, seed=2).sha256
    with pytest.raises(LocalConfigError, match=f"other weights: want sha256 {other}, got {calibration.weights_sha256}"):
        load(path, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, r"want \('mpcnet calibration', 4\), got \('mpcnet calibration', 5\)"),
        ({"ranges": {"exact": {}, "2quad": {}}}, "ranges by softmax variant, got KeyError.'2relu'"),
        ({"format": "x"}, "got .'x'"),
        ({"ranges": {"exact": []}}, "ranges"),
        ({"ranges": {"exact": {"a": [2, 1, 3]}, "2quad": {}}}, "a: "),
        ({"ranges": {"exact": {"a": [0, float("nan"), 3]}, "2quad": {}}}, "NaN, which is no number of JSON"),
        ({"ranges": {"exact": {"a": [0, 1]}, "2quad": {}}}, "ranges"),
        ({"ranges": 3}, "ranges"),
    ],
)
def test_refused_when_malformed(calibration, tmp_path, change, message):
    path = tmp_path / "calibration.json"
    save(calibration, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LocalConfigError, match=message):
        load(path, calibration.weights_sha256)


def test_a_file_of_an_older_version_is_told_apart(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    save(calibration, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    with pytest.raises(Outdated, match="calibrate this model again"):
        load(path, calibration.weights_sha256)


@pytest.mark.parametrize("content", [None, "{", "[]", "\xff"])
def test_refused_when_no_calibration(tmp_path, content):
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content, "latin-1")
    with pytest.raises(LocalConfigError, match="calibration"):
        load(path, "0" * 64)


def test_unknown_site_no_batch_and_infinite_values(calibration):
    with pytest.raises(LocalConfigError, match=r"layer9\.up"):
        calibration.at("exact", "layer9.up")
    checkpoint = random_checkpoint(SHAPE, seed=1)
    with pytest.raises(LocalConfigError, match="at least one batch"):
        calibrate(SHAPE, fold(checkpoint), [], checkpoint.sha256)
    broken = fold(checkpoint) | {"layer0.up.bias": torch.full((16,), torch.inf, dtype=torch.float64)}
    with pytest.raises(LocalConfigError, match=r"finite values, got .* at layer0\.up"):
        calibrate(SHAPE, broken, batches(), checkpoint.sha256)


@pytest.mark.slow
def test_demo_model_calibrates():
    checkpoint = demo_checkpoint()
    folded = {name: value.float() for name, value in fold(checkpoint).items()}
    made = built_in_batches(checkpoint, longest=128)
    measured: Calibration = calibrate(checkpoint.shape, folded, [made[0], made[-1]], checkpoint.sha256)
    assert measured.at("exact", "layer0.row_sum").min >= 1 - 1e-6
    assert measured.at("2quad", "layer0.row_sum").max > 128
