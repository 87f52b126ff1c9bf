"""A model that came as an ONNX graph: what the graph computes must be what is computed privately.

Weights alone do not tell: heads, activation, epsilon and pooling are config.json's, and a graph may do something else.
So it is run, by onnx's own evaluator, on a few tokens, in a process whose memory and time are bounded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.model_files import read_files
from mpcnet.models.checkpoints.onnx_limits import EXTERNAL, REMEDY, bounded, external, tensors_of
from mpcnet.models.checkpoints.weight_files import beside
from mpcnet.models.float_model.pipelines import root
from mpcnet.models.float_model.reference import answer, forward
from mpcnet.models.shape import BertShape

TOKENS = 9  # of the text that is tried
NEAR = 3e-5  # of the largest value: float32 is within 1e-6, GeLU's tanh form 1e-4 off
NEAR_HALF = 2e-2  # where the graph computes in 16 bits, which leave those two alike
INTEGERS = {6: torch.int32, 7: torch.int64}  # TensorProto's numbers
HALVES = (10, 16)
SECONDS, WAIT = 120, 10  # of a processor, and times as many by the clock; paraphrase-MiniLM-L3-v2 takes one
BASE_BYTES, COPIES = 3 << 30, 5  # of memory: of the libraries, and of the weights as they are read and computed with
TENSOR_BYTES = 256 << 20  # of any value, beside what the weights are: logits of 250,002 words take 9 MB
CHILD = (sys.executable, "-P", "-m", "mpcnet.models.float_model.graph_child")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each would take memory of its own


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
    model, find = bounded(path), beside(files.source, files.modules.folder, path)
    shape, inputs = found.shape, _inputs(path, model, found.shape)
    ids = inputs["input_ids"].long()
    types, mask = inputs.get("token_type_ids", torch.zeros_like(ids)).long(), torch.ones_like(ids)
    with torch.inference_mode():
        call = forward if shape.head == "embedding" else answer
        want = call(shape, fold(found), ids, types, mask, found.softmax or "exact")
    outputs = run_graph(path, model, inputs, find)
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


def run_graph(
    path: Path,
    model: Any,
    inputs: Mapping[str, Tensor],
    find: Callable[[str], Path | None],
    seconds: int = SECONDS,
) -> list[Any]:
    """The outputs of a graph that are numbers; `find` says where data lie that are not in its file.

    :raises LocalConfigError: data are elsewhere, or the graph does not run within its limits.
    """
    files, weights = {}, 0
    for tensor in tensors_of(model.graph):
        if tensor.data_location == EXTERNAL:
            data, _, count = external(path, tensor, find)
            files[next(entry.value for entry in tensor.external_data if entry.key == "location")] = str(data.resolve())
            weights += count
    weights += path.stat().st_size
    with TemporaryDirectory(prefix="mpcnet-graph-") as folder:
        results = Path(folder, "results.npz")
        request = {
            "graph": str(path.resolve()), "files": files, "results": str(results),
            "inputs": {name: (value.tolist(), str(value.numpy().dtype)) for name, value in inputs.items()},
            "memory": BASE_BYTES + COPIES * weights, "seconds": seconds, "largest": TENSOR_BYTES + weights,
        }  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603  (of this interpreter, without a shell)
                CHILD, input=json.dumps(request), capture_output=True, text=True, env=os.environ | ONE_THREAD,
                timeout=WAIT * seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _not_run(path, f"one that takes over {WAIT * seconds} s") from None
        if done.returncode < 0:
            late = -done.returncode == signal.SIGXCPU
            raise _not_run(
                path, f"one that takes over {seconds} s" if late else f"its end by signal {-done.returncode}"
            )
        if done.returncode:
            raise _not_run(path, done.stderr.strip().rpartition("\n")[2][:300])
        with np.load(results, allow_pickle=False) as found:
            return [found[name] for name in found.files]


def _not_run(path: Path, got: str) -> LocalConfigError:
    return LocalConfigError(f"{path}: want a graph that onnx's evaluator runs, got {got}; {REMEDY}")
