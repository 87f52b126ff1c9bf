"""The weights of sentence-transformers' Dense modules, those without an activation multiplied into what follows."""

from __future__ import annotations

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.modules import DenseModule
from mpcnet.models.checkpoints.tensors import floats
from mpcnet.models.checkpoints.weight_files import stored_tensors


def read_dense(source: str, modules: list[DenseModule]) -> dict[str, Tensor]:
    """dense{i}.weight [out, in] and dense{i}.bias [out] of each map that is computed
    (mpcnet.models.checkpoints.configuration), float32.

    :raises LocalConfigError: weights are missing, damaged, not finite, or of other sizes than the configuration says.
    """
    found: dict[str, Tensor] = {}
    weight = bias = None
    for place, module in enumerate(modules):
        mine, offset = _read(source, module)
        weight, bias = (mine, offset) if weight is None or bias is None else (mine @ weight, mine @ bias + offset)
        if module.activation != "identity" or place == len(modules) - 1:
            name = f"dense{len(found) // 2}"
            found |= {f"{name}.weight": weight.float(), f"{name}.bias": bias.float()}
            weight = bias = None
    return found


def _read(source: str, module: DenseModule) -> tuple[Tensor, Tensor]:
    want = {"linear.weight": (module.columns, module.rows)} | (
        {"linear.bias": (module.columns,)} if module.bias else {}
    )
    with stored_tensors(source, module.folder) as stored:
        sizes = {name: tensor.size for name, tensor in stored.items()}
        if sizes != want:
            raise LocalConfigError(f"{module.folder}: want {want}, got {sizes}; save the model again")
        tensors = floats(stored, {name: name for name in want})
    bias = tensors.get("linear.bias", torch.zeros(module.columns))
    return tensors["linear.weight"].double(), bias.double()
