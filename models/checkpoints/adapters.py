"""PEFT adapters: a LoRA beside its base model, or in a folder of its own that names the base, merged into the weights.

W + s B A in float64, s = alpha / r, or alpha / sqrt(r) with rslora. Tensors that were trained whole stand in the place
of the base's. A setting that would make another sum is refused. (LoRA: E. J. Hu et al., ICLR 2022; rslora: D.
Kalajdzievski, arXiv 2312.03732.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.plain_files import file_tensors
from mpcnet.models.checkpoints.source import find, find_object, need, read_object, within
from mpcnet.models.checkpoints.tensors import Stored
from mpcnet.models.checkpoints.weight_files import ADAPTER, ADAPTER_SETTINGS, has_weights, refuse_unread, stored_tensors

PREFIX = "base_model.model."
WITHOUT_EFFECT = {  # on what was trained: which layers it is of, how it was trained, by which release
    "peft_version", "inference_mode", "revision", "lora_dropout", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "ensure_weight_tying", "eva_config",
}  # fmt: skip
READ = {
    "peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "r", "lora_alpha", "use_rslora",
    "fan_in_fan_out", "bias", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "init_lora_weights",
}  # fmt: skip
INITIAL = (True, False, None, "gaussian", "eva")  # other ways to begin change the base's weights too
HEADS: Mapping[str, str] = {  # by task
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
MERGE = "merge it by PEFT's merge_and_unload(), and save the model"
FACTORS = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(\.weight|\.bias)?")
WRAPPERS = r"\.(base_layer|modules_to_save)\."
OWN = ("architectures", "id2label", "label2id", "num_labels", "problem_type")  # a fine-tuned model's beside its base's


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's settings and the place of its file; `base` is the folder or hub name of the weights it is added to,
    and `folder` where in it. `wrong` names what of it is not supported.
    """

    settings: Mapping[str, Any] = field(repr=False)
    source: str
    inner: str
    base: str
    folder: str
    wrong: tuple[str, ...] = ()


def read_adapter(source: str, folder: str) -> Adapter | None:
    """The adapter of a model's folder, if it has one. Weights beside it are its base's, whatever it names.

    :raises LocalConfigError: its settings are damaged, or there is no base.
    """
    path = find(source, within(folder, ADAPTER_SETTINGS))
    if path is None:
        return None
    settings = read_object(path)
    wrong = tuple(f"{ADAPTER_SETTINGS}: {text}; {MERGE}" for text in _unsupported(settings))
    if has_weights(source, folder):
        return Adapter(settings, source, folder, source, folder, wrong)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise LocalConfigError(f"{path}: want base_model_name_or_path, got {base!r}; put the base's folder there")
    if Path(source, folder).is_dir():
        refuse_unread(Path(source, folder), set(ADAPTER))
    return Adapter(settings, source, folder, base, "", wrong)


