"""From config.json, and what sentence-transformers adds, to the shape, the labels and the preprocessing of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.adapters import read_adapter
from mpcnet.models.checkpoints.config_values import config_values
from mpcnet.models.checkpoints.families import family_of
from mpcnet.models.checkpoints.gguf_file import GgufFile
from mpcnet.models.checkpoints.gguf_tokenizer import tokenizer_of
from mpcnet.models.checkpoints.modules import LEAST_LENGTH, DenseModule, Modules
from mpcnet.models.checkpoints.source import find, find_object, within
from mpcnet.models.checkpoints.supported import head_of
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.checkpoints.weight_files import ADAPTER_SETTINGS, weights_path
from mpcnet.models.head_shape import HEAD_POOLINGS, LABELLED, Dense, Head
from mpcnet.models.preprocessing import (
    IMAGES,
    PROCESSOR,
    TOKENIZER_FILES,
    Preprocessing,
    has_tokenizer,
    lower_letters,
    tokenizer_digest,
)
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import load_tokenizer

OLD_ACTIVATION = "sbert_ce_default_activation_function"  # in config.json, before release 4 of sentence-transformers
ACTIVATIONS: Mapping[str, str] = {  # of a cross-encoder, by torch's names
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.Identity": "identity",
}


def read_shape(config: Mapping[str, Any], modules: Modules, header: Mapping[str, Stored]) -> BertShape:
    """The shape but for the tokens that pooling leaves out (:func:`prompt_tokens`).

    :raises LocalConfigError: a size is missing or wrong, or modules do not fit each other.
    """
    values = config_values(config)
    head: Head = "embedding" if modules.embeds else head_of(config, header)
    family = family_of(config)
    described = family.describe(values)
    classifies = described.pop("classifies", "")
    if head == "fill-mask":
        described["head_activation"] = family.masks(described)
    if head in ("embedding", "fill-mask"):
        described["head_norm"] = False
    if "image" not in described:
        own = classifies if head == "classification" else ""
        described["pooling"] = own or HEAD_POOLINGS.get(head, "+".join(modules.pooling))
    elif head != "classification":  # of which the family says it
        described["pooling"] = "cls"
    if "image" in described and modules.given:
        raise LocalConfigError("modules.json: want none beside a model of images, got one; save the encoder alone")
    shape = BertShape(
        **described,
        head=head,
        labels=_count(header, values) if head in LABELLED else 0,
        dense=_dense(modules.dense) if head == "embedding" else (),
        multi_label=head == "classification" and values.get("problem_type") == "multi_label_classification",
    )
    wrong = list(_sizes(shape, modules)) if head == "embedding" else []
    if head == "classification":
        activation, unknown = _activation(config, modules, shape)
        shape, wrong = replace(shape, sigmoid=activation == "sigmoid"), unknown
        if values.get("problem_type") == "regression" and shape.labels > 1:
            wrong.append(
                f"problem_type: want regression of one label, got one of {shape.labels}; train a model for each"
            )
    if modules.classifies and head != "classification":
        wrong.append("modules.json: want the architecture of a classifier, got that of an encoder; save it again")
    if wrong:
        raise LocalConfigError("; ".join(wrong))
    return shape


def _activation(config: Mapping[str, Any], modules: Modules, shape: BertShape) -> tuple[str, list[str]]:
    """What a cross-encoder makes of its logits, which sentence-transformers has written in several places; and what of
    it is not supported. A classifier that is none leaves them as they are.
    """
    own = config.get("sentence_transformers")
    known = own.get("activation_fn") if isinstance(own, dict) else config.get(OLD_ACTIVATION)
    name = known if modules.activation is None else modules.activation
    crossed = modules.classifies or isinstance(own, dict) or known is not None
    if name is None:
        return "sigmoid" if crossed and shape.labels == 1 else "identity", []
    found = ACTIVATIONS.get(name) if isinstance(name, str) else None
    if found is None or (found == "sigmoid" and shape.labels > 1 and not shape.multi_label):
        want = "Sigmoid of one label, or Identity"
        return "identity", [f"activation_fn: want {want}, got {str(name)[:80]} of {shape.labels}; train it with these"]
    return found if shape.labels == 1 else "identity", []


def _count(header: Mapping[str, Stored], values: Mapping[str, Any]) -> int:
    return header["classifier.weight"].size[0] if "classifier.weight" in header else len(values["id2label"])


def _dense(modules: list[DenseModule]) -> tuple[Dense, ...]:
    """The maps that are computed: those without an activation are one with what follows (see `dense`)."""
    last = len(modules) - 1
    return tuple(
        Dense(module.columns, module.activation)
        for place, module in enumerate(modules)
        if module.activation != "identity" or place == last
    )


def _sizes(shape: BertShape, modules: Modules) -> list[str]:
    """Where a module takes another vector than it is given."""
    wrong = []
    if modules.columns not in (None, shape.hidden):
        wrong.append(f"Pooling: want vectors of {shape.hidden}, got {modules.columns}; save the model again")
    rows = shape.hidden * len(shape.kinds)
    for place, module in enumerate(modules.dense):
        if module.rows != rows:
            wrong.append(f"Dense {place}: want in_features {rows}, got {module.rows}; save the model again")
        rows = module.columns
    return wrong


def labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of a classifier's labels; without an id2label of so many, the names that transformers would give."""
    given = config.get("id2label")
    names = given if isinstance(given, dict) else {}
    return tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(count))


