"""What is no encoder that is computed: refused in one line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForQuestionAnswering,
    MPNetForTokenClassification,
)

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.families import FAMILIES
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import answer

SIZES = dict(
    vocab_size=30,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=16,
)


def edit(folder: Path, **changes: Any) -> None:
    """Change config.json; None takes a key away."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def refusal(folder: Path) -> str:
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "cls",
    [
        BertForPreTraining,
        BertForNextSentencePrediction,
        BertForMultipleChoice,
    ],
)
def test_another_head(tmp_path: Path, cls: Any) -> None:
    """Nothing is said of its weights, which its class explains."""
    cls(BertConfig(**SIZES)).save_pretrained(tmp_path)
    assert refusal(tmp_path) == (
        f"{tmp_path}: cannot run privately: architectures: want BertModel or its head for texts, tokens, "
        f"questions or masks, got {cls.__name__}; save the encoder alone: AutoModel.from_pretrained(DIR).save_pretrained(OUT)"
    )


KNOWN = f"{', '.join(list(FAMILIES)[:-1])} or {list(FAMILIES)[-1]}"


@pytest.mark.parametrize(
    ("cls", "head", "labels"),
    [
        (BertForTokenClassification, "token-classification", 5),
        (BertForQuestionAnswering, "question-answering", 0),
        (MPNetForTokenClassification, "token-classification", 5),
        (MPNetForQuestionAnswering, "question-answering", 0),
    ],
)
def test_heads_for_tokens(tmp_path: Path, cls: Any, head: str, labels: int) -> None:
    """Their weights are transformers', at every token, and two of them in one folder are refused."""
    config = (MPNetConfig if "MPNet" in cls.__name__ else BertConfig)(**SIZES, num_labels=labels or 2)
    model = cls(config).double().eval()
    model.save_pretrained(tmp_path)
    found = load_checkpoint(tmp_path)
    assert (found.shape.head, found.shape.labels, found.shape.tells_tokens) == (head, labels, True)
    ids = torch.tensor([[5, 9, 2, 7]])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=mask)
    want = output.logits[0] if labels else torch.stack([output.start_logits[0], output.end_logits[0]], -1)
    mine = answer(found.shape, fold(found), ids, torch.zeros_like(ids), mask)[0]
    assert torch.allclose(mine, want, atol=1e-9)
    edit(
        tmp_path,
        architectures=[cls.__name__.replace("Token", "Sequence").replace("QuestionAnswering", "TokenClassification")],
    )
    assert "cannot run privately" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "pre-training", "untied", "both biases"])
def test_masked_language_models(tmp_path: Path, kind: str) -> None:
    """Tied to their table or not, with what BERT's own training leaves beside; the logits are transformers'."""
    sizes = SIZES | ({"tie_word_embeddings": False} if kind == "untied" else {})
    torch.manual_seed(1)
    if kind == "mpnet":
        model = MPNetForMaskedLM(MPNetConfig(**sizes, initializer_range=0.5))
    else:
        made = BertForPreTraining if kind == "pre-training" else BertForMaskedLM
        model = made(BertConfig(**sizes, initializer_range=0.5))
    model = model.double().eval()
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    if kind == "pre-training":
        edit(tmp_path, architectures=["BertForMaskedLM"])
    if kind == "both biases":
        tensors = load_file(file)
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        save_file(tensors, file, {"format": "pt"})
    found = load_checkpoint(tmp_path)
    assert (found.shape.head, found.shape.labels, found.shape.fills, found.shape.columns) == ("fill-mask", 0, True, 30)
    ids, places = torch.tensor([[5, 9, 2, 7]]), torch.tensor([[1, 3]])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=mask)
    theirs = (output.prediction_logits if kind == "pre-training" else output.logits)[0, [1, 3]]
    mine = answer(found.shape, fold(found), ids, torch.zeros_like(ids), mask, places=places)[0]
    assert torch.allclose(mine, theirs, atol=1e-5 if kind == "pre-training" else 1e-9)
    tensors = load_file(file)
    if kind == "both biases":
        tensors["cls.predictions.decoder.bias"] += 1
        save_file(tensors, file, {"format": "pt"})
        assert "decoder.bias: want what cls.predictions.bias holds, to which it is tied, got other values" in refusal(
            tmp_path
        )
    if kind == "bert":
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1
        save_file(tensors, file, {"format": "pt"})
        assert "decoder.weight: want what bert.embeddings.word_embeddings.weight holds" in refusal(tmp_path)


