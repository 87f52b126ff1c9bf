"""Private models in the suites that others published: near the float model on their domains, flagged outside, refused
where nothing could be right."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from private import TINY, Private, audit, private_model
from small_models import save_embedding

from mpcnet.errors import LocalConfigError
from mpcnet.launch.deployment.making import make
from mpcnet.launch.requests.compare import plain
from mpcnet.models.checkpoints.checkpoint import Checkpoint, random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats import calibrate
from mpcnet.models.formats.calibrated import Coverage, Kept, write
from mpcnet.models.formats.domains import departures
from mpcnet.models.private.known_answer import known_answer
from mpcnet.models.private.layer_errors import measure
from mpcnet.models.private.oracle_trace import load_plain
from mpcnet.models.private.prepare import off_domain, prepare, random_tokens, with_activation
from mpcnet.models.private.program import Size
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.suites import SUITES

EXACT = ("crypten", "puma", "shaft")
ROUNDS = {  # a layer's, for 9 keys: 3 ceil(log2 9) = 12 of the maximum
    "crypten": 2 + (12 + 8) + (1 + 28) + 1 + (2 + 14) + 1 + 17 + 1 + (2 + 14),
    "puma": 2 + (12 + 6) + (1 + 7) + 1 + (2 + 6) + 1 + 4 + 1 + (2 + 6),
    "shaft": 2 + 35 + 2 + 1 + (2 + 18) + 1 + 3 + 1 + (2 + 18),
    "mpcformer": 2 + 1 + (1 + 28) + 1 + (2 + 14) + 1 + 1 + 1 + (2 + 14),
}


def checkpoint(embedding: float = 30.0, linear: float = 8.0) -> Checkpoint:
    """A small random model; embeddings times 30 have variances about 1, and scores stay within 4."""
    raw = random_checkpoint(TINY, 1)
    tensors = {
        name: value * (embedding if name.startswith("embedding") and "norm" not in name else linear)
        if name.endswith("weight") and value.ndim == 2
        else value
        for name, value in raw.tensors.items()
    }
    return replace(raw, tensors=tensors)


def some(found: Checkpoint) -> Tokens:
    tokens = random_tokens(found, 3, 9)
    tokens.mask[1, 6:] = 0
    tokens.mask[2, 1:] = 0
    return tokens


@cache
def model(suite: str, softmax: Softmax = "exact", embedding: float = 30.0, activation: str = "gelu") -> Private:
    found = checkpoint(embedding)
    found = replace(found, shape=replace(found.shape, activation=activation))  # type: ignore[arg-type]
    return private_model(found, [some(found)], suite, softmax)


@pytest.mark.parametrize(("suite", "cosine"), [("crypten", 0.9995), ("puma", 0.999), ("shaft", 0.999)])
def test_answers_on_the_domain(suite: str, cosine: float) -> None:
    """Rounds and bytes are the plan's: `run` looks."""
    tokens = some(checkpoint())
    private, oracle, floats = model(suite).run(tokens)
    assert float(torch.cosine_similarity(private, floats).min()) > cosine
    assert float((private - oracle).abs().max()) < 0.02
    _, flagged, _ = audit(model(suite), tokens)
    assert flagged == [False] * 3


@pytest.mark.parametrize("suite", ROUNDS)
def test_rounds_of_a_layer(suite: str) -> None:
    made = model(suite, "2quad", activation="quad") if suite == "mpcformer" else model(suite)
    rows = made.plans.infer(Size(1, 9)).ledger.operations
    assert sum(cost.rounds for name, cost in rows.items() if name.startswith("layer1")) == ROUNDS[suite]


def test_mpcformers_division_diverges() -> None:
    """Nine squares of 5 and more add up to 225: near the end of Newton's domain, and more keys are beyond it."""
    found = checkpoint()
    tokens = random_tokens(found, 1, 16)
    shaped = replace(found, shape=replace(found.shape, activation="quad"))
    made = private_model(shaped, [tokens], "mpcformer", "2quad")
    _, flagged, _ = audit(made, tokens)
    assert flagged == [True]


