"""Weights of an encoder: read from a Hugging Face checkpoint, checked, and folded for a LayerNorm-free inside.

Reading refuses everything the private model does not compute, all of it in one error and before any weight is read.
Folding moves every LayerNorm's gamma and beta, its centring and the scores' 1/sqrt(head_dim) into the linear maps,
so that between two linear maps only the bare normalised value N = (x - mean) / sqrt(var + eps) is left:

    qkv = N W + b;  C = attention @ out.weight + out.bias + centre(out.gamma * N);  N1 = norm(C)
    u = N1 @ up.weight + up.bias;  C = activation(u) @ down.weight + down.bias + centre(down.gamma * N1);  N = norm(C)

Images have no tables of words: rows of patches are mapped, and a row is added to each place.

Before-norm layers have the same maps between the same values, and add to a residual that is C itself: C' = C + ....
Their LayerNorms go by the names of those that come at their places: that before the feed-forward part is `out.norm`,
that before the next layer, or behind the last, `down.norm`.

Where a linear map follows the embeddings' LayerNorm, N of the first layer are the narrow embeddings, the map is folded
into qkv, and its own centred product with N stands in the place of out.gamma * N.

At last, maps that follow each other are balanced (mpcnet.models.checkpoints.balance).
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
from mpcnet.models.checkpoints.balance import balanced
from mpcnet.models.checkpoints.config_values import config_values
from mpcnet.models.checkpoints.configuration import (
    labels,
    prompt_tokens,
    read_preprocessing,
    read_shape,
    tokenizer_folder,
)
from mpcnet.models.checkpoints.dense import read_dense
from mpcnet.models.checkpoints.families import family_of
from mpcnet.models.checkpoints.families.family import Family
from mpcnet.models.checkpoints.model_files import read_files
from mpcnet.models.checkpoints.modules import Modules
from mpcnet.models.checkpoints.parameter_names import common_prefix, known_parameters
from mpcnet.models.checkpoints.source import find
from mpcnet.models.checkpoints.supported import (
    unsupported_family,
    unsupported_head,
    unsupported_parameters,
    unsupported_settings,
)
from mpcnet.models.checkpoints.tensors import Stored, apart, floats
from mpcnet.models.checkpoints.tied import tie
from mpcnet.models.head_shape import TOKEN_LINEARS
from mpcnet.models.images.reader import processed_image
from mpcnet.models.preprocessing import IMAGES, PROCESSOR, Preprocessing
from mpcnet.models.shape import BertShape, Softmax

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
    d, ffn, narrow = shape.hidden, shape.ffn, shape.embedded
    sizes: dict[str, tuple[int, ...]] = {}
    if (image := shape.image) is not None:
        sizes |= {"patch.weight": (d, image.columns), "embedding.class.weight": (1, d)}
        sizes |= {"embedding.register.weight": (image.registers, d)} if image.registers else {}
        sizes["embedding.position.weight"] = (image.rows - image.registers, d)
    else:
        sizes["embedding.word.weight"] = (shape.vocab, narrow)
        if shape.placed:
            sizes["embedding.position.weight"] = (shape.skipped_positions + shape.positions, narrow)
    sizes["embedding.norm.weight"] = (narrow,)
    if shape.types:
        sizes["embedding.type.weight"] = (shape.types, narrow)
    if shape.embedding_width:
        sizes["projection.weight"] = (d, narrow)
    for i in sorted({shape.weights_of(i) for i in range(shape.layers)}):
        sizes |= {f"layer{i}.{name}.weight": (d, d) for name in ("query", "key", "value", "out")}
        sizes |= {f"layer{i}.up.weight": (ffn, d), f"layer{i}.down.weight": (d, ffn)}
        if shape.own_distances:
            sizes |= {f"layer{i}.distance.{name}.weight": (d, d) for name in ("query", "key")}
        if shape.gated:
            sizes[f"layer{i}.gate.weight"] = (ffn, d)
        sizes |= {f"layer{i}.out.norm.weight": (d,), f"{_behind(shape, i)}.weight": (d,)}
    if shape.head == "classification":
        sizes |= {"pooler.weight": (d, d)} if shape.pooler else {}
        sizes["classifier.weight"] = (shape.labels, d * len(shape.kinds))
        sizes |= {"pooler.norm.weight": (d,)} if shape.head_norm else {}
    if shape.transforms:
        sizes |= {"transform.weight": (shape.decoded, d), "transform.norm.weight": (shape.decoded,)}
    if (last := TOKEN_LINEARS.get(shape.head)) is not None:
        sizes[f"{last}.weight"] = (shape.columns, shape.decoded)
    tables = tuple(f"embedding.{name}." for name in ("word", "position", "type", "class", "register"))
    rows = d * len(shape.kinds)
    for i, dense in enumerate(shape.dense):
        sizes[f"dense{i}.weight"] = (dense.columns, rows)
        rows = dense.columns
    sizes |= {name[:-6] + "bias": size[:1] for name, size in sizes.items() if not name.startswith(tables)}
    if shape.relative_buckets:
        sizes["relative.weight"] = (shape.relative_buckets, shape.heads)
    if shape.distances:
        sizes["distance.weight"] = (2 * shape.distances, d)
        sizes |= {} if shape.own_distances else {"distance.norm.weight": (d,), "distance.norm.bias": (d,)}
    return sizes


def _behind(shape: BertShape, layer: int) -> str:
    """The LayerNorm behind some layer's weights."""
    last = shape.norm == "before" and layer == shape.layers - 1
    return "final.norm" if last else f"layer{layer}.down.norm"


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Read an encoder, bare, with a head, or with what sentence-transformers adds, from a directory
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
    files = read_files(source)
    modules, config = files.modules, files.config
    if not config:
        raise LocalConfigError(UNSUPPORTED + "; ".join(modules.wrong))
    if text := unsupported_family(config):
        raise LocalConfigError(UNSUPPORTED + text)
    family = family_of(config)
    if config["model_type"] in IMAGES and files.rewritten:
        got = "an adapter" if files.adapter is not None else files.weights.name
        raise LocalConfigError(
            f"{UNSUPPORTED}want safetensors or pytorch_model.bin of a model of images, got {got}; load it in "
            "transformers, merge what is to be merged, and save it by save_pretrained"
        )
    with files.tensors() as found:
        heads = config_values(config)["num_attention_heads"] if family.by_head else 1
        stored = apart(family.rewritten(found), family.joined, heads)
        theirs, unknown = known_parameters(list(stored), family)
        unknown = unknown if modules.embeds else tie(config, stored, theirs, unknown)
        shape = _supported_shape(config, modules, {name: stored[key] for name, key in theirs.items()}, unknown)
        sizes = parameter_shapes(replace(shape, dense=()))
        tensors = floats(stored, {name: theirs[name] for name in sizes if name in theirs})
        tensors |= {name: torch.zeros(size) for name, size in sizes.items() if name not in theirs}  # biases it lacks
        prefix = common_prefix(list(stored), family)
    if shape.dense:
        tensors |= read_dense(source, modules.dense)
    folder = str(files.tokenizer) if files.tokenizer else tokenizer_folder(source, modules.folder)
    preprocessing = read_preprocessing(folder, modules, shape)
    if shape.image is not None:
        shape, tensors = as_processed(shape, tensors, folder, family)
    shape = replace(shape, pooled_from=prompt_tokens(folder, modules, preprocessing, shape.positions))
    return Checkpoint(
        shape, tensors, folder, source, license_of(source), digest(tensors), config.get("softmax"),
        labels(config, shape.labels), preprocessing, prefix,
    )  # fmt: skip


