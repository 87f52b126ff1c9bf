"""What an ONNX graph computes, held against what config.json says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from exported import export_graph
from small_models import save_embedding, save_head

from mpcnet.errors import LocalConfigError
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.private.prepare import checkpoint

onnx = pytest.importorskip("onnx", reason="the extra mpcnet[onnx] is not installed")
TEXTS = ["the dog eats the cat", "good old ship"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_embedding(tmp_path_factory.mktemp("exported"), num_hidden_layers=2)
    export_graph(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [{"num_attention_heads": 4}, {"layer_norm_eps": 1e-3}, {"hidden_act": "quad"}],
    ids=lambda change: next(iter(change)),
)
def test_another_configuration_is_refused(exported: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """None of these can be told from the weights."""
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert checkpoint(str(tmp_path)).shape.layers == 2
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(LocalConfigError, match=r"want the graph to compute what config\.json says, got a difference"):
        checkpoint(str(tmp_path))


def test_a_tanh_gelu_is_told_from_the_erf_form(tmp_path: Path) -> None:
    save_embedding(tmp_path, num_hidden_layers=2, hidden_act="gelu_new")
    export_graph(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "gelu"}))
    with pytest.raises(LocalConfigError, match=r"want the graph to compute what config\.json says"):
        checkpoint(str(tmp_path))


def test_other_inputs_and_outputs_are_refused(exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    graph = tmp_path / "model.onnx"
    model = onnx.load(graph)
    model.graph.output[0].name = model.graph.output[1].name
    onnx.save(model, graph)
    with pytest.raises(LocalConfigError, match=r"want hidden states or logits of \[1, 9, 32\] for 9 tokens, got"):
        checkpoint(str(tmp_path))
    model = onnx.load(exported / "model.onnx")
    model.graph.input[0].name = "pixel_values"
    onnx.save(model, graph)
    with pytest.raises(LocalConfigError, match="as inputs, got pixel_values; export the model with these"):
        checkpoint(str(tmp_path))


def test_the_published_model_is_rewritten_for_transformers(exported: Path, tmp_path: Path) -> None:
    save_embedding(tmp_path, num_hidden_layers=2)
    theirs, mine = published(checkpoint(str(tmp_path))), published(checkpoint(str(exported)))
    assert mine.by == "transformers, of model.onnx as it is read here"
    assert torch.equal(mine(TEXTS), theirs(TEXTS))
    assert (exported / "model.onnx").is_file() and not (exported / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_heads(tmp_path: Path, kind: str) -> None:
    """Of an answer's logits; transformers draws none of them anew."""
    save_head(tmp_path, getattr(transformers, f"BertFor{kind}"), num_labels=2)
    before = published(checkpoint(str(tmp_path)))(TEXTS[:1])
    export_graph(tmp_path, getattr(transformers, f"AutoModelFor{kind}"))
    found = checkpoint(str(tmp_path))
    assert found.shape.head != "embedding" and torch.equal(published(found)(TEXTS[:1]), before)
