"""Powers of two between maps that follow each other: the same model in floating point, and one that fits in fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from encoders import small_encoder, small_tokens
from private import private_model
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import folding
from mpcnet.models.checkpoints.balance import balanced
from mpcnet.models.checkpoints.bundled import sentiment_checkpoint
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model.reference import forward
from mpcnet.models.private.prepare import with_activation
from mpcnet.protocols.suites import SUITES

VALUE, GATE, RELU = ("value.", "out.weight"), ("gate.", "down.weight"), ("up.", "down.weight")
CASES = [("bert", {}, VALUE), ("albert", {}, VALUE), ("nomic_bert", {}, GATE), ("bert", {"hidden_act": "relu"}, RELU)]


@cache
def small(kind: str, **more: Any) -> Checkpoint:
    with TemporaryDirectory() as folder:
        return small_encoder(Path(folder), kind, **more)


def apart(found: Checkpoint, between: tuple[str, str], factor: float) -> Checkpoint:
    """The same model, of whose maps the first is larger by a factor, and the second smaller."""
    first, second = between

    def scaled(name: str, value: Tensor) -> Tensor:
        inner = name.partition(".")[2]
        return value * factor if inner.startswith(first) else value / factor if inner == second else value

    tensors = {name: scaled(name, value) for name, value in found.tensors.items()}
    return replace(found, tensors=tensors, sha256=f"{first} {factor}")


def unfolded(found: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(folding, "balanced", lambda shape, folded: dict(folded))
        return fold(found)


@pytest.mark.parametrize("factor", [2.0**10, 2.0**-10])
@pytest.mark.parametrize(("kind", "more", "between"), CASES)
def test_floating_point_is_the_same_to_the_last_bit(
    kind: str, more: Mapping[str, Any], between: tuple[str, str], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = apart(small(kind, **more), between, factor)
    tokens = small_tokens(found.shape.types)
    before, after = unfolded(found, monkeypatch), fold(found)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    one, two = (forward(found.shape, each, tokens.ids, tokens.types, tokens.mask) for each in (before, after))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("kind", "more", "between"), CASES)
def test_what_was_refused_runs(
    kind: str, more: Mapping[str, Any], between: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is that of the model before it was taken apart."""
    found = small(kind, **more)
    tokens = small_tokens(found.shape.types)
    wide = apart(found, between, 2.0**10)
    with monkeypatch.context() as patch:
        patch.setattr(folding, "balanced", lambda shape, folded: dict(folded))
        with pytest.raises(LocalConfigError, match=r"overflow: layer0\.(value|gate|up): want "):
            private_model(wide, [tokens], "fast", "exact")
    result, _, floats = private_model(wide, [tokens], "fast", "exact").run(tokens)
    assert (result - floats).abs().max() < 0.02


def test_what_was_imprecise_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of a thousandth have two bits of twelve left."""
    found = small("bert")
    tokens, narrow = small_tokens(found.shape.types), apart(found, VALUE, 2.0**-10)
    result, _, floats = private_model(narrow, [tokens], "fast", "exact").run(tokens)
    assert (result - floats).abs().max() < 0.02
    with monkeypatch.context() as patch:
        patch.setattr(folding, "balanced", lambda shape, folded: dict(folded))
        result, _, floats = private_model(narrow, [tokens], "fast", "exact").run(tokens)
    assert (result - floats).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["bert", "albert", "nomic_bert", "gte", "modernbert"])
def test_trained_ranges_stay_as_they_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small(kind)
    folded = unfolded(found, monkeypatch)
    assert all(value is folded[name] for name, value in balanced(found.shape, folded).items())


def test_the_shipped_student_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its calibration, which is shipped too, is still its own."""
    found = sentiment_checkpoint()
    folded = unfolded(found, monkeypatch)
    assert all(value is folded[name] for name, value in balanced(found.shape, folded).items())


def test_a_suites_function_in_the_place_of_a_relu_is_not_scaled() -> None:
    """A square has no factor."""
    found = apart(small("bert", hidden_act="relu"), RELU, 2.0**10)
    run = with_activation(found, SUITES["mpcformer"])
    assert run.shape.activation == "quad"
    names = ("layer0.up.weight", "layer0.down.weight")
    before, quad, relu = fold(replace(run, shape=replace(run.shape, activation="gelu"))), fold(run), fold(found)
    assert all(torch.equal(before[name], quad[name]) and not torch.equal(relu[name], quad[name]) for name in names)


def test_nothing_is_made_larger_than_its_format() -> None:
    """Weights that are large for a reason of their own would else take the values with them."""
    found = small("nomic_bert")
    tensors = {name: value * (2**20 if name.endswith("down.weight") else 1) for name, value in found.tensors.items()}
    ffn = found.shape.ffn
    before, after = (fold(replace(found, tensors=each)) for each in (found.tensors, tensors))
    sizes = [each["layer0.up.weight"][:, ffn:].norm(dim=0) for each in (before, after)]
    assert sizes[1].max() > sizes[0].max() and sizes[1].max() <= 4.0


def test_columns_of_zeros() -> None:
    found = small("nomic_bert")
    tensors = dict(found.tensors)
    for name in ("layer0.gate.weight", "layer0.value.weight", "layer0.out.weight"):
        tensors[name] = torch.zeros_like(tensors[name])
    folded = fold(replace(found, tensors=tensors))
    assert all(bool(value.isfinite().all()) for value in folded.values())