def test_a_filler_computes_no_quad(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(tmp_path)
    edit(tmp_path, hidden_act="quad")
    assert "head_activation: want tanh or relu or gelu or gelu_tanh or silu, got 'quad'" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["ernie", "funnel", "gpt2", "mobilebert", "t5", "xlnet"])
def test_another_family(tmp_path: Path, kind: str) -> None:
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    edit(tmp_path, model_type=kind)
    assert refusal(tmp_path).endswith(
        f"model_type: want {KNOWN}, got {kind}; take one of these, or distil a BERT from it"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_act": "mish"}, "hidden_act: want gelu, gelu_new, .* or quad, got mish; make a student"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: want absolute, got relative_key; train"),
        ({"is_decoder": True}, "is_decoder: want false, got True; set it to false if"),
        ({"problem_type": "ranking"}, "problem_type: want single_label_classification or multi_label_classification"),
        ({"quantization_config": {"bits": 8}}, "quantization_config: want none, got .*; load it in transformers"),
        ({"model_type": None}, f'model_type: want {KNOWN}, got none; if it is a BERT, add "model_type": "bert"'),
        ({"model_type": ["bert"]}, rf"model_type: want {KNOWN}, got \['bert'\]"),
        ({"architectures": [7]}, r"architectures: want a list of names, got \[7\]"),
        ({"architectures": 7}, "architectures: want a list of names, got 7"),
        ({"num_hidden_layers": 2**32}, "BERT shape: layers: want at most 1024, got 4294967296"),
        ({"hidden_size": "wide"}, "BERT shape: hidden: want a whole number of at least 1, got 'wide'"),
    ],
)  # fmt: skip
def test_settings(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(LocalConfigError, match=f"cannot run privately: {says}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(("theirs", "ours"), [("gelu_python", "gelu"), ("gelu_fast", "gelu_tanh"), ("swish", "silu")])
def test_the_same_activation_by_another_name(tmp_path: Path, theirs: str, ours: str) -> None:
    BertModel(BertConfig(**SIZES, hidden_act=theirs)).save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path).shape.activation == ours


def test_albert_groups_of_several_layers(tmp_path: Path) -> None:
    AlbertModel(AlbertConfig(**SIZES, embedding_size=8, inner_group_num=2)).save_pretrained(tmp_path)
    assert "inner_group_num: want 1, got 2; take one whose groups are single layers" in refusal(tmp_path)


def test_a_name_that_transformers_takes_for_another(tmp_path: Path) -> None:
    """DistilBERT's heads are n_heads, or num_attention_heads: no size of a weight tells them."""
    DistilBertModel(DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=4, hidden_dim=8)).save_pretrained(
        tmp_path
    )
    edit(tmp_path, n_heads=None, num_attention_heads=4)
    assert load_checkpoint(tmp_path).shape.heads == 4


def test_no_architectures(tmp_path: Path) -> None:
    """An encoder's weights say what they are; a classifier's may be one for tokens."""
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "encoder")
    edit(tmp_path / "encoder", architectures=None)
    assert load_checkpoint(tmp_path / "encoder").shape.head == "embedding"
    BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(tmp_path / "classifier")
    edit(tmp_path / "classifier", architectures=None)
    assert 'add "architectures": ["BertForSequenceClassification"] to config.json' in refusal(tmp_path / "classifier")


def test_several_labels_at_once(tmp_path: Path) -> None:
    config = BertConfig(**SIZES, num_labels=28, problem_type="multi_label_classification")
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    shape = load_checkpoint(tmp_path).shape
    assert (shape.labels, shape.multi_label) == (28, True)


def test_a_wrappers_prefix_before_all_names(tmp_path: Path) -> None:
    BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(tmp_path)
    whole, file = load_checkpoint(tmp_path), tmp_path / "model.safetensors"
    tensors = load_file(file)
    for prefix in ("module.", "model.encoder."):
        save_file({prefix + name: value for name, value in tensors.items()}, file)
        found = load_checkpoint(tmp_path)
        assert (found.sha256, found.prefix, whole.prefix) == (whole.sha256, prefix, "")
    save_file({("module." if "bias" in name else "") + name: value for name, value in tensors.items()}, file)
    assert "unknown parameters: module." in refusal(tmp_path)
