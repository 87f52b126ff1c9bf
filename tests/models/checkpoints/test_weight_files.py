"""A checkpoint's weights, in whatever files they lie: the same tensors, or an error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.weight_files import stored_tensors

SIZES = dict(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    return tmp_path


def test_shards(saved: Path) -> None:
    whole = load_checkpoint(saved).sha256
    BertModel.from_pretrained(saved).save_pretrained(saved / "shards", max_shard_size="8KB")
    assert len(list((saved / "shards").glob("model-*.safetensors"))) > 2
    assert load_checkpoint(saved / "shards").sha256 == whole
    index = saved / "shards" / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    name = "embeddings.LayerNorm.bias"
    for changed, where in (
        ({"more": values["weight_map"][name]}, "more in the index alone"),
        ({}, f"{name} in a file alone"),
    ):
        others = {key: file for key, file in values["weight_map"].items() if changed or key != name}
        index.write_text(json.dumps(values | {"weight_map": others | changed}))
        with pytest.raises(
            LocalConfigError, match=f"want the tensors of its files, got {where}; fetch the model again"
        ):
            load_checkpoint(saved / "shards")
    index.write_text(json.dumps(values))
    next((saved / "shards").glob("model-00002-*")).unlink()
    with pytest.raises(
        LocalConfigError, match=r"want all of its files beside it, got no model-00002-.*; fetch the model"
    ):
        load_checkpoint(saved / "shards")


def to_bin(folder: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return {name: value.clone() for name, value in tensors.items()}


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before torch 1.6"])
def test_pytorchs_own_format(saved: Path, archive: bool) -> None:
    whole = load_checkpoint(saved).sha256
    tensors = to_bin(saved)
    for values in (tensors, {"epoch": 3, "state_dict": tensors}):
        torch.save(values, saved / "pytorch_model.bin", _use_new_zipfile_serialization=archive)
        assert load_checkpoint(saved).sha256 == whole


def test_shards_of_pytorchs_own_format(saved: Path) -> None:
    whole = load_checkpoint(saved).sha256
    tensors = to_bin(saved)
    names = sorted(tensors)
    parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, chosen in parts.items():
        torch.save({name: tensors[name] for name in chosen}, saved / file)
    weight_map = {name: file for file, chosen in parts.items() for name in chosen}
    index = saved / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert load_checkpoint(saved).sha256 == whole
    torch.save(tensors, saved / "pytorch_model-2.bin")
    with pytest.raises(LocalConfigError, match=r"want each tensor in one file, got .* in two"):
        load_checkpoint(saved)
    for outside in ("../pytorch_model-1.bin", "pytorch_model-1.pt"):
        index.write_text(json.dumps({"weight_map": weight_map | {names[0]: outside}}))
        with pytest.raises(LocalConfigError, match="want all of its files beside it"):
            load_checkpoint(saved)
    index.write_text('{"weight_map": ["a"]}')
    with pytest.raises(LocalConfigError, match="want a weight_map of tensors and files"):
        load_checkpoint(saved)


class Stranger:
    """What a pickle may bring: its bytes say what to call when they are read."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("called-by-a-pickle"),)


def test_no_code_of_a_pickle_is_run(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved)
    torch.save(to_bin(saved) | {"more": Stranger()}, saved / "pytorch_model.bin")
    with pytest.raises(
        LocalConfigError, match=r"want tensors alone, .* might run code; save the model by save_pretrained"
    ):
        load_checkpoint(saved)
    assert not (saved / "called-by-a-pickle").exists()


@pytest.mark.parametrize(
    ("content", "says"), [(b"no weights", "want tensors alone, got another file"), (b"", "want a file of torch.save")]
)
def test_damaged_pytorch_files(saved: Path, content: bytes, says: str) -> None:
    to_bin(saved)
    (saved / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(saved)


def test_other_things_than_tensors(saved: Path) -> None:
    torch.save(to_bin(saved) | {"step": 3}, saved / "pytorch_model.bin")
    with pytest.raises(LocalConfigError, match="want tensors by name and nothing else"):
        load_checkpoint(saved)


def test_a_file_that_is_cut_off(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LocalConfigError, match=r"want a safetensors file, got .*; fetch the model again"):
        load_checkpoint(saved)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_float_types(saved: Path, kind: torch.dtype, suffix: str) -> None:
    want = {name: value.to(kind) for name, value in load_file(saved / "model.safetensors").items()}
    if suffix == "bin":
        (saved / "model.safetensors").unlink()
        torch.save(want, saved / "pytorch_model.bin")
    else:
        save_file(want, saved / "model.safetensors")
    found = load_checkpoint(saved).tensors
    assert torch.equal(found["embedding.word.weight"], want["embeddings.word_embeddings.weight"].float())


def test_other_types(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    for kind, shown in ((torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")):
        save_file(
            tensors
            | {
                "pooler.dense.bias": tensors["pooler.dense.bias"],
                "embeddings.LayerNorm.bias": torch.zeros(16).to(kind),
            },
            saved / "model.safetensors",
        )
        with pytest.raises(LocalConfigError, match=f"1 not float: embedding.norm.bias {shown}; save them as float32"):
            load_checkpoint(saved)


@pytest.mark.parametrize(
    "name",
    [
        "consolidated.pt",
        "model-00001-of-00002.safetensors",
        "adapter_model.safetensors",
        "model.fp16.safetensors",
        "head.bin",
    ],
)
def test_weights_that_nobody_reads(saved: Path, name: str) -> None:
    """Not in silence: the answer might need them."""
    (saved / name).touch()
    with pytest.raises(
        LocalConfigError, match=f"{name}: want weights in model.safetensors alone, got this file beside it"
    ):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "name",
    [
        "tf_model.h5",
        "pytorch_model.bin",
        "rust_model.ot",
        "optimizer.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "model.onnx",
        "a.gguf",
    ],
)
def test_other_forms_of_the_same_weights(saved: Path, name: str) -> None:
    (saved / name).touch()
    assert load_checkpoint(saved).shape.hidden == 16


def test_safetensors_come_first(saved: Path) -> None:
    torch.save({}, saved / "pytorch_model.bin")
    with stored_tensors(str(saved)) as found:
        assert found["embeddings.LayerNorm.weight"].size == (16,)
        assert found["embeddings.LayerNorm.weight"].type == "F32"
