"""Weights in a GGUF file, as llama.cpp's converter writes a BERT: dequantised, and held against config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentences import save_modules
from small_models import save_embedding, save_words

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import gguf_file
from mpcnet.models.checkpoints.weights import load_checkpoint
from mpcnet.models.float_model.huggingface import published

gguf = pytest.importorskip("gguf", reason="the extra mpcnet[gguf] is not installed")
METADATA = {
    "block_count": 1, "context_length": 128, "embedding_length": 256, "feed_forward_length": 256, "attention.head_count": 2,
    "attention.layer_norm_epsilon": 1e-12,
}  # fmt: skip


def convert(folder: Path, kind: str = "F32", *, architecture: str = "bert", **metadata: Any) -> Path:
    """Matrices in this type, the rest as float32; names by gguf's own map. The safetensors go away."""
    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 1)
    path, safe = folder / f"model-{kind}.gguf", folder / "model.safetensors"
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in (METADATA | metadata).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    for name, value in load_file(safe).items():
        if name.startswith("pooler."):  # the converter leaves it out
            continue
        values = value.numpy()
        stored = gguf.GGMLQuantizationType[kind if value.ndim == 2 else "F32"]
        data = values if stored == gguf.GGMLQuantizationType.F32 else quantised(values, stored)
        writer.add_tensor(known.get_name(name, (".weight", ".bias")), data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    safe.unlink()
    return path


def quantised(values: Any, kind: Any) -> Any:
    """gguf has no encoder for K-quants; any bytes are one, and these are small and differ."""
    if kind.name != "Q4_K":
        return gguf.quants.quantize(values, kind)
    shape = gguf.quant_shape_to_byte_shape(values.shape, kind)
    blocks = np.random.default_rng(3).integers(0, 64, (int(np.prod(shape)) // 144, 144), dtype=np.uint8)
    blocks[:, :4] = np.frombuffer(np.array([2e-4, 1e-4], np.float16).tobytes(), np.uint8)
    return blocks.reshape(shape)


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
        ({"architecture": "llama"}, "want general.architecture bert, got llama; take the model's safetensors"),
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
    values = json.loads(config.read_text()) | {"model_type": "roberta"}
    assert list(gguf_file.differences(path, values)) == [
        "model-F32.gguf: want model_type bert, got roberta; take the model's safetensors"
    ]
    config.unlink()
    assert refusal(saved).endswith(
        "want config.json and the tokenizer's files beside model-F32.gguf, got no config.json; copy them from the model that it was made of"
    )


def test_a_file_without_a_tokenizer_is_no_model_for_texts(saved: Path) -> None:
    convert(saved)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (saved / name).unlink(missing_ok=True)
    assert (
        "model-F32.gguf: want a tokenizer's files beside it (tokenizer.json, or vocab.txt, ...), got none; copy them"
        in refusal(saved)
    )
    save_words(saved)
    assert load_checkpoint(saved).preprocessing is not None