def tokenizer_folder(source: str, folder: str) -> str:
    """The local folder of a model's tokenizer, its files fetched from the hub if `source` is a hub name; an adapter
    without one has its base's, and a GGUF file one of its own.

    :raises LocalConfigError: see :func:`mpcnet.models.checkpoints.adapters.read_adapter`, or
        :func:`mpcnet.models.checkpoints.gguf_tokenizer.tokenizer_of`.
    """
    local = _local_folder(source, folder)
    if has_tokenizer(local):
        return local
    adapter = read_adapter(source, folder)
    if adapter is not None:
        source, folder = adapter.base, adapter.folder
        local = _local_folder(source, folder)
    if has_tokenizer(local) or not any(Path(local).glob("*.gguf")):
        return local
    weights = weights_path(source, folder)
    if weights.suffix != ".gguf":
        return local
    config = find_object(source, within(folder, "config.json"))
    return str(tokenizer_of(GgufFile.open(weights), str(config.get("model_type"))))


def _local_folder(source: str, folder: str) -> str:
    images = find_object(source, within(folder, "config.json")).get("model_type") in IMAGES
    for name in (PROCESSOR,) if images else TOKENIZER_FILES:
        find(source, within(folder, name))
    found = (find(source, within(folder, name)) for name in ("config.json", ADAPTER_SETTINGS))
    return next((str(path.parent) for path in found if path is not None), str(Path(source, folder)))


def read_preprocessing(folder: str, modules: Modules, shape: BertShape) -> Preprocessing | None:
    """What is done to texts, by the tokenizer in `folder`; None if transformers' own folder has none.

    Texts are cut where the folder says, or its table of positions ends. Without a table (RoPE, ALiBi) we end
    earlier than the model does: longer texts are refused then, since they would be cut elsewhere.

    :raises LocalConfigError: a file is damaged, or sentence-transformers' folder has no tokenizer that does it.
    """
    if shape.image is not None:
        return Preprocessing(tokenizer_digest(folder))
    if not (modules.given or has_tokenizer(folder)):
        return None
    settings = find_object(folder, "tokenizer_config.json")
    if settings.get("auto_map"):
        raise LocalConfigError(
            "tokenizer_config.json: want a tokenizer of transformers' own code, got auto_map; save its tokenizer.json, "
            "and take auto_map out"
        )
    own = settings.get("model_max_length")
    length = own if modules.max_length is None else modules.max_length
    limit = shape.positions if type(length) is not int else min(length, shape.positions)  # "none" is 1e30 in old files
    cuts = modules.given and not ((shape.rotary or shape.alibi) and limit != length)
    if modules.given and limit < LEAST_LENGTH:
        raise LocalConfigError(
            f"model_max_length: want at least {LEAST_LENGTH} tokens, got {limit}; correct it in tokenizer_config.json"
        )
    if modules.lower_case:
        lower_letters(load_tokenizer(folder))
    return Preprocessing(
        tokenizer_digest(folder),
        limit if cuts else 0,
        modules.prompt,
        modules.lower_case,
        modules.normalize,
        modules.truncate_dim,
    )


def prompt_tokens(folder: str, modules: Modules, preprocessing: Preprocessing | None, positions: int) -> int:
    """How many tokens pooling leaves out: the prompt's, tokenised by itself, without a special one at its end.

    :raises LocalConfigError: the tokenizer cannot be read, or the prompt fills every text.
    """
    if modules.include_prompt or not modules.prompt or preprocessing is None:
        return 0
    tokenizer = load_tokenizer(folder)
    if modules.lower_case:
        lower_letters(tokenizer)
    ids = tokenizer(modules.prompt, verbose=False)["input_ids"]
    count = len(ids) - (ids[-1] in tokenizer.all_special_ids)
    most = preprocessing.max_tokens or positions
    if count + 2 > most:
        raise LocalConfigError(
            f"prompt: want fewer tokens than the {most} at which texts are cut, got {count}; "
            "shorten it in config_sentence_transformers.json"
        )
    return count
