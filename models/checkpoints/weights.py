"""Weights of a BERT: read from a Hugging Face checkpoint, checked, and folded for a LayerNorm-free inside.

Reading refuses everything the private model does not compute, all of it in one error and before any weight is read.
Folding moves every LayerNorm's gamma and beta, its centring and the scores' 1/sqrt(head_dim) into the linear maps,
so that between two linear maps only the bare normalised value N = (x - mean) / sqrt(var + eps) is left:

    qkv = N W + b;  C = attention @ out.weight + out.bias + centre(out.gamma * N);  N1 = norm(C)
    u = N1 @ up.weight + up.bias;  C = activation(u) @ down.weight + down.bias + centre(down.gamma * N1);  N = norm(C)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.configuration import (
    labels,
    prompt_tokens,
    read_preprocessing,
    read_shape,
    tokenizer_folder,
)
from mpcnet.models.checkpoints.dense import read_dense
from mpcnet.models.checkpoints.modules import Modules, read_modules
from mpcnet.models.checkpoints.parameter_names import common_prefix, known_parameters
from mpcnet.models.checkpoints.source import find, need, read_object, within
from mpcnet.models.checkpoints.supported import (
    unsupported_family,
    unsupported_head,
    unsupported_parameters,
    unsupported_settings,
)
from mpcnet.models.checkpoints.tensors import Stored, floats, stored_tensors
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import TOKEN_LINEARS, BertShape, Softmax

UNSUPPORTED = "cannot run privately: "


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model as it was published: float32 tensors under this module's names, and where they came from.

    source is the folder that the tokenizer and transformers' own model load from, "" if random; origin is what was
    asked for.
    softmax is the one it was trained with, if its config.json says so; labels are a classifier's, by its id2label.
    preprocessing is what is done to texts before, None without a tokenizer. prefix stands before all names in the file,
    which transformers does not skip ("module.").
    """

    shape: BertShape
    tensors: Mapping[str, Tensor] = field(repr=False)
    source: str
    origin: str
    license: str
    sha256: str
    softmax: Softmax | None = None
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    prefix: str = ""


