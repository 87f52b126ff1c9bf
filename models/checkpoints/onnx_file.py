"""ONNX: the weights of a graph that torch exported, by the names that its model's code gives them.

Exporters fold transpositions into weights and then drop their names ("onnx::MatMul_123"). Such a weight is called as
the bias is that is added to its product, or as the node is; names of nodes are paths of modules. Constants without such
a name are no weights. Whether config.json says what the graph computes is looked at later, by running it
(mpcnet.models.float_model.graph).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.onnx_limits import EXTERNAL, bounded, external
from mpcnet.models.checkpoints.tensors import Stored

NAMED = re.compile(r"\w+(\.\w+)*\.(weight|bias|gamma|beta)")
TYPES: Mapping[int, tuple[str, Any]] = {  # TensorProto's numbers; numpy has no bfloat16, which is read as 16 bits
    1: ("F32", np.dtype("<f4")),
    10: ("F16", np.dtype("<f2")),
    11: ("F64", np.dtype("<f8")),
    16: ("BF16", np.dtype("<u2")),
}
BFLOAT16 = 16
DOMAINS = ("", "ai.onnx")
QUANTIZED = re.compile(r"Q[A-Z]\w+|(Dynamic)?(Quantize|Dequantize)Linear|\w+Integer")
REMEDY = "take the model as torch exports it, neither optimised nor quantised"


@dataclass(frozen=True, slots=True)
class _Use:
    """A tensor of the graph, and whether the model has it transposed."""

    tensor: Any = field(repr=False)
    transposed: bool

    def equals(self, other: _Use) -> bool:
        """Whether it is the same weight, of which exporters make a copy for each time that it is used."""
        mine, theirs = self.tensor, other.tensor
        same = (mine.dims, mine.data_type, mine.raw_data) == (theirs.dims, theirs.data_type, theirs.raw_data)
        return self.transposed == other.transposed and (mine is theirs or (same and bool(mine.raw_data)))


def tensors(path: Path, beside: Callable[[str], Path | None]) -> dict[str, Stored]:
    """The weights of a graph; linear weights are [out, in]. `beside` finds a file of external data by its name.

    :raises LocalConfigError: it cannot be read, is beyond a limit, was optimised or quantised, or its weights cannot be
        told apart.
    """
    graph = bounded(path).graph
    foreign = {f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in DOMAINS}
    foreign |= {node.op_type for node in graph.node if QUANTIZED.fullmatch(node.op_type)}
    if foreign:
        raise LocalConfigError(
            f"{path}: want operators of ONNX on floats, got {', '.join(sorted(foreign)[:4])}; {REMEDY}"
        )
    return {name: _stored(path, use, beside) for name, use in _named(path, graph).items()}


def _named(path: Path, graph: Any) -> dict[str, _Use]:
    nodes = _Nodes.of(graph)
    found: dict[str, _Use] = {}
    for name, tensor in nodes.tensors.items():
        if NAMED.fullmatch(name) and not nodes.in_product(name):
            found[name] = _Use(tensor, False)
    for node in graph.node:
        product = nodes.product(node)
        if product is None:
            continue
        given, use = product
        names = [given] if NAMED.fullmatch(given) else list(nodes.names(node))
        if any(name in found and found[name].equals(use) for name in names):  # a layer that is run several times
            continue
        free = [name for name in names if name not in found]
        if free:
            found[free[0]] = use
        else:
            raise LocalConfigError(
                f"{path}: want a name for the weight of node {node.name or node.output[0]!r}, got {given!r} and "
                f"{' or '.join(names) or 'no named bias'} beside it; take the model's safetensors"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The graph by its edges: tensors by every name they have, nodes by what they make and take."""

    tensors: Mapping[str, Any]
    makers: Mapping[str, Any]
    takers: Mapping[str, list[Any]]
    scope: tuple[str, str]  # how paths of nodes begin, and names of parameters in their place

    @classmethod
    def of(cls, graph: Any) -> _Nodes:
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        makers: dict[str, Any] = {}
        takers: dict[str, list[Any]] = {}
        for node in graph.node:  # in the order of their computation
            if node.op_type == "Identity" and node.input[0] in tensors:  # one tensor of several names
                tensors[node.output[0]] = tensors[node.input[0]]
            makers |= dict.fromkeys(node.output, node)
            for name in node.input:
                takers.setdefault(name, []).append(node)
        return cls(tensors, makers, takers, _scope(graph, tensors))

    def product(self, node: Any) -> tuple[str, _Use] | None:
        """Name and use of the matrix that a node multiplies by, if it is a tensor of the file."""
        if node.op_type not in ("MatMul", "Gemm"):
            return None
        name, transposed = node.input[1], True  # x W: transformers has W', [out, in]
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Transpose":
            name, transposed = maker.input[0], False
        if node.op_type == "Gemm" and any(each.name == "transB" and each.i for each in node.attribute):
            transposed = not transposed
        tensor = self.tensors.get(name)
        return None if tensor is None or len(tensor.dims) != 2 else (name, _Use(tensor, transposed))

    def in_product(self, name: str) -> bool:
        """Whether a tensor is multiplied by, straight or transposed."""
        direct = self.takers.get(name, [])
        through = [
            taker for node in direct if node.op_type == "Transpose" for taker in self.takers.get(node.output[0], [])
        ]
        return any((found := self.product(node)) is not None and found[0] == name for node in [*direct, *through])

    def names(self, node: Any) -> Iterator[str]:
        """What a product's weight may be called: as its bias is, or as its node."""
        beside = [*node.input[2:], *(each for taker in self.takers.get(node.output[0], []) for each in taker.input)]
        for name in beside:
            if name in self.tensors and NAMED.fullmatch(name) and name.endswith(".bias"):
                yield name.removesuffix("bias") + "weight"
        path, (begins, instead) = _path(node), self.scope
        if path.startswith(begins):
            yield f"{instead}{path.removeprefix(begins)}.weight"


