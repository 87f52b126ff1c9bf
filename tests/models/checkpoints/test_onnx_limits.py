"""Graphs that mean no good: each is refused in one line, before it takes memory or time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import onnx_limits
from mpcnet.models.checkpoints.onnx_limits import bounded
from mpcnet.models.float_model import graph
from mpcnet.models.float_model.graph import run_graph

onnx = pytest.importorskip("onnx", reason="the extra mpcnet[onnx] is not installed")
INPUTS = {"input_ids": torch.ones(1, 9, dtype=torch.int64)}


def save(path: Path, nodes: list[Any], *, functions: list[Any] | None = None, weights: list[Any] | None = None) -> Path:
    """A graph of these nodes from "input_ids" to "y"."""
    given = onnx.helper.make_tensor_value_info("input_ids", 7, ["batch", "sequence"])
    made = onnx.helper.make_tensor_value_info("y", 1, None)
    whole = onnx.helper.make_graph(nodes, "g", [given], [made], weights or [])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
    model = onnx.helper.make_model(whole, functions=functions or [], opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def node(kind: str, inputs: list[str], output: str, **more: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, [output], **more)


def constant(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(torch.tensor(values).numpy(), name)


def refusal(path: Path, seconds: int = 60) -> str:
    with pytest.raises(LocalConfigError) as caught:
        run_graph(path, bounded(path), INPUTS, lambda name: None, seconds)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; take the model as torch exports it")
    return str(caught.value)


def test_a_graph_that_means_well(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [node("Cast", ["input_ids"], "y", to=1)])
    (found,) = run_graph(path, bounded(path), INPUTS, lambda name: None)
    assert found.tolist() == [[1.0] * 9]


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand"])
def test_a_value_of_known_size_that_is_too_large(tmp_path: Path, kind: str) -> None:
    size = constant("size", [1 << 20, 1 << 16])
    inputs = ["size"] if kind == "ConstantOfShape" else ["one", "size"]
    weights = [size, constant("one", [1.0])]
    path = save(tmp_path / "a.onnx", [node(kind, inputs, "y")], weights=weights)
    assert "got ValueError: 'y' of 274877906944 bytes" in refusal(path)


def test_a_value_that_grows_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is known to nobody before: the number of positions, nine times."""
    nodes = [node("NonZero", ["input_ids"], "places"), node("Cast", ["places"], "x0", to=1)]
    for i in range(40):
        nodes.append(node("Concat", [f"x{i}", f"x{i}"], f"x{i + 1}", axis=1))
    monkeypatch.setattr(graph, "BASE_BYTES", 1 << 30)
    path = save(tmp_path / "a.onnx", [*nodes, node("Identity", ["x40"], "y")])
    assert "got one that needs more memory" in refusal(path)


def test_a_graph_that_takes_too_long(tmp_path: Path) -> None:
    """By the time of its own processor, so it does not matter what else that does."""
    nodes = [node("NonZero", ["input_ids"], "places"), node("Cast", ["places"], "x", to=1)]
    nodes += [
        node("Tile", ["x", "times"], "wide"),
        node("Transpose", ["wide"], "tall"),
        node("MatMul", ["tall", "wide"], "z0"),
    ]
    nodes += [node("MatMul", [f"z{i}", f"z{i}"], f"z{i + 1}") for i in range(300)]
    path = save(tmp_path / "a.onnx", [*nodes, node("Identity", ["z300"], "y")], weights=[constant("times", [1, 200])])
    assert "got one that takes over 2 s" in refusal(path, 2)


@pytest.mark.parametrize("inside", [False, True])
def test_a_loop_that_never_ends(tmp_path: Path, inside: bool) -> None:
    true = onnx.helper.make_tensor_value_info("true", 9, [])
    body = onnx.helper.make_graph(
        [node("Identity", ["also"], "true")], "body",
        [onnx.helper.make_tensor_value_info("i", 7, []), onnx.helper.make_tensor_value_info("also", 9, [])], [true],
    )  # fmt: skip
    loop = onnx.helper.make_node("Loop", ["", "yes"], ["y"], body=body)
    if inside:
        branch = onnx.helper.make_graph([loop], "branch", [], [onnx.helper.make_tensor_value_info("y", 1, None)])
        loop = onnx.helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    path = save(tmp_path / "a.onnx", [loop], weights=[constant("yes", True)])
    assert "want a graph without loops, got Loop" in refusal(path)


def doubling(levels: int, *, closed: bool = False) -> list[Any]:
    """Functions of which each calls the next one twice, and the last one the first if they are closed."""
    found = []
    for i in range(levels):
        called, domain = (f"f{i + 1}", "f") if i + 1 < levels else ("f0", "f") if closed else ("Identity", "")
        nodes = [node(called, ["a"], "b", domain=domain), node(called, ["b"], "c", domain=domain)]
        opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
        found.append(onnx.helper.make_function("f", f"f{i}", ["a"], ["c"], nodes, opsets))
    return found


def test_functions_that_double(tmp_path: Path) -> None:
    call = [node("Cast", ["input_ids"], "x", to=1), node("f0", ["x"], "y", domain="f")]
    path = save(tmp_path / "a.onnx", call, functions=doubling(3))
    assert len(bounded(path).graph.node) == 9
    assert "want up to 100000 nodes of 1000000 inputs and outputs, got more" in refusal(
        save(path, call, functions=doubling(60))
    )
    assert "want functions that do not call themselves, got f0" in refusal(
        save(path, call, functions=doubling(3, closed=True))
    )


def test_many_nodes_and_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.onnx", [node("Cast", ["input_ids"], "y", to=1, name="a." * 600)])
    assert "want names of up to 1000 characters, got a longer one" in refusal(path)
    monkeypatch.setattr(onnx_limits, "NODES", 3)
    path = save(path, [node("Cast", ["input_ids"], "y", to=1)] * 4)
    assert "want up to 3 nodes of" in refusal(path)
    monkeypatch.setattr(onnx_limits, "FILE_BYTES", 10)
    assert "with its data beside it, got a larger one" in refusal(path)


def test_weights_that_are_too_many(tmp_path: Path) -> None:
    weight = constant("w", [1.0])
    weight.dims[:] = [1 << 20, 1 << 20]
    path = save(tmp_path / "a.onnx", [node("Identity", ["w"], "y")], weights=[weight])
    assert "want tensors of up to 16 GiB, got 4096" in refusal(path)
    weight.dims[:] = [-1, 1]
    assert "want sizes from 0, got [-1, 1] of w" in refusal(
        save(path, [node("Identity", ["w"], "y")], weights=[weight])
    )


@pytest.mark.parametrize("location", ["../data", "/etc/passwd", "sub/../../data", "other"])
def test_data_elsewhere(tmp_path: Path, location: str) -> None:
    """Of a constant inside a node too, which is no weight."""
    (tmp_path / "data").write_bytes(bytes(400))
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = onnx.TensorProto(name="w", dims=[100], data_type=1, data_location=1)
    tensor.external_data.add(key="location", value=location)
    path = save(folder / "a.onnx", [node("Constant", [], "y", value=tensor)])

    def find(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    with pytest.raises(LocalConfigError, match=r"want the data of w in a file beside it, got '.*', which is not there"):
        run_graph(path, bounded(path), INPUTS, find)
    tensor.external_data[0].value = "data"
    (folder / "data").write_bytes(bytes(400))
    path = save(folder / "a.onnx", [node("Constant", [], "y", value=tensor)])
    (found,) = run_graph(path, bounded(path), INPUTS, find)
    assert found.shape == (100,)
