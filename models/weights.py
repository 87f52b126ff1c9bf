"""Weights of a BERT: read from a Hugging Face checkpoint, checked, and folded for a LayerNorm-free inside.

Reading refuses everything the private model does not compute, all of it in one error and before any weight is read.
Folding moves every LayerNorm's gamma and beta, its centring and the scores' 1/sqrt(head_dim) into the linear maps,
so that between two linear maps only the bare normalised value N = (x - mean) / sqrt(var + eps) is left:

    qkv = N W + b;  C = attention @ out.weight + out.bias + centre(out.gamma * N);  N1 = norm(C)
    u = N1 @ up.weight + up.bias;  C = activation(u) @ down.weight + down.bias + centre(down.gamma * N1);  N = norm(C)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.names import known_parameters
from models.preprocessing import Preprocessing
from models.shape import BertShape, Softmax
from models.supported import unsupported_parameters, unsupported_settings
from mpcnet.errors import LocalConfigError

MPNET_SKIPPED = 2  # positions count from padding_idx + 1; transformers' MPNetEmbeddings has padding_idx 1


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model as it was published: float32 tensors under this module's names, and where they came from.

    source is what the tokenizer and the Hugging Face model load from: a directory or a hub name, "" if random.
    softmax is the one it was trained with, if its config.json says so; labels are a classifier's, by its id2label.
    preprocessing is what is done to texts before, None without a tokenizer.
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
    tables = ("embedding.word.", "embedding.position.", "embedding.type.")
    sizes |= {name[:-6] + "bias": size[:1] for name, size in sizes.items() if not name.startswith(tables)}
    if shape.relative_buckets:
        sizes["relative.weight"] = (shape.relative_buckets, shape.heads)
    return sizes


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Read a BERT or MPNet, bare or with a classifier, from a directory (offline) or a Hugging Face hub name.

    :raises LocalConfigError: files are missing or damaged, the model needs something unsupported (all of it is named),
        or a weight is not finite.
    """
    source = str(source)
    config = _json(_file(source, "config.json"))
    weights = _file(source, "model.safetensors")
    try:
        with safe_open(weights, framework="pt") as file:
            theirs, unknown = known_parameters(list(file.keys()), _model_type(config))
            header = {name: file.get_slice(key) for name, key in theirs.items()}
            shape = _supported_shape(source, config, header, unknown)
            tensors = {name: file.get_tensor(theirs[name]).to(torch.float32) for name in parameter_shapes(shape)}
    except SafetensorError as error:
        raise LocalConfigError(f"{weights}: want a safetensors file, got {error}") from error
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise LocalConfigError(f"{source}: want finite weights, got inf or nan in {', '.join(bad)}")
    labels = _labels(config, shape.labels)
    return Checkpoint(
        shape, tensors, source, source, license_of(source), digest(tensors), config.get("softmax"), labels
    )


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


def _file(source: str, name: str, optional: bool = False) -> str:
    """The local path of a checkpoint's file, fetched from the hub if `source` is a hub name; "" if it may be absent."""
    from transformers.utils import cached_file  # two seconds to import: only who loads a checkpoint waits for it

    try:
        path = cached_file(source, name)
    except OSError:  # no such directory, no such hub name, no network
        path = None
    if path is None and not optional:
        raise LocalConfigError(
            f"{source}: want a directory or hub name that holds {name}, got none "
            "(transformers' save_pretrained writes config.json and model.safetensors)"
        )
    return "" if path is None else str(path)


def _supported_shape(
    source: str, config: Mapping[str, Any], header: Mapping[str, Any], unknown: list[str]
) -> BertShape:
    """The shape, unless config.json, the files beside it or the parameters ask for anything unsupported."""
    pooling = _file(source, "1_Pooling/config.json", optional=True)
    adapter = _file(source, "adapter_config.json", optional=True)
    wrong = unsupported_settings(config, _json(pooling) if pooling else {}, bool(adapter))
    try:
        shape = _shape(config, header)
    except LocalConfigError as error:
        wrong.append(str(error))
    else:
        wrong += unsupported_parameters(header, unknown, parameter_shapes(shape))
    if wrong:
        raise LocalConfigError(f"{source}: cannot run privately: " + "; ".join(wrong))
    return shape


def _shape(config: Mapping[str, Any], header: Mapping[str, Any]) -> BertShape:
    from transformers import BertConfig, MPNetConfig

    mpnet = _model_type(config) == "mpnet"
    values = (MPNetConfig() if mpnet else BertConfig()).to_dict() | dict(config)
    classifies = any(name.endswith("ForSequenceClassification") for name in values.get("architectures") or [])
    skipped = MPNET_SKIPPED if mpnet else 0
    labels = header["classifier.weight"].get_shape()[0] if "classifier.weight" in header else len(values["id2label"])
    return BertShape(
        layers=values["num_hidden_layers"],
        hidden=values["hidden_size"],
        heads=values["num_attention_heads"],
        ffn=values["intermediate_size"],
        vocab=values["vocab_size"],
        positions=values["max_position_embeddings"] - skipped,
        types=0 if mpnet else values["type_vocab_size"],
        eps=float(values["layer_norm_eps"]),
        head="classification" if classifies else "embedding",
        labels=labels if classifies else 0,
        pooling="first" if classifies else "mean",
        relative_buckets=values["relative_attention_num_buckets"] if mpnet else 0,
        skipped_positions=skipped,
        activation="quad" if values["hidden_act"] == "quad" else "gelu",  # another is refused by its name
    )


def _labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of a classifier's labels; without an id2label of so many, the names that transformers would give."""
    given = config.get("id2label")
    names = given if isinstance(given, dict) else {}
    return tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(count))


def _model_type(config: Mapping[str, Any]) -> str:
    """The kind of a checkpoint; another kind than ours is refused by its settings, and read as a BERT until then."""
    return "mpnet" if config.get("model_type") == "mpnet" else "bert"


def _json(path: str) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise LocalConfigError(f"{path}: want JSON, got {error}") from error
    if not isinstance(values, dict):
        raise LocalConfigError(f"{path}: want a JSON object, got {type(values).__name__}")
    return values


def license_of(source: str) -> str:
    """The `license:` line of the model card's front matter."""
    card = _file(source, "README.md", optional=True)
    found = re.search(r"^license:\s*(\S+)\s*$", Path(card).read_text("utf-8"), re.MULTILINE) if card else None
    return found[1] if found else "not stated"
