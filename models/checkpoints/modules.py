"""What sentence-transformers does around the encoder, as its modules.json and the files beside it say.

    Transformer, Pooling, any number of Dense, Normalize

Read as its release 6 reads them. What a file asks for and the private model does not compute is named, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.source import find, find_object, is_below, read_json, within
from mpcnet.models.head_shape import POOLINGS, DenseActivation

INDEX = "modules.json"
ORDER: Mapping[int, str] = {0: "Transformer", 1: "Pooling"}
PIPELINE = "Transformer, Pooling, Dense, Normalize in this order"
LEGACY_POOLINGS: Mapping[str, str] = {  # releases before 6 have a switch a kind; several are concatenated in this order
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS: Mapping[str, DenseActivation] = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.Tanh": "tanh",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.Identity": "identity",
}
TRANSFORMERS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
SENTENCE_CONFIGS = tuple(f"sentence_{name}_config.json" for name in TRANSFORMERS)  # the first not empty counts
EMBEDDING_TASK, CLASSIFIER_TASK = "feature-extraction", "sequence-classification"
PRECISION = ("attn_implementation", "dtype", "torch_dtype")  # arguments that change no result beyond its rounding
ARGUMENTS = (
    "model_args", "model_kwargs", "config_args", "config_kwargs", "tokenizer_args", "processor_kwargs",
    "processing_kwargs",
)  # fmt: skip
QUERIES = ("query_length", "document_length", "query_expansion", "tokenizer_name_or_path")
TEXT_MODALITY: Mapping[str, Any] = {  # by task: what release 6 writes of a model of texts
    EMBEDDING_TASK: {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    CLASSIFIER_TASK: {"text": {"method": "forward", "method_output_name": "logits"}},
}
SENTENCE = "sentence_embedding"  # what modules after the pooling read and write
LEAST_LENGTH = 3  # tokens of a text that is cut: two special ones and one of the text


@dataclass(frozen=True, slots=True)
class DenseModule:
    """A linear map and its activation, whose weights lie in a folder below the model's."""

    folder: str
    rows: int
    columns: int
    bias: bool
    activation: DenseActivation


@dataclass(slots=True)
class Modules:
    """What the files ask for; `wrong` names what of it is not supported, and what to do instead.

    given: there is a modules.json; without one a folder is transformers' own, whose texts are not cut.
    folder: the transformer's, below the model's. columns: of the vectors that are pooled, None if no file says it.
    max_length: of sentence-transformers' configuration; None: the tokenizer's own.
    """

    given: bool = False
    folder: str = ""
    classifies: bool = False
    pooling: tuple[str, ...] = ("mean",)
    columns: int | None = None
    include_prompt: bool = True
    dense: list[DenseModule] = field(default_factory=list)
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompt: str = ""
    truncate_dim: int = 0
    activation: str | None = None  # of a cross-encoder's scores, the name of torch's class; None: no file says it
    wrong: list[str] = field(default_factory=list)

    @property
    def embeds(self) -> bool:
        """Whether sentence-transformers pools, and so takes the encoder alone, whatever head was saved with it."""
        return self.given and not self.classifies