@pytest.mark.parametrize("suite", ["crypten", "shaft"])
def test_variances_out_of_the_domain_are_flagged(suite: str) -> None:
    made = model(suite, embedding=1.0)
    _, flagged, _ = audit(made, some(checkpoint()))
    assert flagged == [True] * 3


def test_parties_notice_another_suite() -> None:
    digests = {known_answer(model(suite).config) for suite in (*EXACT, "secformer")}
    assert len(digests) == 4


@pytest.mark.parametrize("suite", EXACT)
def test_errors_by_operation(suite: str) -> None:
    """What a suite approximates errs; the linear maps do not."""
    made = model(suite)
    found = measure(load_plain(made.config, made.folded), made.folded, some(checkpoint()))
    for block in found.blocks[1:]:
        assert block.own["scores"].largest == 0  # they are part of its softmax
        assert max(block.own[name].largest for name in ("qkv", "out", "up", "down")) < 2e-3
        assert 1e-4 < block.own["softmax"].largest < 0.05
        assert 1e-4 < block.own["activation"].largest < 0.025


def ranges_of(found: Checkpoint, file: Path) -> Path:
    """A calibration of these weights, as if somebody had made it."""
    made = calibrate.calibrate(found.shape, fold(found), [random_tokens(found, 4, 8)], found.sha256)
    write(Kept(made, Coverage(8, "by hand")), file)
    return file


def test_a_suite_keeps_to_its_own_softmax(tmp_path: Path) -> None:
    model = str(save_embedding(tmp_path / "model"))
    file = ranges_of(load_checkpoint(model), tmp_path / "ranges.json")
    made = prepare(model, "puma", None, 8, file)
    assert made.config.formats.softmax == "exact" and made.config.formats.windows == ()
    assert off_domain(made) == ""
    words = "softmax: suite puma approximates exact softmax in its own way: leave --softmax out, got 2quad"
    with pytest.raises(LocalConfigError, match=words):
        prepare(model, "puma", "2quad", 8, file)
    with pytest.raises(LocalConfigError, match="suite mpcformer has 2quad softmax in its own way"):
        prepare(model, "mpcformer", "exact", 8, file)


def test_weights_that_a_suite_does_not_serve_are_told_of_and_not_deployed(tmp_path: Path) -> None:
    model = str(save_embedding(tmp_path / "model"))
    file = ranges_of(load_checkpoint(model), tmp_path / "ranges.json")
    made = prepare(model, "crypten", None, 8, file)
    said = off_domain(made)
    assert said.startswith("suite crypten is not right for these weights: LayerNorm's variances are 0.0")
    assert "served from 0.105 to 153.8 (1 of 3)" in said and "flagged by the audit" in said
    with pytest.raises(LocalConfigError, match="suite crypten is not right for these weights"):
        make(model, "crypten", None, "private", 8, file, ())
    assert make(model, "puma", None, "private", 8, file, ()).config.suite.name == "puma"


def test_an_activation_is_put_in(tmp_path: Path) -> None:
    model = str(save_embedding(tmp_path / "model"))
    found = load_checkpoint(model)
    run = with_activation(found, SUITES["mpcformer"])
    assert (run.shape.activation, found.shape.activation, run.sha256 == found.sha256) == ("quad", "gelu", False)
    made = prepare(model, "mpcformer", None, 8, ranges_of(run, tmp_path / "ranges.json"))
    assert made.config.shape.activation == "quad" and made.config.formats.softmax == "2quad"
    assert "quad stands in for the gelu that these weights were trained with" in off_domain(made)
    beside = plain(made, ["the dog"], [random_tokens(found, 1, 4)])
    assert beside.by == "the float model with 2quad softmax and quad" and beside.published is not None


def test_a_domain_that_holds_all_is_not_left() -> None:
    found = checkpoint()
    ranges = calibrate.calibrate(found.shape, fold(found), [some(found)], found.sha256)
    for suite in SUITES.values():
        left = list(departures(found.shape, suite, ranges, "exact", 9))
        assert bool(left) == (suite.name == "mpcformer"), (suite.name, left)
    beyond = list(departures(found.shape, SUITES["mpcformer"], ranges, "2quad", 9))
    assert any("row sums" in line for line in beyond) == (ranges.at("2quad", "layer0.row_sum").max > 253)
