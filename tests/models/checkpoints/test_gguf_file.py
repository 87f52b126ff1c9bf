"""Weights in a GGUF file, as llama.cpp's converter writes encoders: dequantised, and held against config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoders import save_encoder, small_tokens
from exported import save_adapter
from sentences import save_modules
from small_models import save_embedding, save_words

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import huggingface_hidden, huggingface_logits, published
from mpcnet.models.float_model.reference import classify, forward
from mpcnet.models.float_model.rewritten import loadable

gguf = pytest.importorskip("gguf", reason="the extra mpcnet[gguf] is not installed")
converted = pytest.importorskip("converted")
convert = converted.convert


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_embedding(tmp_path, hidden_size=256, intermediate_size=256)


@pytest.mark.parametrize(
    ("kind", "error"), [("F32", 0.0), ("F16", 5e-4), ("BF16", 4e-3), ("Q8_0", 6e-3), ("Q4_0", 0.13)]
)
def test_types(saved: Path, kind: str, error: float) -> None:
    whole = load_checkpoint(saved)
    convert(saved, kind)
    found = load_checkpoint(saved)
    assert found.tensors.keys() == whole.tensors.keys() and found.shape == whole.shape
    for name, value in found.tensors.items():
        want = whole.tensors[name]
        assert (value - want).abs().max() <= error * want.abs().max(), name
    if error:
        assert not torch.equal(found.tensors["layer0.up.weight"], whole.tensors["layer0.up.weight"])


def test_k_quants(saved: Path) -> None:
    path = convert(saved, "Q4_K")
    (table,) = (each for each in gguf.GGUFReader(path).tensors if each.name == "token_embd.weight")
    want = gguf.quants.dequantize(table.data, table.tensor_type)
    found = load_checkpoint(saved).tensors["embedding.word.weight"]
    assert found.shape == (92, 256) and np.array_equal(found.numpy(), want) and found.std() > 1e-3


@pytest.mark.parametrize("modules", [False, True])
def test_transformers_is_given_the_same_weights(saved: Path, modules: bool) -> None:
    text = ["the dog eats the cat"]
    if modules:  # sentence-transformers' folder, of whose modules one has no files
        save_modules(saved, ("Normalize", None), pooling={"embedding_dimension": 256, "pooling_mode": "cls"})
        (saved / "2_Normalize").rmdir()
    before = published(load_checkpoint(saved))(text)
    convert(saved, "Q8_0")
    theirs = published(load_checkpoint(saved))
    assert theirs.by.endswith("transformers, of model-Q8_0.gguf as it is read here")
    assert torch.cosine_similarity(theirs(text), before).min() > 0.999 and not torch.equal(theirs(text), before)


@pytest.mark.parametrize(("number", "pooling"), [(0, "mean"), (1, "mean"), (2, "cls"), (3, "lasttoken")])
def test_pooling_is_what_the_file_says(saved: Path, number: int, pooling: str) -> None:
    convert(saved, pooling_type=number)
    assert load_checkpoint(saved).shape.pooling == pooling


def refusal(folder: Path) -> str:
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"attention.head_count": 4}, "num_attention_heads: want 4, as model-F32.gguf says, got 2; take the config.json of the same model"),
        ({"attention.layer_norm_epsilon": 1e-5}, "layer_norm_eps: want 9.99"),
        ({"pooling_type": 4}, "want pooling_type 1, 2, 3, got 4; take the safetensors"),
        ({"architecture": "llama"}, "want general.architecture bert, nomic-bert or modern-bert, got llama; take the model's safetensors"),
        ({"attention.causal": True}, "is_decoder: want True, as model-F32.gguf says, got 0; take"),
        ({"context_length": 64}, "max_position_embeddings: want 64, as model-F32.gguf says, got 128"),
    ],
)  # fmt: skip
def test_what_contradicts_the_file(saved: Path, metadata: dict[str, Any], says: str) -> None:
    convert(saved, **metadata)
    assert says in refusal(saved)


def test_pooling_of_modules_that_contradicts_the_file(saved: Path) -> None:
    convert(saved, pooling_type=2)
    save_modules(saved, pooling={"embedding_dimension": 256, "pooling_mode": "mean"})
    assert "Pooling: want cls, as model-F32.gguf says, got mean; take the same model's modules.json" in refusal(saved)


def test_files_that_are_missing_beside_it(saved: Path) -> None:
    path = convert(saved)
    data = path.read_bytes()
    path.write_bytes(data[:1000])
    assert "want a GGUF file, got" in refusal(saved)
    path.write_bytes(data)
    config = saved / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"model_type": "albert"}))
    assert refusal(saved).endswith(
        "model-F32.gguf: want model_type bert or distilbert or roberta or xlm-roberta or camembert of a bert, got "
        "albert; take the config.json of the same model"
    )
    config.unlink()
    assert refusal(saved).endswith(
        "want config.json and the tokenizer's files beside model-F32.gguf, got no config.json; copy them from the model that it was made of"
    )


def test_a_head_of_heads_that_config_leaves_out_is_compared_too(saved: Path) -> None:
    """transformers would take 12 of them."""
    convert(saved)
    path = saved / "config.json"
    values = json.loads(path.read_text())
    del values["num_attention_heads"]
    path.write_text(json.dumps(values))
    assert "num_attention_heads: want 2, as model-F32.gguf says, got 12" in refusal(saved)


FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "nomic_bert", "modernbert")


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_transformers(tmp_path: Path, kind: str) -> None:
    """The same weights as from safetensors, and what transformers makes of the rewritten file."""
    save_encoder(tmp_path, kind)
    whole = load_checkpoint(tmp_path)
    tokens = small_tokens(whole.shape.types)
    want = huggingface_hidden(whole, tokens)
    convert(tmp_path)
    save_words(tmp_path)
    found = load_checkpoint(tmp_path)
    assert found.shape == whole.shape
    got = forward(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)
    valid = tokens.mask.bool()
    assert (got - want)[valid].abs().max() < 1e-5
    with loadable(found) as (theirs, _):
        assert (huggingface_hidden(theirs, tokens) - want)[valid].abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "labels"), [("roberta", 3), ("xlm-roberta", 1), ("distilbert", 3), ("modernbert", 3)])
def test_classifiers(tmp_path: Path, kind: str, labels: int) -> None:
    """A single row of a classifier's is stored as a list."""
    save_encoder(tmp_path, kind, labels)
    whole = load_checkpoint(tmp_path)
    tokens = small_tokens(whole.shape.types)
    want = huggingface_logits(whole, tokens)
    convert(tmp_path, pooling_type=4)
    save_words(tmp_path)
    found = load_checkpoint(tmp_path)
    assert found.shape == whole.shape
    assert (classify(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask) - want).abs().max() < 1e-5
    with loadable(found) as (theirs, _):
        assert (huggingface_logits(theirs, tokens) - want).abs().max() < 1e-5