def read_modules(source: str) -> Modules:
    """Read modules.json and what belongs to it; a folder without one is a transformer whose mean is taken.

    :raises LocalConfigError: a file is damaged.
    """
    path = find(source, INDEX)
    if path is None:
        return _without_index(source)
    modules = Modules(given=True)
    rows = read_json(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise LocalConfigError(f"{path}: want a list of modules, got something else; save the model again")
    for place, row in enumerate(rows):
        _read_module(source, modules, place, row)
    if not modules.classifies and len(rows) == 1:
        modules.wrong.append("modules.json: want a Pooling behind the Transformer, got none; add one, and save again")
    _read_prompts(modules, find_object(source, "config_sentence_transformers.json"))
    return modules


def _without_index(source: str) -> Modules:
    modules = Modules()
    _read_pooling(modules, find_object(source, "1_Pooling/config.json"), "1_Pooling")
    if modules.pooling != ("mean",) or not modules.include_prompt:
        modules.wrong.append(
            "modules.json: want it beside 1_Pooling, which asks for more than a mean, got none; fetch the whole folder"
        )
    return modules


def _kind(row: Mapping[str, Any]) -> str:
    """The name of a module's class, "" if it is none of sentence-transformers' own."""
    found = re.fullmatch(r"sentence_transformers\.(?:\w+\.)*(\w+)", str(row.get("type")))
    return found[1] if found else ""


def _read_module(source: str, modules: Modules, place: int, row: Mapping[str, Any]) -> None:
    kind, folder = _kind(row), row.get("path")
    if not isinstance(folder, str) or not is_below(folder):
        modules.wrong.append(f"modules.json: want the path of a sub-folder, got {folder!r}; save the model again")
        return
    values, classifies = find_object(source, within(folder, "config.json")), modules.classifies
    where = f"{kind} (module {place})"
    if ORDER.get(place, kind) != kind or (kind in ORDER.values() and place not in ORDER) or (place and classifies):
        modules.wrong.append(
            f"modules.json: want {'a Transformer alone' if classifies else PIPELINE}, got {row.get('type')} as module "
            f"{place}; train without it"
        )
    elif kind == "Transformer":
        modules.folder = folder
        _read_transformer(modules, _sentence_config(source, folder))
    elif kind == "Pooling":
        _read_pooling(modules, values, where)
    elif modules.normalize and kind != "Normalize":
        modules.wrong.append(f"{where}: want Normalize last, got {kind} behind it; train without the first Normalize")
    elif kind == "Dense":
        modules.wrong += _read_dense(modules, values, where, folder)
    elif kind == "Normalize":
        modules.wrong += _ports(values, where)
        modules.normalize = True
    elif kind != "Dropout":  # which does nothing outside training
        modules.wrong.append(f"modules.json: want {PIPELINE}, got {row.get('type')}; train without it")


def _sentence_config(source: str, folder: str) -> dict[str, Any]:
    found = (find_object(source, within(folder, name)) for name in SENTENCE_CONFIGS)
    return next((values for values in found if values), {})


def _read_transformer(modules: Modules, values: Mapping[str, Any]) -> None:
    wrong = modules.wrong
    task = values.get("transformer_task", EMBEDDING_TASK)
    if task not in TEXT_MODALITY:
        wrong.append(
            f"transformer_task: want {EMBEDDING_TASK} or {CLASSIFIER_TASK}, got {task}; save an encoder or a classifier"
        )
        return
    modules.classifies = task == CLASSIFIER_TASK
    if values.get("modality_config", TEXT_MODALITY[task]) != TEXT_MODALITY[task]:
        wrong.append(f"modality_config: want texts alone, got {values['modality_config']}; save a model of texts")
    for name in ARGUMENTS:
        if more := {key: value for key, value in (values.get(name) or {}).items() if key not in PRECISION}:
            wrong.append(f"{name}: want none, got {', '.join(more)}; put them into config.json or the tokenizer's file")
    for name in QUERIES:
        if values.get(name) is not None:
            wrong.append(f"{name}: want none, got {values[name]}; save the model without")
    length, lower = values.get("max_seq_length"), values.get("do_lower_case", False)
    if length is not None and (type(length) is not int or length < LEAST_LENGTH):
        wrong.append(f"max_seq_length: want a whole number of at least {LEAST_LENGTH}, got {length!r}; correct it")
    elif type(lower) is not bool:
        wrong.append(f"do_lower_case: want true or false, got {lower!r}; correct it")
    else:
        modules.max_length, modules.lower_case = length, lower


def _read_pooling(modules: Modules, values: Mapping[str, Any], where: str) -> None:
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt", *LEGACY_POOLINGS}
    if more := sorted(set(values) - known):
        modules.wrong.append(
            f"{where}: want the settings of a Pooling, got {', '.join(more)}; save it by sentence-transformers 6"
        )
        return
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [kind for name, kind in LEGACY_POOLINGS.items() if values.get(name)] or ["mean"]
    kinds = [modes] if isinstance(modes, str) else modes
    if not isinstance(kinds, list) or not kinds or any(kind not in POOLINGS for kind in kinds):
        modules.wrong.append(f"{where}: want {' or '.join(POOLINGS)}, got {modes}; train with one of these")
        return
    modules.pooling = tuple(kinds)
    modules.columns = values.get("embedding_dimension", values.get("word_embedding_dimension"))
    modules.include_prompt = values.get("include_prompt", True) is not False


def _ports(values: Mapping[str, Any], where: str) -> Iterator[str]:
    """A module that reads or writes anything but the sentence's vector."""
    for name in ("module_input_name", "module_output_name"):
        if values.get(name) not in (None, SENTENCE):
            yield f"{where}: want {name} {SENTENCE}, got {values[name]}; train a module that takes the pooled vector"


def _read_dense(modules: Modules, values: Mapping[str, Any], where: str, folder: str) -> Iterator[str]:
    yield from _ports(values, where)
    known = {"in_features", "out_features", "bias", "activation_function", "use_residual"}
    if more := sorted(set(values) - known - {"module_input_name", "module_output_name"}):
        yield f"{where}: want the settings of a Dense, got {', '.join(more)}; save it by sentence-transformers 6"
    if values.get("use_residual"):
        yield f"{where}: want no residual, got use_residual; train one without"
    name = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    if name not in ACTIVATIONS:
        yield f"{where}: want activation_function Tanh or Identity, got {name}; train with one of these"
    rows, columns = values.get("in_features"), values.get("out_features")
    if type(rows) is not int or type(columns) is not int or rows < 1 or columns < 1:
        yield f"{where}: want in_features and out_features of at least 1, got {rows!r} and {columns!r}; save it again"
    elif name in ACTIVATIONS:
        bias = values.get("bias", True) is not False
        modules.dense.append(DenseModule(folder, rows, columns, bias, ACTIVATIONS[name]))


def _read_prompts(modules: Modules, values: Mapping[str, Any]) -> None:
    kind, wanted = values.get("model_type"), "CrossEncoder" if modules.classifies else "SentenceTransformer"
    if kind not in (None, wanted):
        modules.wrong.append(f"model_type of sentence-transformers: want {wanted}, got {kind}; save it as one")
    size = values.get("truncate_dim")
    if size is not None and (type(size) is not int or size < 1):
        modules.wrong.append(f"truncate_dim: want a whole number of at least 1, got {size!r}; correct it")
    else:
        modules.truncate_dim = size or 0
    if modules.classifies:
        modules.activation = values.get("activation_fn")
    prompts, name = values.get("prompts") or {}, values.get("default_prompt_name")
    if name is None:
        return
    prompt = prompts.get(name, "" if name in ("query", "document") else None) if isinstance(prompts, dict) else None
    if not isinstance(prompt, str):
        modules.wrong.append(
            f"default_prompt_name: want one of {', '.join(prompts) or 'no prompts'}, got {name}; correct it in "
            "config_sentence_transformers.json"
        )
    else:
        modules.prompt = prompt
