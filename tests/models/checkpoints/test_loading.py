"""Checkpoints as they are read, and everything that is refused."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.formats import calibrate, calibrated
from mpcnet.models.formats.calibrated import Coverage, Kept
from mpcnet.models.private.prepare import other_softmax, prepare, random_tokens
from mpcnet.models.shape import BertShape

SMALL = dict(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
SHAPE = BertShape(layers=2, hidden=8, heads=2, ffn=16, vocab=50, positions=32)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(1)
    BertModel(BertConfig(**SMALL, max_position_embeddings=32)).save_pretrained(tmp_path)
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_half_precision_and_old_names_load(saved):
    whole = load_checkpoint(saved)
    tensors = load_file(saved / "model.safetensors")
    renamed = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma"): value.bfloat16()
        for name, value in tensors.items()
    }
    save_file(renamed | {"bert.embeddings.position_ids": torch.arange(32)}, saved / "model.safetensors")
    half = load_checkpoint(saved)
    assert half.shape == whole.shape == SHAPE
    assert half.sha256 != whole.sha256
    assert all(torch.allclose(half.tensors[name], whole.tensors[name], atol=1e-2) for name in whole.tensors)


def test_unsupported_settings_are_named_all_at_once(saved):
    edit(
        saved,
        hidden_act="mish",
        position_embedding_type="relative_key",
        is_decoder=True,
        add_cross_attention=True,
        problem_type="ranking",
        quantization_config={"bits": 8},
        auto_map={"AutoModel": "code.Model"},
        pruned_heads={"0": [1]},
        architectures=["RobertaModel"],
    )
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(saved)
    for word in (
        "mish", "relative_key", "is_decoder", "add_cross_attention", "problem_type", "quantization_config",
        "auto_map", "pruned_heads", "RobertaModel",
    ):  # fmt: skip
        assert word in str(caught.value), word


def test_unsupported_files_and_parameters_are_named_all_at_once(saved):
    (saved / "adapter_config.json").write_text("{}")
    (saved / "1_Pooling").mkdir()
    (saved / "1_Pooling" / "config.json").write_text('{"pooling_mode_first_tokens": true}')
    tensors = load_file(saved / "model.safetensors")
    tensors["encoder.layer.0.attention.self.query.lora_A.weight"] = torch.zeros(2, 8)
    tensors["encoder.layer.0.output.dense.bias"] = torch.zeros(8, dtype=torch.int8)
    tensors["embeddings.LayerNorm.bias"] = torch.zeros(9)
    del tensors["embeddings.LayerNorm.weight"]
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(saved)
    for word in (
        "adapter_config", "pooling_mode_first_tokens",
        "1 unknown parameters: encoder.layer.0.attention.self.query.lora_A.weight", "missing parameters: embedding.norm.weight",
        "embedding.norm.bias want (8,), got (9,)", "not float: layer0.down.bias I8",
    ):  # fmt: skip
        assert word in str(caught.value), word


def test_the_activation_is_read(saved):
    assert load_checkpoint(saved).shape.activation == "gelu"
    edit(saved, hidden_act="quad")
    assert load_checkpoint(saved).shape == replace(SHAPE, activation="quad")
    edit(saved, hidden_act="silu")
    assert load_checkpoint(saved).shape == replace(SHAPE, activation="silu")
    with pytest.raises(LocalConfigError, match=r"activation: want gelu or .* or quad, got 'mish'"):
        replace(SHAPE, activation="mish")


def test_a_students_own_softmax_is_the_default(saved, tmp_path):
    checkpoint = load_checkpoint(saved)
    assert checkpoint.softmax is None
    tokens = random_tokens(checkpoint, 4, 8)
    file = tmp_path / "ranges.json"
    ranges = calibrate.calibrate(checkpoint.shape, fold(checkpoint), [tokens], checkpoint.sha256)
    calibrated.write(Kept(ranges, Coverage(8, "by hand")), file)
    assert prepare(str(saved), "fast", length=8, calibration_file=file).config.formats.softmax == "exact"
    edit(saved, softmax="2relu")
    own, other = (prepare(str(saved), "fast", softmax, 8, file) for softmax in (None, "2quad"))
    assert (own.config.formats.softmax, other.config.formats.softmax) == ("2relu", "2quad")
    assert other_softmax(own.checkpoint, own.config) == ""
    assert "were trained with 2relu softmax, and are run with 2quad" in other_softmax(other.checkpoint, other.config)
    edit(saved, softmax="hard")
    with pytest.raises(LocalConfigError, match="softmax: want exact or 2quad or 2relu, got hard"):
        load_checkpoint(saved)


def test_labels_are_named(tmp_path):
    config = BertConfig(**SMALL, max_position_embeddings=32, id2label={0: "bad", 1: "good", 2: "neither"})
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path).labels == ("bad", "good", "neither")
    edit(tmp_path, id2label={"0": "bad"})
    assert load_checkpoint(tmp_path).labels == ("bad", "LABEL_1", "LABEL_2")


def test_missing_files(tmp_path, saved):
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "absent"):
        with pytest.raises(LocalConfigError, match=r"holds config\.json"):
            load_checkpoint(folder)
    (saved / "model.safetensors").unlink()
    with pytest.raises(LocalConfigError, match=r"holds model\.safetensors"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "want JSON"),
        ("config.json", "[]", "want a JSON object, got a list"),
        ("model.safetensors", "not a tensor", "want a safetensors file"),
    ],
)
def test_damaged_files(saved, name, content, message):
    (saved / name).write_text(content)
    with pytest.raises(LocalConfigError, match=message):
        load_checkpoint(saved)


def test_configuration_with_fewer_layers_than_the_file(saved):
    edit(saved, num_hidden_layers=1)
    with pytest.raises(LocalConfigError, match=r"16 parameters the configuration does not have: layer1\."):
        load_checkpoint(saved)


def test_weights_that_are_not_finite(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"][3] = torch.nan
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(LocalConfigError, match=r"got inf or nan in layer1\.down\.bias"):
        load_checkpoint(saved)
