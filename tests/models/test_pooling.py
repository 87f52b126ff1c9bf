"""Every kind of pooling and dense map: private, oracle and float agree, the plan is what is measured, rings hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from private import TINY, private_model, tiny_model

from mpcnet.errors import LocalInputError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model.reference import embed
from mpcnet.models.head_shape import POOLINGS, Dense
from mpcnet.models.pooling import check_pooled, counted, too_large, weights
from mpcnet.models.private.prepare import random_tokens
from mpcnet.models.private.program import Size, answers, wanted_answer
from mpcnet.models.shape import BertShape

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1]])


def test_weights_of_tokens() -> None:
    """Padding before the tokens counts for nothing; a prompt's tokens are places, but have no weight."""
    assert weights("cls", MASK, 0).tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert weights("lasttoken", MASK, 0).tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert weights("mean", MASK, 1)[0].tolist() == [0, 1 / 3, 1 / 3, 1 / 3]
    assert weights("mean", MASK, 1)[3].tolist() == [0, 0, 0.5, 0.5]
    assert weights("mean_sqrt_len_tokens", MASK, 0)[0].tolist() == [0.5] * 4
    assert weights("weightedmean", MASK, 0)[1].tolist() == [1 / 3, 2 / 3, 0, 0]
    assert weights("weightedmean", MASK, 2)[0].tolist() == [0, 0, 3 / 7, 4 / 7]
    for kind in POOLINGS:
        if kind != "max":
            assert (weights(kind, MASK, 2)[2] == 0).all()  # nothing is behind the prompt
    assert counted(MASK, 1).sum(1).tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize(
    ("pooling", "dense", "rounds"),
    [
        *[(kind, (), 1) for kind in POOLINGS if kind != "max"],
        ("max", (), 2 + 3 * 4),  # of nine tokens
        ("cls+mean", (), 1),
        ("max+mean_sqrt_len_tokens+lasttoken", (), 14),
        ("mean", (Dense(20, "identity"),), 2),
        ("mean", (Dense(20, "tanh"),), 5),
        ("weightedmean+cls", (Dense(20, "tanh"), Dense(7, "tanh"), Dense(5, "identity")), 1 + 4 + 4 + 1),
    ],
)
def test_private_pooling(pooling: str, dense: tuple[Dense, ...], rounds: int) -> None:
    shape = replace(TINY, pooling=pooling, dense=dense)
    model, tokens = tiny_model("fast", "exact", shape)
    private, whole, floats = model.run(tokens)  # which compares the cost with the plan
    assert private.shape == (3, shape.columns) == floats.shape
    assert torch.cosine_similarity(private, floats).min() > 0.9999
    assert (private - floats).abs().max() < 0.02 * floats.abs().max()
    assert (private - whole).abs().max() < 0.02 * floats.abs().max()
    planned = model.plans.infer(Size(*tokens.ids.shape)).ledger.operations
    assert sum(cost.rounds for name, cost in planned.items() if name.startswith("pool")) == rounds


@pytest.mark.parametrize("pooling", ["mean", "weightedmean+max"])
def test_a_prompt_is_left_out(pooling: str) -> None:
    shape = replace(TINY, pooling=pooling, pooled_from=2)
    checkpoint = random_checkpoint(shape, 1)
    tokens = random_tokens(checkpoint, 3, 9)
    tokens.mask[1, 4:] = 0
    model = private_model(checkpoint, [tokens], "fast", "exact")
    private, _, floats = model.run(tokens)
    whole = embed(replace(shape, pooled_from=0), model.folded, tokens.ids, tokens.types, tokens.mask)
    assert (whole - floats).abs().max() > 0.1
    assert (private - floats).abs().max() < 0.02
    tokens.mask[2, 2:] = 0
    with pytest.raises(LocalInputError, match="want some behind the 2 of the prompt, got a row of none"):
        check_pooled(shape, tokens.mask)


def test_means_of_long_texts_are_exact() -> None:
    """The weight of each of 500 tokens is not rounded to a few bits."""
    shape = BertShape(layers=1, hidden=16, heads=2, ffn=16, vocab=50, positions=500)
    checkpoint = random_checkpoint(shape, 2)
    tokens = random_tokens(checkpoint, 1, 500)
    private, _, floats = private_model(checkpoint, [tokens], "fast", "exact").run(tokens)
    assert (private - floats).abs().max() < 2e-3
    assert abs(float(private.norm() / floats.norm()) - 1) < 2e-3


def test_what_may_leave_its_ring_is_named() -> None:
    shape = replace(TINY, pooling="max+mean", dense=(Dense(4, "tanh"), Dense(3, "identity")))
    folded = fold(random_checkpoint(shape, 1))
    assert list(too_large(shape, folded)) == []
    largest = folded | {"final.gamma": folded["final.gamma"] * 300}
    assert [text.split(":")[0] for text in too_large(shape, largest)] == ["values whose maximum is taken"]
    heavy = folded | {f"dense{i}.weight": folded[f"dense{i}.weight"] * 2.0**22 for i in (0, 1)}
    assert [text.split(":")[0] for text in too_large(shape, heavy)] == ["results of Dense 0", "results of Dense 1"]
    far = replace(TINY, pooling="mean_sqrt_len_tokens", positions=1 << 20)
    assert "pooled values before gamma" in next(too_large(far, folded))
    wide = folded | {"final.beta": folded["final.beta"] + 2.0**22}
    assert "values of the embedding: want < 4194304" in next(too_large(TINY, wide))
    classifier = replace(TINY, head="classification", labels=2, pooling="first")
    assert list(too_large(classifier, {})) == []


def test_labels_of_their_own_have_no_largest() -> None:
    shape = replace(TINY, head="classification", labels=3, pooling="first", multi_label=True)
    model, tokens = tiny_model("fast", "exact", shape)
    assert answers(model.config) == ("logits",)
    with pytest.raises(LocalInputError, match=r"want logits of .* several may hold at once .* got 'label'"):
        wanted_answer(model.config, "label")
    private, _, floats = model.run(tokens)
    assert (private - floats).abs().max() < 0.02


@pytest.mark.parametrize(
    ("shape", "sent"),
    [
        ({"pooling": "mean"}, 3 * 8 * 4),
        ({"pooling": "cls+mean"}, 2 * 3 * 8 * 4),
        ({"pooling": "max"}, None),
        ({"dense": (Dense(12, "tanh"),)}, 3 * 32 * 4),
    ],
)
def test_the_first_columns_alone(shape: dict[str, Any], sent: int | None) -> None:
    """As those of the whole; servers open no others where nothing follows the pooling."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1, **shape))
    few, whole, floats = model.run(tokens, extent=8)
    assert few.shape == whole.shape == (3, 8)
    assert (few - floats[:, :8]).abs().max() < 0.02 and (few - whole).abs().max() < 0.02
    size = Size(*tokens.ids.shape, extent=8)
    least, most = (model.plans.infer(x).ledger for x in (size, replace(size, extent=0)))
    assert sum(least.total().dealt_bytes) < sum(most.total().dealt_bytes) or "dense" in shape
    assert least.total().rounds == most.total().rounds
    if sent is not None:
        assert least.of("pool").sent_bytes == sent
