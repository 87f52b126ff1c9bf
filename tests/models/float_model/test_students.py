"""Students against Hugging Face's classifier and against plain formulas, and through a file."""

import json
import math
from itertools import product

import pytest
import torch
from mpnets import small_mpnet, small_tokens
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    MPNetForSequenceClassification,
)

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import classify
from mpcnet.models.float_model.student_attention import SOFTMAXES
from mpcnet.models.float_model.students import Quad, load_student, run
from mpcnet.models.texts.tasks import TASKS
from mpcnet.protocols.softmax import RELU_EPS

SMALL = BertConfig(
    vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
    max_position_embeddings=32, initializer_range=0.3,
)  # fmt: skip
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
INPUTS = {
    "input_ids": torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 0, 0, 0, 0]]),
    "token_type_ids": torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0] * 5]),
    "attention_mask": MASK,
}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(1)
    BertForSequenceClassification(SMALL).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)])
def test_exact_with_gelu_is_hugging_face(saved, mask):
    inputs = INPUTS | {"attention_mask": mask}
    theirs = BertForSequenceClassification.from_pretrained(saved, attn_implementation="eager").eval()
    want = theirs(**inputs, output_hidden_states=True)
    got = run(load_student(saved).eval(), inputs, inside=True)
    assert (got.logits - want.logits).abs().max() < 1e-6
    assert len(got.hidden) == 3 and len(got.scores) == 2
    for mine, other in zip(got.hidden, want.hidden_states, strict=True):
        assert (mine - other)[mask.bool()].abs().max() < 1e-5


def formula(softmax, scores):
    """One row of valid scores, in plain Python."""
    weigh = {"exact": math.exp, "2quad": lambda s: (s + 5) ** 2, "2relu": lambda s: max(s, 0)}[softmax]
    weights = [weigh(s) for s in scores]
    return [w / (sum(weights) + (RELU_EPS if softmax == "2relu" else 0)) for w in weights]


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_softmax_is_its_formula(softmax):
    scores, valid = torch.tensor([[0.5, -6.0, 2.0, 9.0]]), torch.tensor([[True, True, True, False]])
    got = SOFTMAXES[softmax](scores, valid)[0].tolist()
    assert got == pytest.approx([*formula(softmax, [0.5, -6.0, 2.0]), 0.0], abs=1e-7)


def test_no_positive_score():
    assert SOFTMAXES["2relu"](torch.tensor([[-1.0, -2.0]]), torch.tensor([[True, True]])).tolist() == [[0.0, 0.0]]


def test_quad_is_its_formula():
    x = [-3.0, 0.0, 1.5]
    assert Quad()(torch.tensor(x)).tolist() == pytest.approx([0.125 * v * v + 0.25 * v + 0.5 for v in x])


@pytest.mark.parametrize(("softmax", "activation"), list(product(SOFTMAXES, ["gelu", "quad"])))
def test_first_layer_is_its_formula(saved, softmax, activation):
    """Layer 0 from the embeddings, with the module's own linear maps and norms around the formulas."""
    model = load_student(saved, softmax=softmax, activation=activation).eval()
    layer = model.bert.encoder.layer[0]
    found = run(model, INPUTS, inside=True)
    x, attention = found.hidden[0], layer.attention.self
    query, key, value = (
        [half for half in part(x).split(4, dim=-1)] for part in (attention.query, attention.key, attention.value)
    )
    context = torch.zeros_like(x)
    for row, head, token in product(range(3), range(2), range(5)):
        keys = range(int(MASK[row].sum()))
        scores = [(query[head][row, token] @ key[head][row, k] / 2).item() for k in keys]
        assert found.scores[0][row, head, token].tolist() == pytest.approx(
            [*scores, *[0.0] * (5 - len(scores))], abs=1e-5
        )
        weights = formula(softmax, scores)
        context[row, token, 4 * head : 4 * head + 4] = sum(
            w * value[head][row, k] for w, k in zip(weights, keys, strict=True)
        )
    mixed = layer.attention.output(context, x)
    up = layer.intermediate.dense(mixed)
    gelu = torch.nn.functional.gelu(up) if activation == "gelu" else 0.125 * up**2 + 0.25 * up + 0.5
    assert (layer.output(gelu, mixed) - found.hidden[1])[MASK.bool()].abs().max() < 1e-5


def mpnet_inputs():
    tokens = small_tokens()
    return tokens, {"input_ids": tokens.ids, "attention_mask": tokens.mask}


