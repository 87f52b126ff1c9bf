"""Runs an ONNX graph of a stranger's in a process of its own, which may take so much memory and time and no more.

    python -P -m mpcnet.models.float_model.graph_child < REQUEST

The request is JSON: the graph's path, the files of its data by the names that it has for them, its inputs, where the
results go, and the limits. What is refused is said on the standard error, in one line.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_RESULTS = 16  # outputs of a graph: hidden states of all layers, at most, are left out


def main() -> int:
    request = json.loads(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"],) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _run(request)
    except MemoryError:
        print("one that needs more memory", file=sys.stderr)
        return 1
    except Exception as error:  # whatever numpy and the evaluator raise
        print(f"{type(error).__name__}: {error}".replace("\n", " ")[:200], file=sys.stderr)
        return 1
    return 0


def _run(request: Mapping[str, Any]) -> None:
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    from mpcnet.models.checkpoints.onnx_limits import bounded

    model = bounded(Path(request["graph"]))
    inputs = {name: np.array(values, kind) for name, (values, kind) in request["inputs"].items()}
    _look(model, inputs, request["largest"])
    _load(model, request["files"])
    found = ReferenceEvaluator(model).run(None, inputs)
    arrays = [value for value in found if isinstance(value, np.ndarray) and value.dtype.kind == "f"][:MOST_RESULTS]
    np.savez(request["results"], *(value.astype(np.float32) for value in arrays))


def _look(model: Any, inputs: Mapping[str, Any], largest: int) -> None:
    """Refuse a graph of which some tensor is known to be larger than any that a model needs.

    :raises ValueError: there is one.
    """
    import onnx
    from numpy import prod

    from mpcnet.models.checkpoints.onnx_limits import ITEM_BYTES

    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    large = [each for each in graph.initializer if prod(each.dims, dtype=object) > 1 << 10]
    for given in graph.input:
        if given.name in inputs:
            sides = given.type.tensor_type.shape.dim
            del sides[:]
            for side in inputs[given.name].shape:
                sides.add().dim_value = side
    names = {given.name for given in graph.input}
    for tensor in large:  # sizes of weights are enough
        if tensor.name not in names:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    kept = [each for each in graph.initializer if not any(each is other for other in large)]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    known = onnx.shape_inference.infer_shapes(small, data_prop=True).graph
    for value in [*known.value_info, *known.output]:
        kind = value.type.tensor_type
        sides = [side.dim_value if side.HasField("dim_value") else 1 for side in kind.shape.dim]
        size = int(prod(sides, dtype=object)) * ITEM_BYTES.get(kind.elem_type, 1)
        if size > largest:
            raise ValueError(f"{value.name[:40]!r} of {size} bytes")


def _load(model: Any, files: Mapping[str, Any]) -> None:
    """Data that lie beside the graph, from the files that were found for them."""
    from mpcnet.models.checkpoints.onnx_limits import EXTERNAL, external, tensors_of

    for tensor in tensors_of(model.graph):
        if tensor.data_location == EXTERNAL:
            found = {name: Path(path) for name, path in files.items()}
            path, offset, count = external(Path(), tensor, found.get)
            with path.open("rb") as file:
                file.seek(offset)
                tensor.raw_data = file.read(count)
            del tensor.external_data[:]
            tensor.data_location = 0


if __name__ == "__main__":
    sys.exit(main())