def as_processed(
    shape: BertShape, tensors: dict[str, Tensor], folder: str, family: Family
) -> tuple[BertShape, dict[str, Tensor]]:
    """A model of images for what its image processor makes: pixels within its ends, and positions for their size.

    :raises LocalConfigError: the processor makes images that the model does not take.
    """
    image = shape.image
    assert image is not None
    (channels, *sides), low, high = processed_image(folder)
    size = sides[0]
    if (channels, *sides) != (len(image.low), size, size) or (size != image.size and family.resized is None):
        want = [len(image.low), image.size, image.size]
        raise LocalConfigError(
            f"{UNSUPPORTED}{PROCESSOR}: want images of {want}, as config.json says, got {[channels, *sides]}; "
            "let it resize to this size"
        )
    table = tensors["embedding.position.weight"]
    if size != image.size and family.resized is not None:
        table = family.resized(table, size // image.patch)
    image = replace(image, size=size, low=low, high=high)
    return replace(shape, image=image, positions=image.rows), tensors | {"embedding.position.weight": table}


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
    folded = _fold_images(raw) if shape.image is not None else _fold_tables(raw, shape)
    if shape.relative_buckets:
        folded["relative.bias"] = raw["relative.weight"]
    entry = _projected(raw) if shape.embedding_width else _norm(raw, "embedding.norm")
    if shape.norm == "before" and shape.image is None:
        folded |= {"stream.gamma": entry.scale, "stream.bias": centre(entry.shift)}
    for i in range(shape.layers):
        own = f"layer{shape.weights_of(i)}"
        if shape.attention_of(i) == i:
            folded |= _fold_attention(raw, f"layer{i}", own, entry, shape)
        if shape.feed_forward_of(i) == i:
            folded |= _fold_ffn(raw, f"layer{i}", own, shape)
        entry = _norm(raw, _behind(shape, shape.weights_of(i)))
    folded |= {"final.gamma": entry.scale, "final.beta": entry.shift}
    if shape.head == "classification":
        folded |= _fold_classifier(raw, entry, shape)
    if shape.transforms:
        folded |= _linear("transform", *entry.into(raw, "transform"))
        entry = _norm(raw, "transform.norm")
    if (name := TOKEN_LINEARS.get(shape.head)) is not None:
        folded |= _linear(name, *entry.into(raw, name))
    for i in range(len(shape.dense)):
        folded |= {f"dense{i}.weight": raw[f"dense{i}.weight"].T, f"dense{i}.bias": raw[f"dense{i}.bias"]}
    return {name: value.contiguous() for name, value in balanced(shape, folded).items()}


def _fold_tables(raw: Mapping[str, Tensor], shape: BertShape) -> dict[str, Tensor]:
    """Of words, of types behind them, and of positions."""
    tables = [raw[name] for name in ("embedding.word.weight", "embedding.type.weight") if name in raw]
    folded = {"embedding.table": centre(torch.cat(tables))}
    if shape.placed:
        folded["embedding.position"] = centre(raw["embedding.position.weight"][shape.skipped_positions :])
    return folded


def _fold_images(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The map of patches, and a row for each place: what is added to it, the class token and registers among it."""
    places = raw["embedding.position.weight"]
    lead = [raw["embedding.class.weight"] + places[:1]]
    lead += [raw["embedding.register.weight"]] if "embedding.register.weight" in raw else []
    rows = torch.cat([*lead, places[1:] + raw["patch.bias"]])
    return {"patch.weight": centre(raw["patch.weight"].T), "embedding.position": centre(rows)}


def centre(x: Tensor) -> Tensor:
    """x - mean(x) over the last axis: x (I - 11'/d)."""
    return x - x.mean(-1, keepdim=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Affine:
    """What stands between a bare normalised value N and who reads it: N scale + shift, or N * scale + shift."""

    scale: Tensor  # [in, out], or [out] of a LayerNorm alone
    shift: Tensor

    def into(self, raw: Mapping[str, Tensor], linear: str) -> tuple[Tensor, Tensor]:
        """(N S + c) W + b = N (S W) + (b + c W)."""
        weight = raw[f"{linear}.weight"].T
        inner = self.scale[:, None] * weight if self.scale.ndim == 1 else self.scale @ weight
        return inner, raw[f"{linear}.bias"] + self.shift @ weight


def _norm(raw: Mapping[str, Tensor], name: str) -> _Affine:
    return _Affine(raw[f"{name}.weight"], raw[f"{name}.bias"])


def _projected(raw: Mapping[str, Tensor]) -> _Affine:
    """The embeddings' LayerNorm and the map to the layers' width."""
    return _Affine(*_norm(raw, "embedding.norm").into(raw, "projection"))


def _linear(name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _before_norm(raw: Mapping[str, Tensor], name: str, own: str, entry: _Affine) -> dict[str, Tensor]:
    """x W + b + (N S + c), centred: the linear map into a LayerNorm and the residual beside it."""
    residual = (
        {f"{name}.gamma": entry.scale} if entry.scale.ndim == 1 else {f"{name}.entry.weight": centre(entry.scale)}
    )
    return residual | _linear(name, centre(raw[f"{own}.weight"].T), centre(raw[f"{own}.bias"] + entry.shift))


def _into_stream(raw: Mapping[str, Tensor], name: str, own: str) -> dict[str, Tensor]:
    """x W + b, centred: what is added to a residual that no LayerNorm has changed."""
    return _linear(name, centre(raw[f"{own}.weight"].T), centre(raw[f"{own}.bias"]))


def _fold_attention(
    raw: Mapping[str, Tensor], layer: str, own: str, entry: _Affine, shape: BertShape
) -> dict[str, Tensor]:
    """Scores are sums of products q_j k_j / sqrt(head_dim); the factor is split so that both have errors alike."""
    parts = [entry.into(raw, f"{own}.{name}") for name in ("query", "key", "value")]
    query, key = ((weight.square().sum(0) + bias.square()).sqrt() for weight, bias in parts[:2])  # N's variance is 1
    if shape.rotary:  # pairs of columns are turned into each other, and have one factor
        query, key = (_paired(size, shape.head_dim) for size in (query, key))
    scale = (shape.head_dim * (3 if shape.distances else 1)) ** -0.5  # DeBERTa's scores are sums of three products
    share = torch.where((query > 0) & (key > 0), (scale * key / query).sqrt(), scale)  # a zero column has any
    scales = (share, scale / share, torch.ones_like(share))
    qkv = _linear(
        f"{layer}.qkv",
        torch.cat([s * weight for s, (weight, _) in zip(scales, parts, strict=True)], dim=1),
        torch.cat([s * bias for s, (_, bias) in zip(scales, parts, strict=True)]),
    )
    if shape.distances:
        qkv |= _fold_distances(raw, layer, own, share, scale / share, shape)
    if shape.norm == "before":
        return qkv | _into_stream(raw, f"{layer}.out", f"{own}.out")
    return qkv | _before_norm(raw, f"{layer}.out", f"{own}.out", entry)


def _fold_distances(
    raw: Mapping[str, Tensor], layer: str, own: str, query: Tensor, key: Tensor, shape: BertShape
) -> dict[str, Tensor]:
    """Queries and keys of each row of the table of distances, as the layer makes them of it: [head, head_dim, row]."""
    table, maps = raw["distance.weight"], f"{own}.distance" if shape.own_distances else own
    if not shape.own_distances:
        norm = _norm(raw, "distance.norm")
        table = torch.nn.functional.layer_norm(table, table.shape[-1:], norm.scale, norm.shift, shape.eps)
    found = {}
    for name, factor in (("query", query), ("key", key)):
        values = (table @ raw[f"{maps}.{name}.weight"].T + raw[f"{maps}.{name}.bias"]) * factor
        heads = values.reshape(len(values), shape.heads, shape.head_dim)
        found[f"{layer}.distance.{name}"] = heads.permute(1, 2, 0)
    return found


def _paired(sizes: Tensor, columns: int) -> Tensor:
    """The root mean square of each pair of columns that RoPE turns, in both of its places: [hidden] -> [hidden]."""
    halves = sizes.reshape(-1, 2, columns // 2)
    return halves.square().mean(1, keepdim=True).sqrt().expand_as(halves).reshape(-1)


def _fold_classifier(raw: Mapping[str, Tensor], entry: _Affine, shape: BertShape) -> dict[str, Tensor]:
    """Of texts, two maps with an activation between them; of images, one of N of the class token, and of the sum of N
    over the patches beside it, if the classifier reads their mean.
    """
    weight, bias = raw["classifier.weight"].T, raw["classifier.bias"]
    if shape.image is not None:
        parts = []
        for part, count in zip(
            torch.split(weight, shape.hidden), (1, shape.image.rows - shape.image.lead), strict=False
        ):
            parts.append(entry.scale[:, None] * part / count)
            bias = bias + entry.shift @ part
        return _linear("classifier", torch.cat(parts), bias)
    last = _norm(raw, "pooler.norm").into(raw, "classifier") if shape.head_norm else (weight, bias)
    return _linear("pooler", *entry.into(raw, "pooler")) | _linear("classifier", *last)


def _fold_ffn(raw: Mapping[str, Tensor], layer: str, own: str, shape: BertShape) -> dict[str, Tensor]:
    """The first map's columns are the activation's, and behind them those that it multiplies, if it does."""
    entry = _norm(raw, f"{own}.out.norm")
    maps = [entry.into(raw, f"{own}.{name}") for name in ("up", "gate")[: 1 + shape.gated]]
    up = _linear(f"{layer}.up", torch.cat([weight for weight, _ in maps], 1), torch.cat([bias for _, bias in maps]))
    if shape.norm == "before":
        return up | _into_stream(raw, f"{layer}.down", f"{own}.down")
    return up | _before_norm(raw, f"{layer}.down", f"{own}.down", entry)


def _supported_shape(
    config: Mapping[str, Any], modules: Modules, header: Mapping[str, Stored], unknown: list[str]
) -> BertShape:
    """The shape, unless config.json, the files beside it or the parameters ask for anything unsupported."""
    classifier = any(name.startswith("classifier.") for name in header)
    head = "" if modules.embeds else unsupported_head(config, classifier)
    wrong = [*([head] if head else []), *unsupported_settings(config), *modules.wrong]
    try:
        shape = read_shape(config, modules, header)
    except (LocalConfigError, *MALFORMED) as error:
        wrong.append(str(error))
    else:
        lacks = family_of(config).lacks(config)
        sizes, beside = parameter_shapes(replace(shape, dense=())), modules.embeds or bool(head)
        wanted = {name: size for name, size in sizes.items() if not lacks.fullmatch(name)}
        wrong += unsupported_parameters(header, unknown, wanted, beside)
    if wrong:
        raise LocalConfigError(UNSUPPORTED + "; ".join(wrong))
    return shape


def license_of(source: str) -> str:
    """The `license:` line of the model card's front matter."""
    card = find(source, "README.md")
    found = re.search(r"^license:\s*(\S+)\s*$", card.read_text("utf-8"), re.MULTILINE) if card else None
    return found[1] if found else "not stated"
