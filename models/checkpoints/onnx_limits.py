"""Bounds on an ONNX graph of a stranger's: what it may hold, before anything is made of it.

A small file may ask for much: functions that call each other double their nodes with each level, a loop need not end,
and a tensor may have its data anywhere. What is counted here needs no more than the file's own bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.source import is_below

FILE_BYTES = 2 << 30  # protobuf's own limit
NODES, EDGES = 100_000, 1_000_000  # with those of functions and branches; torch exports 90 and 300 a layer
NAME = 1000  # characters
WEIGHT_BYTES = 16 << 30  # of all tensors together: four billion weights
EXTERNAL = 1  # TensorProto's data_location
ITEM_BYTES: Mapping[int, int] = {  # TensorProto's types that evaluators compute with
    1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2,
}  # fmt: skip
ENDLESS = ("Loop", "Scan", "SequenceMap")
REMEDY = "take the model as torch exports it"


def bounded(path: Path) -> Any:
    """The model in a file, its functions inlined, without data that lie elsewhere.

    :raises LocalConfigError: it is no ONNX file, or beyond a limit.
    """
    import onnx  # an extra
    from onnx.inliner import inline_local_functions

    if path.stat().st_size > FILE_BYTES:
        raise _beyond(path, f"a graph of up to {FILE_BYTES >> 30} GiB, with its data beside it", "a larger one")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has its own
        got = type(error).__name__
        raise LocalConfigError(f"{path}: want an ONNX file, got {got}; fetch the model again") from error
    _count(path, model)
    size = sum(_bytes(path, tensor) for tensor in tensors_of(model.graph))
    if size > WEIGHT_BYTES:
        raise _beyond(path, f"tensors of up to {WEIGHT_BYTES >> 30} GiB", f"{size / (1 << 30):.0f}")
    try:
        return inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise _beyond(path, "functions that can be put in place", type(error).__name__) from error


def tensors_of(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph: initialisers, and constants in nodes, of branches too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for sparse in [
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                *attribute.sparse_tensors,
            ]:
                yield from (sparse.values, sparse.indices)
            for branch in _branches(attribute):
                yield from tensors_of(branch)


def external(path: Path, tensor: Any, beside: Callable[[str], Path | None]) -> tuple[Path, int, int]:
    """File, first byte and count of bytes of a tensor whose data lie beside the graph, or below it.

    :raises LocalConfigError: the graph names another place, or the file is not there or too short.
    """
    facts = {entry.key: entry.value for entry in tensor.external_data}
    name, start, count = facts.get("location", ""), facts.get("offset", "0"), _bytes(path, tensor)
    data = beside(name) if name and is_below(name) else None
    offset = int(start) if start.isdecimal() else -1
    if data is None or offset < 0 or data.stat().st_size < offset + count:
        raise LocalConfigError(
            f"{path}: want the data of {tensor.name} in a file beside it, got {name!r}, which is not there or too "
            "short; fetch the model again"
        )
    return data, offset, count


def _count(path: Path, model: Any) -> None:
    """:raises LocalConfigError: there are more nodes or names than a model needs, or a loop."""
    functions = {(function.domain, function.name): function for function in model.functions}
    known: dict[tuple[str, str], tuple[int, int]] = {}

    def weigh(nodes: Iterable[Any], above: tuple[tuple[str, str], ...]) -> tuple[int, int]:
        count = edges = 0
        for node in nodes:
            if node.op_type in ENDLESS:
                raise _beyond(path, "a graph without loops", node.op_type)
            names = [node.name, *node.input, *node.output]
            if any(len(name) > NAME for name in names):
                raise _beyond(path, f"names of up to {NAME} characters", "a longer one")
            count, edges = count + 1, edges + len(names)
            for attribute in node.attribute:
                for branch in _branches(attribute):
                    more = weigh(branch.node, above)
                    count, edges = count + more[0], edges + more[1]
            called = (node.domain, node.op_type)
            if called in functions:
                if called in above or len(above) > len(functions):
                    raise _beyond(path, "functions that do not call themselves", node.op_type)
                if called not in known:
                    known[called] = weigh(functions[called].node, (*above, called))
                count, edges = count + known[called][0], edges + known[called][1]
            if count > NODES or edges > EDGES:
                raise _beyond(path, f"up to {NODES} nodes of {EDGES} inputs and outputs", "more")
        return count, edges

    try:
        weigh(model.graph.node, ())
    except RecursionError as error:
        raise _beyond(path, "functions of a few levels", "too many") from error


def _branches(attribute: Any) -> list[Any]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _bytes(path: Path, tensor: Any) -> int:
    """What a tensor takes, by its size."""
    if any(side < 0 for side in tensor.dims):
        raise _beyond(path, "sizes from 0", f"{list(tensor.dims)} of {tensor.name}")
    return int(np.prod(tensor.dims, dtype=object)) * ITEM_BYTES.get(tensor.data_type, 1)


def _beyond(path: Path, want: str, got: str) -> LocalConfigError:
    return LocalConfigError(f"{path}: want {want}, got {got}; {REMEDY}")