def test_a_bert_classifier_has_no_pooler_in_such_a_file(tmp_path: Path) -> None:
    """The converter takes it for BERT's own, which embeddings do not need."""
    save_encoder(tmp_path, "bert", 3)
    convert(tmp_path)
    save_words(tmp_path)
    assert "2 missing parameters: pooler.weight, pooler.bias" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("kind", "metadata", "says"),
    [
        ("nomic_bert", {"rope.freq_base": 5e4}, "rope_theta: want 50000.0, as model-F32.gguf says, got 1000.0"),
        ("nomic_bert", {"rope.scaling.type": "yarn"}, "want rotary positions as they are, got yarn"),
        ("nomic_bert", {"attention.key_length": 8}, "hidden_size / num_attention_heads: want 8, as"),
        ("modernbert", {"rope.freq_base_swa": 5e4}, "rope_theta of local layers: want 50000.0, as"),
        ("modernbert", {"attention.sliding_window": 8}, "local_attention: want 8, as model-F32.gguf says, got"),
        (
            "modernbert",
            {"attention.sliding_window_pattern": 2},
            "layer_types: want local windows as model-F32.gguf has",
        ),
        ("modernbert", {"attention.sliding_window_pattern": [True] * 4}, "layer_types: want local windows as"),
    ],
)
def test_other_angles_than_the_files(tmp_path: Path, kind: str, metadata: dict[str, Any], says: str) -> None:
    save_encoder(tmp_path, kind)
    convert(tmp_path, **metadata)
    save_words(tmp_path)
    assert says in refusal(tmp_path)


def test_windows_layer_by_layer(tmp_path: Path) -> None:
    save_encoder(tmp_path, "modernbert")
    convert(tmp_path, **{"attention.sliding_window_pattern": [False, True, True, False]})
    save_words(tmp_path)
    assert load_checkpoint(tmp_path).shape.windows == (0, 2, 2, 0)


def test_an_adapter_of_such_a_base(tmp_path: Path) -> None:
    """What the file says is compared beside an adapter too."""
    base, own = save_embedding(tmp_path / "base"), tmp_path / "own"
    save_adapter(base, own)
    whole = load_checkpoint(own)
    convert(base)
    assert load_checkpoint(own).sha256 == whole.sha256
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 4}))
    assert "num_attention_heads: want 2, as model-F32.gguf says, got 4" in refusal(own)
