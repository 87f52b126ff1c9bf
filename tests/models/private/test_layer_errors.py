"""Errors by layer and operation: small where nothing is wrong, and found where something is made wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import encoders
import pytest
import torch
from mpnets import small_mpnet, small_tokens
from private import TINY, Private, private_model, tiny_model
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.families.loaded import Model
from mpcnet.models.private.layer_errors import EMBEDDING, LAYER, Report, measure
from mpcnet.models.private.oracle_trace import Place, answer, load_plain
from mpcnet.models.texts.tokens import Tokens
from mpcnet.protocols.gelu import gelu
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Shared

BOTH = pytest.mark.parametrize("softmax", ["exact", "2quad", "2relu"])


@cache
def small(softmax: str) -> tuple[Private, Tokens]:
    with TemporaryDirectory() as folder:
        checkpoint = small_mpnet(Path(folder))
    return private_model(checkpoint, [small_tokens()], "fast", softmax), small_tokens()  # type: ignore[arg-type]


def changed(model: Model, **shared: Tensor) -> Model:
    """A model that adds something to some of its shared parameters."""
    values: Mapping[str, Shared] = {
        name: replace(known, value=known.value + shared[key]) if (key := name.replace(".", "_")) in shared else known
        for name, known in model.shared.items()
    }
    return replace(model, shared=values)


def report(softmax: str) -> Report:
    model, tokens = small(softmax)
    return measure(load_plain(model.config, model.folded), model.folded, tokens)


@BOTH
def test_every_operation_is_right_by_itself(softmax: str) -> None:
    found = report(softmax)
    assert found.tokens == 28
    assert [block.name for block in found.blocks] == ["embedding", "layer0", "layer1"]
    assert [set(block.own) for block in found.blocks] == [set(EMBEDDING), set(LAYER), set(LAYER)]
    for block in found.blocks:
        assert 0 < block.total.mean < block.total.largest < 0.02
        for operation in block.own:
            if (softmax, operation) == ("2relu", "softmax"):  # its numerators are the scores, or 0
                assert block.own[operation].largest == block.added[operation].largest == 0
                continue
            assert 0 < block.own[operation].largest < 2e-3, (block.name, operation)
            assert 0 < block.added[operation].mean <= block.added[operation].largest < 0.01
    assert set(found.answers) == {"embedding table", "embedding norm", *LAYER}
    assert json.loads(json.dumps(found.to_dict()))["blocks"][1]["source"] == found.blocks[1].source


@BOTH
def test_the_total_is_the_oracles_error(softmax: str) -> None:
    model, tokens = small(softmax)
    _, whole, floats = model.run(tokens)
    found = report(softmax)
    pooling = 3e-4  # rounding of the mean, of gamma, beta and the result, which are no part of the layers
    assert abs(found.total.largest - (whole - floats).abs().max()) < pooling
    assert found.total.cosine == pytest.approx(float(torch.cosine_similarity(whole, floats).min()), abs=1e-6)


@pytest.mark.parametrize("labels", [0, 3])
@BOTH
def test_the_oracles_answer_is_the_programs_own(softmax: str, labels: int) -> None:
    """The same program with zero masks on whole values, driven by another."""
    head = {"head": "classification", "labels": labels, "pooling": "first"} if labels else {}
    model, tokens = tiny_model("fast", softmax, replace(TINY, **head))  # type: ignore[arg-type]
    _, whole, _ = model.run(tokens)
    assert torch.equal(answer(load_plain(model.config, model.folded), model.folded, tokens), whole)


def test_the_last_values_reach_a_classifier_too() -> None:
    model, tokens = tiny_model("fast", "exact", replace(TINY, head="classification", labels=3, pooling="first"))
    found = measure(load_plain(model.config, model.folded), model.folded, tokens)
    assert 0 < found.total.largest < 0.02


def test_a_square_is_right_by_itself() -> None:
    model, tokens = tiny_model("fast", "2quad", replace(TINY, activation="quad"))
    found = measure(load_plain(model.config, model.folded), model.folded, tokens)
    assert all(0 < block.own["activation"].largest < 2e-3 for block in found.blocks[1:])


async def gelu_off(p: Party, x: Shared, bits: int, sure: bool) -> Shared:
    return await gelu(p, x, bits, sure) + 0.05


def test_a_wrong_gelu_is_found() -> None:
    model, tokens = small("exact")
    config = replace(model.config, suite=replace(model.config.suite, gelu=gelu_off))
    found = measure(load_plain(config, model.folded), model.folded, tokens)
    assert [block.source for block in found.blocks[1:]] == ["activation", "activation"]
    for block in found.blocks[1:]:
        assert block.own["activation"].mean == pytest.approx(0.05, abs=1e-3)
        assert block.own["down"].largest < 2e-3  # given the float model's GeLU, it is as right as before
    assert min(found.answers, key=lambda name: found.answers[name].cosine) == "activation"


@BOTH
def test_a_wrong_bias_is_found_in_the_scores(softmax: str) -> None:
    model, tokens = small(softmax)
    wrong = torch.zeros(32, 2, dtype=torch.int32)
    wrong[3, 1] = 1 << 20  # a quarter at 22 fraction bits, for one head and distance
    broken = changed(load_plain(model.config, model.folded), relative_bias=wrong)
    found = measure(broken, model.folded, tokens)
    assert [block.source for block in found.blocks[1:]] == ["scores", "scores"]
    for block in found.blocks[1:]:
        assert block.own["scores"].largest == pytest.approx(0.25, abs=1e-3)
        assert block.own["softmax"].largest < 1e-3


def test_a_wrong_projection_is_found() -> None:
    model, tokens = small("exact")
    plain = load_plain(model.config, model.folded)
    wrong = torch.zeros(plain.shared["layer1.qkv.bias"].shape, dtype=torch.int64)
    wrong[70] = 1 << 17  # half at 18 fraction bits, in one column of the values
    found = measure(changed(plain, layer1_qkv_bias=wrong), model.folded, tokens)
    assert found.blocks[2].source == "qkv"
    assert found.blocks[2].own["qkv"].largest == pytest.approx(0.5, abs=1e-3)
    assert found.blocks[1].own["qkv"].largest < 2e-3


def test_a_program_that_opens_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = small("exact")
    plain = load_plain(model.config, model.folded)
    nowhere = [Place("nowhere", 20, layer, f"layer{layer}.scores", 12, "pairs") for layer in range(2)]
    monkeypatch.setattr("mpcnet.models.private.oracle_trace._scores", lambda formats, layer: [nowhere[layer]])
    with pytest.raises(ValueError, match=r"did not open layer0\.scores, layer1\.scores"):
        measure(plain, model.folded, tokens)


@pytest.mark.parametrize("kind", ["albert", "electra"])
def test_shared_layers_and_narrow_embeddings(kind: str) -> None:
    with TemporaryDirectory() as folder:
        tokens, checkpoint = encoders.small_tokens(), encoders.small_encoder(Path(folder), kind)
    model = private_model(checkpoint, [tokens], "fast", "exact")
    found = measure(model.plain, model.folded, tokens)
    assert found.total.cosine > 0.9999 and found.total.largest < 0.02


def test_other_layers_are_refused() -> None:
    model, tokens = small("exact")
    gated = replace(model.plain, config=replace(model.config, shape=replace(model.config.shape, gated=True)))
    with pytest.raises(LocalConfigError, match="errors by layer: want layers as BERT has them"):
        measure(gated, model.folded, tokens)
