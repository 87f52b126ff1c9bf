"""Loading: an encoder's checkpoint, read from files as transformers writes them, and checked.

Reading refuses everything the private model does not compute, all of it in one error and before any weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint, digest
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
from mpcnet.models.checkpoints.parameter_sizes import parameter_sizes
from mpcnet.models.checkpoints.source import find
from mpcnet.models.checkpoints.supported import (
    unsupported_family,
    unsupported_head,
    unsupported_parameters,
    unsupported_settings,
)
from mpcnet.models.checkpoints.tensors import Stored, apart, floats
from mpcnet.models.checkpoints.tied import tie
from mpcnet.models.images.reader import processed_image
from mpcnet.models.preprocessing import IMAGES, PROCESSOR
from mpcnet.models.shape import BertShape

UNSUPPORTED = "cannot run privately: "


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
        sizes = parameter_sizes(replace(shape, dense=()))
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
        sizes, beside = parameter_sizes(replace(shape, dense=())), modules.embeds or bool(head)
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