def test_mpnet_exact_with_gelu_is_hugging_face(tmp_path):
    small_mpnet(tmp_path, labels=3)
    _, inputs = mpnet_inputs()
    theirs = MPNetForSequenceClassification.from_pretrained(tmp_path).eval()
    for some in (inputs, {name: x[:1] for name, x in inputs.items()}):  # with padding and without
        want = theirs(**some, output_hidden_states=True)
        got = run(load_student(tmp_path).eval(), some, inside=True)
        assert (got.logits - want.logits).abs().max() < 1e-5
        for mine, other in zip(got.hidden, want.hidden_states, strict=True):
            assert (mine - other)[some["attention_mask"].bool()].abs().max() < 1e-5


@pytest.mark.parametrize(("softmax", "activation"), list(product(SOFTMAXES, ["gelu", "quad"])))
def test_mpnet_student_is_the_float_model(tmp_path, softmax, activation):
    """Saved, and read by the private side: both compute the same function, each in its own code."""
    small_mpnet(tmp_path / "mpnet", labels=3)
    student = load_student(tmp_path / "mpnet", softmax=softmax, activation=activation).eval()
    student.save_pretrained(tmp_path / "student")
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == ["MPNetForSequenceClassification"]
    checkpoint = load_checkpoint(tmp_path / "student")
    assert (checkpoint.softmax, checkpoint.shape.activation) == (softmax, activation)
    tokens, inputs = mpnet_inputs()
    want = classify(checkpoint.shape, fold(checkpoint), tokens.ids, tokens.types, tokens.mask, softmax)
    assert (run(student.double(), inputs).logits - want).abs().max() < 1e-9
    again = run(load_student(tmp_path / "student").double().eval(), inputs, inside=True)
    assert torch.equal(again.logits, run(student, inputs).logits)
    assert (again.scores[0][1, :, :, 6:] == 0).all() and (again.scores[0][1, :, 0, :6] != 0).all()


@pytest.mark.parametrize(("softmax", "activation"), [("2relu", "quad"), ("2quad", "gelu")])
def test_round_trip(saved, tmp_path, softmax, activation):
    model = load_student(saved, TASKS["sst-2"], softmax, activation).eval()
    model.save_pretrained(tmp_path / "student")
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (config["softmax"], config["hidden_act"], config["architectures"]) == (
        softmax,
        activation,
        ["BertForSequenceClassification"],
    )
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    again = load_student(tmp_path / "student").eval()
    assert torch.equal(run(again, INPUTS).logits, run(model, INPUTS).logits)
    other = run(load_student(tmp_path / "student", softmax="exact", activation="gelu").eval(), INPUTS).logits
    assert not torch.allclose(other, run(again, INPUTS).logits, atol=1e-3)


def test_half_precision_checkpoint_is_read_by_the_private_side(saved, tmp_path):
    load_student(saved, softmax="2quad").half().save_pretrained(tmp_path / "half")
    shape = load_checkpoint(tmp_path / "half").shape
    assert (shape.head, shape.labels, shape.layers) == ("classification", 2, 2)
    assert load_student(tmp_path / "half").dtype == torch.float32


def test_new_head_and_first_layers(saved, tmp_path):
    """From an encoder of two layers without a classifier."""
    encoder = BertModel(SMALL)
    encoder.save_pretrained(tmp_path / "encoder")
    model = load_student(tmp_path / "encoder", TASKS["sts-b"], layers=1)
    assert (len(model.bert.encoder.layer), model.classifier.out_features, model.config.problem_type) == (
        1,
        1,
        "regression",
    )
    assert torch.equal(model.bert.encoder.layer[0].output.dense.weight, encoder.encoder.layer[0].output.dense.weight)


def test_refuses(saved, tmp_path):
    with pytest.raises(LocalConfigError, match="want 1 to 2 layers, got 3"):
        load_student(saved, layers=3)
    with pytest.raises(LocalConfigError, match="with a BERT or MPNet, got none"):
        load_student(tmp_path / "nothing")
    DistilBertConfig().save_pretrained(tmp_path / "distilbert")
    with pytest.raises(LocalConfigError, match="got model_type distilbert"):
        load_student(tmp_path / "distilbert")
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"softmax": "sparsemax"}))
    with pytest.raises(LocalConfigError, match="got sparsemax and gelu"):
        load_student(saved)
