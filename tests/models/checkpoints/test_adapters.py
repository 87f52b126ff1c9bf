"""LoRA adapters: merged as PEFT merges them, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import QUERY, export_graph, save_adapter
from safetensors.torch import load_file
from small_models import save_embedding, save_words
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.private.prepare import checkpoint, tokenizer_source

WORDS = "embeddings.word_embeddings"
TEXTS = ["the dog eats the cat", "good old ship"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_embedding(tmp_path / "base")


def base_weight(base: Path, name: str) -> Tensor:
    return load_file(base / "model.safetensors")[name].double()


def refusal(folder: Path) -> str:
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / 3**0.5),
        ({"alpha_pattern": {"query": 9}}, 3.0),
        ({"alpha_pattern": {r"layer.1.attention.self.query": 9}}, 2.0),
        ({"r": 8, "rank_pattern": {r".*\.query": 3}}, 2.0),
    ],
)
def test_the_product_is_added(base: Path, tmp_path: Path, settings: dict[str, Any], scale: float) -> None:
    factors = save_adapter(base, tmp_path / "own", **settings)
    found = load_checkpoint(tmp_path / "own")
    down, up = (factors[f"{QUERY}.lora_{x}.weight"].double() for x in "AB")
    want = base_weight(base, f"{QUERY}.weight") + scale * up @ down
    assert torch.equal(found.tensors["layer0.query.weight"], want.float())
    whole = load_checkpoint(base)
    assert all(
        torch.equal(value, whole.tensors[name])
        for name, value in found.tensors.items()
        if name != "layer0.query.weight"
    )
    assert found.source == str(base) and found.preprocessing == whole.preprocessing  # the tokenizer is the base's


def test_weights_beside_the_adapter_are_its_base(base: Path) -> None:
    """Whatever name of a base it has: as transformers reads such a folder."""
    before = load_checkpoint(base)
    save_adapter(Path("somewhere/else"), base)
    assert not torch.equal(load_checkpoint(base).tensors["layer0.query.weight"], before.tensors["layer0.query.weight"])


def test_tables_biases_and_transposed_weights(base: Path, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(4)
    table = [torch.randn(3, 92, generator=draw), torch.randn(32, 3, generator=draw)]
    linear = [torch.randn(3, 64, generator=draw), torch.randn(32, 3, generator=draw)]
    up = "encoder.layer.0.intermediate.dense"  # [64, 32] in the file, taken for [in, out]
    more, key = torch.randn(64, generator=draw), torch.randn(32, generator=draw)
    tensors = {
        f"{WORDS}.lora_embedding_A": table[0], f"{WORDS}.lora_embedding_B": table[1],
        f"{up}.lora_A.weight": linear[0], f"{up}.lora_B.weight": linear[1], f"{up}.lora_B.bias": more,
        "encoder.layer.0.attention.self.key.bias": key,
    }  # fmt: skip
    save_adapter(base, tmp_path / "own", tensors, fan_in_fan_out=True, lora_bias=True, bias="all")
    found = load_checkpoint(tmp_path / "own").tensors
    for name, theirs, (down, top) in (("embedding.word", WORDS, table), ("layer0.up", up, linear)):
        want = base_weight(base, f"{theirs}.weight") + 2 * (top.double() @ down.double()).T
        assert torch.equal(found[f"{name}.weight"], want.float()), name
    assert torch.equal(found["layer0.up.bias"], (base_weight(base, f"{up}.bias") + 2 * more.double()).float())
    assert torch.equal(found["layer0.key.bias"], key)


def test_a_classifier_trained_on_an_encoder(base: Path, tmp_path: Path) -> None:
    """The head is the adapter's; its names begin with "bert.", the base's do not."""
    draw = torch.Generator().manual_seed(5)
    shapes = {
        f"bert.{QUERY}.lora_A.weight": (3, 32),
        f"bert.{QUERY}.lora_B.weight": (32, 3),
        "classifier.weight": (3, 32),
        "classifier.bias": (3,),
    }
    tensors = {name: torch.randn(size, generator=draw) for name, size in shapes.items()}
    save_adapter(base, tmp_path / "own", tensors, task_type="SEQ_CLS", modules_to_save=["classifier"])
    found = load_checkpoint(tmp_path / "own")
    assert (found.shape.head, found.shape.labels) == ("classification", 3)
    assert torch.equal(found.tensors["classifier.weight"], tensors["classifier.weight"])
    theirs = published(found)
    assert theirs.by == "transformers, of model.safetensors as it is read here" and theirs(TEXTS).shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora: want none, got True; merge it by PEFT's merge_and_unload"),
        ({"peft_type": "IA3"}, "peft_type: want LORA, got IA3; merge it"),
        (
            {"init_lora_weights": "pissa"},
            "init_lora_weights: want one that leaves the base as it is, got pissa; merge it",
        ),
        (
            {"layer_replication": [[0, 1], [0, 1]]},
            r"layer_replication: want none, got \[\[0, 1\], \[0, 1\]\]; merge it",
        ),
        ({"r": 4}, f"want rank 4 and a lora_alpha for {QUERY}, got 3 and 6; take the adapter_config.json"),
        ({"alpha_pattern": {"(": 3}}, "want patterns of names, got missing .*; correct adapter_config"),
        ({"base_model_name_or_path": None}, "want base_model_name_or_path, got None; put the base's folder there"),
        ({"base_model_name_or_path": "/no/such/model"}, "/no/such/model: want a directory or hub name that holds"),
    ],
)
def test_other_adapters_are_refused(base: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    save_adapter(base, tmp_path / "own", **settings)
    with pytest.raises(LocalConfigError, match=says):
        load_checkpoint(tmp_path / "own")


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    save_adapter(
        base,
        own,
        {"layers.0.q_proj.lora_A.weight": torch.zeros(3, 32), "layers.0.q_proj.lora_B.weight": torch.zeros(32, 3)},
    )
    assert "want one layers.0.q_proj.weight in the base" in refusal(own)
    save_adapter(
        base, own, {f"{QUERY}.lora_A.weight": torch.zeros(3, 64), f"{QUERY}.lora_B.weight": torch.zeros(32, 3)}
    )
    assert "whose product is [32, 32], got [(32, 3), (3, 64)]" in refusal(own)
    save_adapter(
        base, own, {f"{QUERY}.lora_A.weight": torch.zeros(3, 32), f"{QUERY}.lora_magnitude_vector": torch.zeros(32)}
    )
    assert "want lora_A and lora_B, got" in refusal(own)
    (own / "adapter_model.safetensors").unlink()
    assert "that holds adapter_model.safetensors or adapter_model.bin, got none" in refusal(own)
    save_adapter(base, own)
    (own / "config.json").write_text('{"model_type": "bert", "hidden_size": 64}')
    assert "want hidden_size 32, as the adapter's base" in refusal(own)
    (own / "config.json").unlink()
    (base / "modules.json").write_text("[]")
    assert "modules.json: want one beside the adapter, as its base" in refusal(own)


def test_an_adapter_is_prepared_with_the_tokenizer_beside_it(base: Path, tmp_path: Path) -> None:
    save_adapter(base, tmp_path / "own")
    save_words(tmp_path / "own")
    found = checkpoint(str(tmp_path / "own"))
    assert found.source == tokenizer_source(str(tmp_path / "own")) == str(tmp_path / "own")
    assert tokenizer_source(str(base)) == str(base)


def test_a_graph_is_no_base(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra mpcnet[onnx] is not installed")
    save_adapter(base, tmp_path / "own")
    export_graph(base)
    with pytest.raises(LocalConfigError, match="want the base of an adapter as safetensors, got a graph"):
        checkpoint(str(tmp_path / "own"))


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_itself(base: Path, tmp_path: Path, rslora: bool) -> None:
    """An adapter that PEFT trained and saved, read here and merged there."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    settings = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=5, use_rslora=rslora, target_modules=["query", "value", "dense", "word_embeddings"],
        init_lora_weights=False, rank_pattern={"value": 2}, alpha_pattern={"intermediate.dense": 9}, modules_to_save=["classifier"],
        bias="all",
    )  # fmt: skip
    tuned = peft.get_peft_model(model, settings)
    tuned.save_pretrained(tmp_path / "own")
    save_words(tmp_path / "own")
    found = load_checkpoint(tmp_path / "own")
    tuned.double().merge_and_unload().save_pretrained(tmp_path / "merged")
    save_words(tmp_path / "merged")
    want = load_checkpoint(tmp_path / "merged")
    assert found.shape == want.shape and found.source == str(tmp_path / "own")
    for name, value in want.tensors.items():
        assert (found.tensors[name] - value).abs().max() < 1e-6, name
    assert (published(found)(TEXTS) - published(want)(TEXTS)).abs().max() < 1e-5
