"""Weights in an ONNX graph: the same tensors as in safetensors, whatever the exporter made of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import export_graph
from small_models import save_classifier, save_embedding
from transformers import AutoModelForSequenceClassification

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.checkpoints.weight_files import stored_tensors

onnx = pytest.importorskip("onnx", reason="the extra mpcnet[onnx] is not installed")


def edited(folder: Path, change: Any) -> None:
    path = folder / "model.onnx"
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def refusal(folder: Path) -> str:
    with pytest.raises(LocalConfigError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, str]:
    """A folder, and the digest of the weights before they became a graph."""
    sha256 = load_checkpoint(save_embedding(tmp_path, num_hidden_layers=2)).sha256
    export_graph(tmp_path)
    return tmp_path, sha256


def test_the_exporters_names_are_undone(exported: tuple[Path, str]) -> None:
    folder, sha256 = exported
    names = [each.name for each in onnx.load(folder / "model.onnx").graph.initializer]
    assert sum(name.startswith("onnx::MatMul") for name in names) == 12  # six of each layer, all transposed
    assert load_checkpoint(folder).sha256 == sha256


def test_a_classifier(tmp_path: Path) -> None:
    """Its pooler is a Gemm, whose weight is not transposed."""
    sha256 = load_checkpoint(save_classifier(tmp_path, 3)).sha256
    export_graph(tmp_path, AutoModelForSequenceClassification)
    assert load_checkpoint(tmp_path).sha256 == sha256


def test_weights_without_a_named_bias_are_called_as_their_nodes(exported: tuple[Path, str]) -> None:
    folder, _ = exported

    def forget(graph: Any) -> None:
        for node in graph.node:
            if node.op_type == "Add" and "query" in node.name:
                old = next(name for name in node.input if name.endswith("bias"))
                node.input[list(node.input).index(old)] = f"constant{node.name[-30:]}"

    with stored_tensors(str(folder)) as stored:
        before = set(stored)
    edited(folder, forget)
    with stored_tensors(str(folder)) as stored:
        assert {name for name in stored if "query.weight" in name} == {
            name for name in before if "query.weight" in name
        }


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_types(exported: tuple[Path, str], kind: str) -> None:
    folder, _ = exported
    whole = load_checkpoint(folder).tensors
    number = {"float16": 10, "bfloat16": 16, "float64": 11}[kind]

    def convert(graph: Any) -> None:
        for each in graph.initializer:
            values = torch.from_numpy(onnx.numpy_helper.to_array(each).copy()).to(getattr(torch, kind))
            data = (values.view(torch.int16) if values.itemsize == 2 else values).numpy().tobytes()
            each.CopyFrom(onnx.TensorProto(name=each.name, dims=each.dims, data_type=number, raw_data=data))

    edited(folder, convert)
    for name, value in load_checkpoint(folder).tensors.items():
        assert torch.equal(value, whole[name].to(getattr(torch, kind)).float()), name


def test_data_beside_the_graph(exported: tuple[Path, str]) -> None:
    folder, sha256 = exported
    path = folder / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert load_checkpoint(folder).sha256 == sha256
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-100])
    assert "which is not there or too short; fetch the model again" in refusal(folder)
    for location in ("../model.onnx.data", "/etc/passwd"):

        def move(graph: Any, location: str = location) -> None:
            graph.initializer[0].external_data[0].value = location

        model = onnx.load(path, load_external_data=False)
        move(model.graph)
        path.write_bytes(model.SerializeToString())
        assert f"in a file beside it, got '{location}'" in refusal(folder)


def test_layers_that_are_run_several_times(exported: tuple[Path, str]) -> None:
    """The exporter copies a shared weight for each time; another one of the same bias is none of these."""
    folder, sha256 = exported

    def again(graph: Any, changed: bool) -> None:
        product = next(node for node in graph.node if node.op_type == "MatMul" and "query" in node.name)
        added = next(node for node in graph.node if product.output[0] in node.input)
        weight = next(each for each in graph.initializer if each.name == product.input[1])
        copy = onnx.TensorProto()
        copy.CopyFrom(weight)
        copy.name = "onnx::MatMul_copy"
        if changed:
            copy.raw_data = bytes(len(copy.raw_data))
        bias = next(name for name in added.input if name != product.output[0])
        graph.initializer.append(copy)
        graph.node.append(
            onnx.helper.make_node(
                "MatMul", [product.input[0], copy.name], ["more"], name=product.name.replace("query", "query_1")
            )
        )
        graph.node.append(
            onnx.helper.make_node("Add", [bias, "more"], ["added"], name=added.name.replace("query", "query_1"))
        )

    whole = (folder / "model.onnx").read_bytes()
    edited(folder, lambda graph: again(graph, False))
    assert load_checkpoint(folder).sha256 == sha256
    (folder / "model.onnx").write_bytes(whole)
    edited(folder, lambda graph: again(graph, True))
    assert "1 unknown parameters: wrapped.encoder.layer.0.attention.self.query_1.weight" in refusal(folder)


def test_a_folder_of_its_own(exported: tuple[Path, str]) -> None:
    """As optimum and sentence-transformers save graphs, with data beside them."""
    folder, sha256 = exported
    (folder / "onnx").mkdir()
    model = onnx.load(folder / "model.onnx")
    onnx.save(
        model, folder / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    (folder / "model.onnx").unlink()
    assert load_checkpoint(folder).sha256 == sha256


def test_graphs_that_are_refused(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    path = folder / "model.onnx"
    whole = path.read_bytes()

    def fuse(graph: Any) -> None:
        graph.node[0].domain, graph.node[0].op_type = "com.microsoft", "Attention"

    def quantise(graph: Any) -> None:
        graph.node[0].op_type = "DynamicQuantizeLinear"

    edited(folder, fuse)
    assert refusal(folder).endswith(
        "want operators of ONNX on floats, got com.microsoft.Attention; take the model as torch exports it, neither "
        "optimised nor quantised"
    )
    path.write_bytes(whole)
    edited(folder, quantise)
    assert "want operators of ONNX on floats, got DynamicQuantizeLinear" in refusal(folder)
    path.write_bytes(whole[:-1000])
    assert f"{path}: want an ONNX file, got DecodeError; fetch the model again" in refusal(folder)
    path.write_bytes(whole)
    (folder / "other.onnx").write_bytes(whole)
    path.rename(folder / "one.onnx")
    assert "want one .onnx file, got one.onnx, other.onnx; move all but one elsewhere" in refusal(folder)