def _unsupported(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("peft_type") != "LORA":
        yield f"peft_type: want LORA, got {settings.get('peft_type')}"
        return
    for name, value in settings.items():
        if name not in WITHOUT_EFFECT | READ and value not in (None, False, {}, []):
            yield f"{name}: want none, got {str(value)[:80]}"
    if settings.get("init_lora_weights") not in INITIAL:
        yield f"init_lora_weights: want one that leaves the base as it is, got {settings['init_lora_weights']}"


@contextmanager
def adapted_tensors(adapter: Adapter) -> Iterator[dict[str, Stored]]:
    """The base's tensors with the adapter's merged into them, readable inside the block; what is merged is float64.

    :raises LocalConfigError: files are missing or damaged, or a tensor of the adapter belongs to none of the base's.
    """
    with stored_tensors(adapter.base, adapter.folder) as base, ExitStack() as stack:
        if adapter.wrong:
            yield base
            return
        path = need(adapter.source, *(within(adapter.inner, name) for name in ADAPTER))
        merging = _Merging(adapter, path, base)
        yield base | dict(merging.tensors(file_tensors(path, stack)))


def base_config(adapter: Adapter) -> dict[str, Any]:
    """The base's config.json, with the labels and the head that the adapter was trained for.

    :raises LocalConfigError: there is none, or one beside the adapter that is of another model.
    """
    config = read_object(need(adapter.base, within(adapter.folder, "config.json")))
    own = find_object(adapter.source, within(adapter.inner, "config.json"))
    for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        if name in own and own[name] != config.get(name):
            raise LocalConfigError(
                f"config.json: want {name} {config.get(name)}, as the adapter's base {adapter.base} has, got "
                f"{own[name]}; correct base_model_name_or_path"
            )
    config |= {name: own[name] for name in OWN if name in own}
    mapped = (adapter.settings.get("auto_mapping") or {}).get("base_model_class")
    head = HEADS.get(str(adapter.settings.get("task_type")))
    if isinstance(mapped, str):
        config["architectures"] = [mapped]
    elif head is not None:
        names = config.get("architectures") or []
        config["architectures"] = [re.sub(r"(Model|For\w+)$", head, str(name)) for name in names]
    return config


@dataclass(frozen=True, slots=True)
class _Merging:
    """An adapter's file, and the tensors that it is added to."""

    adapter: Adapter
    path: Path
    base: Mapping[str, Stored]

    def tensors(self, own: Mapping[str, Stored]) -> Iterator[tuple[str, Stored]]:
        """The tensors that are not the base's any more, by the base's names."""
        factors: dict[str, dict[str, Stored]] = {}
        for key, stored in own.items():
            name = key.removeprefix(PREFIX)
            if found := FACTORS.fullmatch(name):
                factors.setdefault(found[1], {})[found[2] + (found[3] or "").removesuffix(".weight")] = stored
            elif ".original_module." in name:  # what a trained module stands in the place of
                continue
            elif ".lora_" in name:
                raise LocalConfigError(f"{self.path}: want lora_A and lora_B, got {key}; {MERGE}")
            else:
                yield self._target(re.sub(WRAPPERS, ".", name), new=True), stored
        for module, parts in factors.items():
            name = self._target(f"{module}.weight")
            yield name, self._sum(module, self.base[name], parts)
            if "B.bias" in parts:
                name = self._target(f"{module}.bias")
                yield name, self._shifted(module, self.base[name], parts["A"].size[0], parts["B.bias"])

    def _target(self, name: str, *, new: bool = False) -> str:
        """The base's name of a tensor: either may have a head's or a wrapper's prefix, "bert." or "model."."""
        found = [key for key in self.base if f".{key}".endswith(f".{name}") or f".{name}".endswith(f".{key}")]
        if len(found) == 1 or (new and not found):
            return found[0] if found else name
        raise LocalConfigError(
            f"{self.path}: want one {name} in the base {self.adapter.base}, got {len(found)}; correct "
            "base_model_name_or_path"
        )

    def _scale(self, module: str, rank: int) -> float:
        settings = self.adapter.settings

        def of(name: str, patterns: str) -> Any:
            known = settings.get(patterns) or {}
            key = next((key for key in known if re.fullmatch(rf"(.*\.)?({key})", module)), None)
            return settings.get(name) if key is None else known[key]

        try:
            r, alpha = of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern")
        except re.error as error:
            raise LocalConfigError(
                f"{self.path}: want patterns of names, got {error}; correct {ADAPTER_SETTINGS}"
            ) from error
        if r != rank or type(alpha) not in (int, float):
            raise LocalConfigError(
                f"{self.path}: want rank {r} and a lora_alpha for {module}, got {rank} and {alpha}; take the "
                f"{ADAPTER_SETTINGS} that was saved with it"
            )
        return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)

    def _sum(self, module: str, weight: Stored, parts: Mapping[str, Stored]) -> Stored:
        embeds = "embedding_A" in parts
        down, up = (parts.get(f"embedding_{x}" if embeds else x) for x in "AB")
        transposed = embeds or bool(self.adapter.settings.get("fan_in_fan_out"))
        want = weight.size[::-1] if transposed else weight.size
        if (
            down is None or up is None or not len(want) == len(up.size) == len(down.size) == 2
            or (up.size[0], *down.size) != (want[0], up.size[1], want[1])
        ):  # fmt: skip
            sizes = [part.size if part else None for part in (up, down)]
            raise LocalConfigError(
                f"{self.path}: want lora_B and lora_A of {module} whose product is {list(want)}, got {sizes}; correct "
                "base_model_name_or_path"
            )
        scale = self._scale(module, down.size[0])

        def read() -> Tensor:
            product = up.read().double() @ down.read().double()
            return weight.read().double() + scale * (product.T if transposed else product)

        return Stored(weight.size, weight.type, read)

    def _shifted(self, module: str, bias: Stored, rank: int, more: Stored) -> Stored:
        scale = self._scale(module, rank)
        return Stored(bias.size, bias.type, lambda: bias.read().double() + scale * more.read().double())