def parameter_shapes(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Every parameter of a checkpoint of this shape under our names; linear weights are [out, in]."""
    d, ffn = shape.hidden, shape.ffn
    sizes: dict[str, tuple[int, ...]] = {
        "embedding.word.weight": (shape.vocab, d),
        "embedding.position.weight": (shape.skipped_positions + shape.positions, d),
        "embedding.norm.weight": (d,),
    }
    if shape.types:
        sizes["embedding.type.weight"] = (shape.types, d)
    for i in range(shape.layers):
        sizes |= {f"layer{i}.{name}.weight": (d, d) for name in ("query", "key", "value", "out")}
        sizes |= {f"layer{i}.up.weight": (ffn, d), f"layer{i}.down.weight": (d, ffn)}
        sizes |= {f"layer{i}.out.norm.weight": (d,), f"layer{i}.down.norm.weight": (d,)}
    if shape.head == "classification":
        sizes |= {"pooler.weight": (d, d), "classifier.weight": (shape.labels, d)}
    if shape.tells_tokens:
        sizes[f"{TOKEN_LINEARS[shape.head]}.weight"] = (shape.columns, d)
    tables = ("embedding.word.", "embedding.position.", "embedding.type.")
    rows = d * len(shape.kinds)
    for i, dense in enumerate(shape.dense):
        sizes[f"dense{i}.weight"] = (dense.columns, rows)
        rows = dense.columns
    sizes |= {name[:-6] + "bias": size[:1] for name, size in sizes.items() if not name.startswith(tables)}
    if shape.relative_buckets:
        sizes["relative.weight"] = (shape.relative_buckets, shape.heads)
    return sizes


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Read a BERT or MPNet, bare, with a classifier, or with what sentence-transformers adds, from a directory
    (offline) or a Hugging Face hub name.

    :raises LocalConfigError: files are missing or damaged, the model needs something unsupported (all of it is named),
        or a weight is not finite.
    """
    source = str(source)
    try:
        return _load(source)
    except LocalConfigError as error:
        text = str(error)
        raise error if text.startswith(source) else LocalConfigError(f"{source}: {text}") from error
    except MALFORMED as error:  # a value of another kind than its name has in every such file
        found = f"{type(error).__name__}: {error}"
        text = f"{source}: want files as save_pretrained writes them, got one with other values ({found})"
        raise LocalConfigError(f"{text}; fetch the model again") from error


def _load(source: str) -> Checkpoint:
    modules = read_modules(source)
    configuration = within(modules.folder, "config.json")
    if modules.wrong and find(source, configuration) is None:
        raise LocalConfigError(UNSUPPORTED + "; ".join(modules.wrong))  # with a first module of another kind
    config = read_object(need(source, configuration))
    if text := unsupported_family(config):
        raise LocalConfigError(UNSUPPORTED + text)
    with stored_tensors(source, modules.folder) as stored:
        theirs, unknown = known_parameters(list(stored), config["model_type"])
        adapter = find(source, within(modules.folder, "adapter_config.json")) is not None
        shape = _supported_shape(config, modules, {name: stored[key] for name, key in theirs.items()}, unknown, adapter)
        encoder = replace(shape, dense=())
        tensors = floats(stored, {name: theirs[name] for name in parameter_shapes(encoder)})
        prefix = common_prefix(list(stored), config["model_type"])
    if shape.dense:
        tensors |= read_dense(source, modules.dense)
    folder = tokenizer_folder(source, modules.folder)
    preprocessing = read_preprocessing(folder, modules, shape.positions)
    shape = replace(shape, pooled_from=prompt_tokens(folder, modules, preprocessing))
    return Checkpoint(
        shape, tensors, folder, source, license_of(source), digest(tensors), config.get("softmax"),
        labels(config, shape.labels), preprocessing, prefix,
    )  # fmt: skip


def random_checkpoint(shape: BertShape, seed: int) -> Checkpoint:
    """Random weights of the right sizes, for measuring cost only: N(0, 0.02), gammas 1 + N(0, 0.02)."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, size in parameter_shapes(shape).items():
        value = torch.randn(size, generator=generator) * 0.02  # BERT's initializer_range
        tensors[name] = value + 1 if name.endswith("norm.weight") else value
    origin = f"RANDOM weights, seed {seed}: for cost only, the outputs mean nothing"
    return Checkpoint(shape, tensors, "", origin, "none", digest(tensors))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, shape and little-endian float32 bytes of every tensor, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name} {list(tensors[name].shape)}\n".encode())
        state.update(tensors[name].contiguous().numpy().astype("<f4", copy=False).data)
    return state.hexdigest()


def fold(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The float64 weights the private model uses; linear weights are [in, out]. See the module's formulas."""
    shape = checkpoint.shape
    raw = {name: value.to(torch.float64) for name, value in checkpoint.tensors.items()}
    tables = [raw[name] for name in ("embedding.word.weight", "embedding.type.weight") if name in raw]
    folded = {
        "embedding.table": centre(torch.cat(tables)),
        "embedding.position": centre(raw["embedding.position.weight"][shape.skipped_positions :]),
    }
    if shape.relative_buckets:
        folded["relative.bias"] = raw["relative.weight"]
    entry = "embedding.norm"
    for i in range(shape.layers):
        folded |= _fold_attention(raw, f"layer{i}", entry, shape)
        folded |= _fold_ffn(raw, f"layer{i}")
        entry = f"layer{i}.down.norm"
    folded |= {"final.gamma": raw[f"{entry}.weight"], "final.beta": raw[f"{entry}.bias"]}
    if shape.head == "classification":
        folded["pooler.weight"], folded["pooler.bias"] = _after_norm(raw, "pooler", entry)
        folded["classifier.weight"] = raw["classifier.weight"].T
        folded["classifier.bias"] = raw["classifier.bias"]
    if shape.tells_tokens:
        name = TOKEN_LINEARS[shape.head]
        folded[f"{name}.weight"], folded[f"{name}.bias"] = _after_norm(raw, name, entry)
    for i in range(len(shape.dense)):
        folded |= {f"dense{i}.weight": raw[f"dense{i}.weight"].T, f"dense{i}.bias": raw[f"dense{i}.bias"]}
    return {name: value.contiguous() for name, value in folded.items()}


def centre(x: Tensor) -> Tensor:
    """x - mean(x) over the last axis: x (I - 11'/d)."""
    return x - x.mean(-1, keepdim=True)


def _after_norm(raw: Mapping[str, Tensor], linear: str, norm: str) -> tuple[Tensor, Tensor]:
    """(gamma N + beta) W + b = N (diag(gamma) W) + (b + beta W)."""
    weight = raw[f"{linear}.weight"].T
    return raw[f"{norm}.weight"][:, None] * weight, raw[f"{linear}.bias"] + raw[f"{norm}.bias"] @ weight


def _before_norm(raw: Mapping[str, Tensor], linear: str, norm: str) -> dict[str, Tensor]:
    """x W + b + (gamma N + beta), centred: the linear map into a LayerNorm and the residual (of `norm`) beside it."""
    return {
        f"{linear}.gamma": raw[f"{norm}.weight"],
        f"{linear}.weight": centre(raw[f"{linear}.weight"].T),
        f"{linear}.bias": centre(raw[f"{linear}.bias"] + raw[f"{norm}.bias"]),
    }


def _fold_attention(raw: Mapping[str, Tensor], layer: str, entry: str, shape: BertShape) -> dict[str, Tensor]:
    """Scores are sums of products q_j k_j / sqrt(head_dim); the factor is split so that both have errors alike."""
    parts = [_after_norm(raw, f"{layer}.{name}", entry) for name in ("query", "key", "value")]
    query, key = ((weight.square().sum(0) + bias.square()).sqrt() for weight, bias in parts[:2])  # N's variance is 1
    scale = shape.head_dim**-0.5
    share = torch.where((query > 0) & (key > 0), (scale * key / query).sqrt(), scale)  # a zero column has any
    scales = (share, scale / share, torch.ones_like(share))
    qkv = {
        f"{layer}.qkv.weight": torch.cat([s * weight for s, (weight, _) in zip(scales, parts, strict=True)], dim=1),
        f"{layer}.qkv.bias": torch.cat([s * bias for s, (_, bias) in zip(scales, parts, strict=True)]),
    }
    return qkv | _before_norm(raw, f"{layer}.out", entry)


def _fold_ffn(raw: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    weight, bias = _after_norm(raw, f"{layer}.up", f"{layer}.out.norm")
    return {f"{layer}.up.weight": weight, f"{layer}.up.bias": bias} | _before_norm(
        raw, f"{layer}.down", f"{layer}.out.norm"
    )


def _supported_shape(
    config: Mapping[str, Any], modules: Modules, header: Mapping[str, Stored], unknown: list[str], adapter: bool
) -> BertShape:
    """The shape, unless config.json, the files beside it or the parameters ask for anything unsupported."""
    classifier = any(name.startswith("classifier.") for name in header)
    head = "" if modules.embeds else unsupported_head(config, classifier)
    wrong = [*([head] if head else []), *unsupported_settings(config, adapter), *modules.wrong]
    try:
        shape = read_shape(config, modules, header)
    except (LocalConfigError, *MALFORMED) as error:
        wrong.append(str(error))
    else:
        wanted, beside = parameter_shapes(replace(shape, dense=())), modules.embeds or bool(head)
        wrong += unsupported_parameters(header, unknown, wanted, beside)
    if wrong:
        raise LocalConfigError(UNSUPPORTED + "; ".join(wrong))
    return shape


def license_of(source: str) -> str:
    """The `license:` line of the model card's front matter."""
    card = find(source, "README.md")
    found = re.search(r"^license:\s*(\S+)\s*$", card.read_text("utf-8"), re.MULTILINE) if card else None
    return found[1] if found else "not stated"