def _path(node: Any) -> str:
    """ "/encoder/layer.0/query/MatMul" is a node of the module encoder.layer.0.query."""
    return str(node.name).removeprefix("/").rpartition("/")[0].replace("/", ".")


def _scope(graph: Any, tensors: Mapping[str, Any]) -> tuple[str, str]:
    """Wrappers name nodes and parameters differently: the one difference there is, told from nodes with named ones."""
    pairs = set()
    for node in graph.node:
        for name in node.input:
            path, stem = _path(node), name.rpartition(".")[0]
            if path and name in tensors and NAMED.fullmatch(name):
                while path and stem and path.rpartition(".")[2] == stem.rpartition(".")[2]:
                    path, stem = path.rpartition(".")[0], stem.rpartition(".")[0]
                pairs.add((path + "." if path else "", stem + "." if stem else ""))
    return min(pairs) if len(pairs) == 1 else ("", "")


def _stored(path: Path, use: _Use, beside: Callable[[str], Path | None]) -> Stored:
    tensor = use.tensor
    size = tuple(tensor.dims)
    kind = TYPES[tensor.data_type][0] if tensor.data_type in TYPES else f"type {tensor.data_type}"
    return Stored(size[::-1] if use.transposed else size, kind, partial(_read, path, use, beside))


def _read(path: Path, use: _Use, beside: Callable[[str], Path | None]) -> Tensor:
    from onnx import numpy_helper

    tensor = use.tensor
    _, kind = TYPES[tensor.data_type]
    if tensor.data_location == EXTERNAL:
        data, offset, count = external(path, tensor, beside)
        values = np.fromfile(data, kind, count // kind.itemsize, offset=offset)
    elif tensor.data_type == BFLOAT16 and tensor.HasField("raw_data"):
        values = np.frombuffer(tensor.raw_data, kind)
    else:
        values = numpy_helper.to_array(tensor)
    if values.size != np.prod(tensor.dims, dtype=object):
        raise LocalConfigError(
            f"{path}: want {list(tensor.dims)} of {tensor.name}, got {values.size}; fetch the model again"
        )
    if tensor.data_type == BFLOAT16 and values.dtype == kind:
        found = torch.from_numpy(values.view("<i2").copy()).view(torch.bfloat16)
    else:
        found = torch.from_numpy(values.astype(np.float64 if kind.itemsize == 8 else np.float32))
    found = found.reshape(tuple(tensor.dims))
    return found.T.contiguous() if use.transposed else found
