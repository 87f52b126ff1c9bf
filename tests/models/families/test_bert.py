"""The private model against the fixed-point oracle and the float model, in lock-step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from private import TINY, private_model, tiny_model

from mpcnet.errors import LocalInputError
from mpcnet.models.checkpoints.demo import demo_checkpoint
from mpcnet.models.float_model.reference import embed
from mpcnet.models.formats.calibration_batches import own_batches, texts_by_kind
from mpcnet.models.private.program import Size, answers, wanted_answer
from mpcnet.models.texts.tokens import Tokens, encode

SUITES = pytest.mark.parametrize("suite", ["secformer", "secformer-v1", "fast"])
SOFTMAX = pytest.mark.parametrize("softmax", ["exact", "2quad", "2relu"])


@SUITES
@SOFTMAX
def test_tiny_embedding(suite: str, softmax: str) -> None:
    model, tokens = tiny_model(suite, softmax)
    private, whole, floats = model.run(tokens)
    assert (private - floats).abs().max() < 0.02
    assert (private - whole).abs().max() < 0.02
    assert torch.cosine_similarity(private, floats).min() > 0.9995


@pytest.mark.parametrize("types", [0, 1, 2, 3])
def test_every_number_of_types(types: int) -> None:
    """None, one that is a part of each position, two as almost all models have, and one that is not a power of two."""
    model, tokens = tiny_model("fast", "2quad", replace(TINY, layers=1, types=types))
    own = Tokens(tokens.ids, torch.arange(tokens.ids.numel()).reshape(tokens.ids.shape) % max(types, 1), tokens.mask)
    value, oracle, floats = model.run(own)
    assert (value - floats).abs().max() < 0.01
    assert (value - oracle).abs().max() < 0.01
    assert [form.bits for form in model.config.inputs] == ([6] if types < 2 else [6, 2])


def test_what_is_no_index_stands_for_a_token() -> None:
    """Whatever words a client shares, the answer is that of a text: of index mod 50, and of type mod 3."""
    model, tokens = tiny_model("fast", "2quad", replace(TINY, layers=1, types=3))
    wild = torch.arange(tokens.ids.numel()).reshape(tokens.ids.shape) + 40  # from 40 to 66, in a ring of 6 bits
    value, _, _ = model.run(Tokens(wild, wild, tokens.mask), floats=False)
    _, _, floats = model.run(Tokens(wild % 64 % 50, wild % 4 % 3, tokens.mask))
    assert (value - floats).abs().max() < 0.01


def test_client_side_embedding() -> None:
    model, tokens = tiny_model("fast", "exact", embedding="client")
    private, _, floats = model.run(tokens)
    assert not model.loaded.results[0].table
    assert (private - floats).abs().max() < 0.02


@SUITES
def test_tiny_classifier(suite: str) -> None:
    model, tokens = tiny_model(suite, "exact", replace(TINY, head="classification", labels=3, pooling="first"))
    private, _, floats = model.run(tokens)
    assert private.shape == (3, 3)
    assert (private - floats).abs().max() < 0.02


@pytest.mark.parametrize("suite", ["secformer", "fast"])
def test_quad_activation(suite: str) -> None:
    model, tokens = tiny_model(suite, "2quad", replace(TINY, activation="quad"))
    private, whole, floats = model.run(tokens)
    gelu = replace(model.config.shape, activation="gelu")
    other = embed(gelu, model.folded, tokens.ids, tokens.types, tokens.mask, "2quad")
    assert (other - floats).abs().max() > 0.1
    assert (private - floats).abs().max() < 0.02
    assert (private - whole).abs().max() < 0.02
    planned = model.plans.infer(Size(*tokens.ids.shape)).ledger.operations
    rounds = [cost.rounds for name, cost in planned.items() if name.endswith("/activation")]
    assert rounds == [1, 1]


@pytest.mark.parametrize(("labels", "rounds"), [(2, 2), (3, 3)])
def test_label(labels: int, rounds: int) -> None:
    """One-hot bits of the largest logit, as the plan says; the argmax's rounds are all that it takes more."""
    shape = replace(TINY, head="classification", labels=labels, pooling="first")
    model, tokens = tiny_model("fast", "exact", shape)
    logits, _, floats = model.run(tokens)
    hot, whole, _ = model.run(tokens, "label")
    gaps = floats.topk(2).values.diff().abs().min()
    assert gaps > 10 * (logits - floats).abs().max()
    want = torch.nn.functional.one_hot(floats.argmax(1), labels).double()
    assert torch.equal(hot.abs(), want)
    assert torch.equal(whole.abs(), want)
    sizes = [Size(*tokens.ids.shape, answer) for answer in ("logits", "label")]
    plans = [model.plans.infer(size).ledger for size in sizes]
    assert plans[1].total().rounds - plans[0].total().rounds == rounds == plans[1].of("argmax").rounds


@pytest.mark.parametrize(("labels", "kind"), [(0, "a model of embeddings"), (1, r"a classifier of 1 label\(s\)")])
def test_who_has_no_labels_refuses_them(labels: int, kind: str) -> None:
    head = {"head": "classification", "labels": labels, "pooling": "first"} if labels else {}
    model, _ = tiny_model("fast", "exact", replace(TINY, layers=1, **head))
    assert answers(model.config) == ("logits",) == (wanted_answer(model.config, "logits"),)
    with pytest.raises(LocalInputError, match=rf"answer: want logits of {kind}, got 'label'"):
        wanted_answer(model.config, "label")


@pytest.mark.slow
def test_two_hundred_runs_without_a_catastrophic_error() -> None:
    """A single wrap error anywhere would move an output by orders of magnitude. Each run has fresh shares and masks."""
    model, tokens = tiny_model("fast", "exact", replace(TINY, layers=1))
    few = Tokens(*(x[:1, :4] for x in (tokens.ids, tokens.types, tokens.mask)))
    errors = []
    for _ in range(200):
        private, _, floats = model.run(few)
        errors.append((private - floats).abs().max().item())
    assert 0 < max(errors) < 0.01
    assert len(set(errors)) > 10  # rounding is random, so the runs differ by units of 2^-16


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "softmax"), [("fast", "exact"), ("secformer", "2quad")])
def test_demo_embedding(suite: str, softmax: str) -> None:
    checkpoint = demo_checkpoint()
    texts = ["A man is playing a guitar.", "why?"]
    batches = own_batches(checkpoint, texts_by_kind()["english"][:24], 128)
    model = private_model(checkpoint, batches, suite, softmax)
    private, whole, floats = model.run(encode(checkpoint.source, texts, 128))
    assert (private - floats).abs().max() < 0.01
    assert torch.cosine_similarity(private, floats).min() > 0.9999
    assert torch.cosine_similarity(private, whole).min() > 0.9999
