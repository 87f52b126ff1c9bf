"""A model that came as an ONNX graph: what the graph computes must be what is computed privately.

Weights alone do not tell: heads, activation, epsilon and pooling are config.json's, and a graph may do something else.
So it is run, by onnx's own evaluator, on a few tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.model_files import read_files
from mpcnet.models.checkpoints.weights import Checkpoint, fold
from mpcnet.models.float_model.pipelines import root
from mpcnet.models.float_model.reference import answer, forward
from mpcnet.models.shape import BertShape

TOKENS = 9  # of the text that is tried
NEAR = 3e-5  # of the largest value: float32 is within 1e-6, GeLU's tanh form 1e-4 off
NEAR_HALF = 2e-2  # where the graph computes in 16 bits, which leave those two alike
INTEGERS = {6: torch.int32, 7: torch.int64}  # TensorProto's numbers
HALVES = (10, 16)


def check_graph(found: Checkpoint) -> None:
    """Nothing, of a checkpoint in other files.

    :raises LocalConfigError: the graph cannot be run, or says something else than config.json and the weights.
    """
    files = read_files(root(found.origin, found.source))
    path = files.weights
    if path.suffix != ".onnx":
        return
    if files.adapter is not None:
        raise LocalConfigError(
            f"{path}: want the base of an adapter as safetensors, got a graph, which does not run with it; take those"
        )
    model = _load(path)
    shape, inputs = found.shape, _inputs(path, model, found.shape)
    ids = inputs["input_ids"].long()
    types, mask = inputs.get("token_type_ids", torch.zeros_like(ids)).long(), torch.ones_like(ids)
    with torch.inference_mode():
        call = forward if shape.head == "embedding" else answer
        want = call(shape, fold(found), ids, types, mask, found.softmax or "exact")
    outputs = _run(path, model, inputs)
    if shape.head == "question-answering" and len(outputs) > 1 and outputs[0].shape == outputs[1].shape:
        outputs = [np.stack(outputs[:2], -1), *outputs[2:]]  # where it starts and where it ends
    half = any(each.data_type in HALVES for each in model.graph.initializer)
    alike = [torch.from_numpy(np.asarray(value, np.float64)) for value in outputs if value.shape == tuple(want.shape)]
    if not alike:
        sizes = ", ".join(str(list(value.shape)) for value in outputs)
        raise LocalConfigError(
            f"{path}: want hidden states or logits of {list(want.shape)} for {ids.shape[1]} tokens, got {sizes}; "
            "export the model as config.json names it"
        )
    errors = [float((value - want).abs().max() / want.abs().max()) for value in alike]
    if not min(errors) < (NEAR_HALF if half else NEAR):
        raise LocalConfigError(
            f"{path}: want the graph to compute what config.json says, got a difference of {min(errors):.2g} of the "
            "largest value; take the config.json that it was exported with"
        )


def _load(path: Path) -> Any:
    import onnx  # an extra

    return onnx.load(str(path))


def _inputs(path: Path, model: Any, shape: BertShape) -> dict[str, Tensor]:
    """Tokens spread over the vocabulary for each input that the graph has, and of both types where there are two.

    :raises LocalConfigError: it has others.
    """
    count = min(TOKENS, shape.positions)
    ids = torch.linspace(min(5, shape.vocab - 1), shape.vocab - 1, count).long()[None]
    types = (torch.arange(count)[None] > count // 2).long() * (shape.types > 1)
    known = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
    weights = {each.name for each in model.graph.initializer}
    wanted = {each.name: each.type.tensor_type.elem_type for each in model.graph.input if each.name not in weights}
    unknown = [name for name, kind in wanted.items() if name not in known or kind not in INTEGERS]
    if unknown or "input_ids" not in wanted:
        raise LocalConfigError(
            f"{path}: want whole numbers {', '.join(known)} as inputs, got {', '.join(unknown or wanted) or 'none'}; "
            "export the model with these"
        )
    return {name: known[name].to(INTEGERS[kind]) for name, kind in wanted.items()}


def _run(path: Path, model: Any, inputs: dict[str, Tensor]) -> list[Any]:
    from onnx.reference import ReferenceEvaluator

    try:
        return list(ReferenceEvaluator(model).run(None, {name: value.numpy() for name, value in inputs.items()}))
    except Exception as error:  # whatever numpy and the evaluator raise
        raise LocalConfigError(
            f"{path}: want a graph that onnx's evaluator runs, got {type(error).__name__}: {str(error)[:200]}"
        ) from error
