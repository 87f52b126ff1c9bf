"""GGUF: llama.cpp's files, dequantised, by the names that transformers gives a family's parameters.

Such a file has no activation, so the config.json of the original model is wanted beside it. What the file says itself
is held against that. Rows of queries and keys are as transformers has them: llama.cpp turns the halves of a head into
each other for all of these architectures, and its converter permutes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mpcnet.checked_json import MALFORMED
from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.config_values import config_values
from mpcnet.models.checkpoints.families import family_of
from mpcnet.models.checkpoints.families.family import HEADS_BY_ARCHITECTURE, Family
from mpcnet.models.checkpoints.gguf_limits import check_lengths
from mpcnet.models.checkpoints.tensors import Stored

OUTSIDE: Mapping[str, str] = {  # its names and ours, of all architectures
    "token_embd": "embedding.word",
    "position_embd": "embedding.position",
    "token_types": "embedding.type",
    "token_embd_norm": "embedding.norm",
    "output_norm": "final.norm",
    "cls": "pooler",
    "cls.norm": "pooler.norm",
    "cls.output": "classifier",
}
ATTENTION = ("query", "key", "value")
Modules: TypeAlias = Mapping[str, "str | tuple[str, ...]"]  # a tuple: of several of ours, one above the other
COMMON: Modules = {
    "attn_q": "query", "attn_k": "key", "attn_v": "value", "attn_qkv": ATTENTION, "attn_output": "out",
    "ffn_down": "down",
}  # fmt: skip
AFTER: Modules = {**COMMON, "attn_output_norm": "out.norm", "layer_output_norm": "down.norm"}


@dataclass(frozen=True, slots=True)
class Layout:
    """An architecture of llama.cpp: the families that its converter writes so, and a layer's modules by ours."""

    families: tuple[str, ...]
    inside: Modules


LAYOUTS: Mapping[str, Layout] = {
    "bert": Layout(
        ("bert", "distilbert", "roberta", "xlm-roberta", "camembert"), {**AFTER, "ffn_up": "up"}
    ),
    "nomic-bert": Layout(("nomic_bert",), {**AFTER, "ffn_gate": "up", "ffn_up": "gate"}),
    "modern-bert": Layout(
        ("modernbert",), {**COMMON, "attn_norm": "down.norm", "ffn_norm": "out.norm", "ffn_up": ("up", "gate")}
    ),
}  # fmt: skip
SINGLE = ("token_types.weight", "cls.output.weight")  # the converter drops the dimension of a single row
POOLINGS: Mapping[int, str] = {1: "mean", 2: "cls", 3: "lasttoken"}  # llama.cpp's numbers
SAME_MODEL = "take the config.json of the same model"
RANK = 4  # of a classifier, which pools nothing
NEAR = 1e-5  # of numbers that the file has as float32


@dataclass(frozen=True, slots=True, eq=False)
class GgufFile:
    """An open file: its metadata at once, its tensors when they are asked for."""

    path: Path
    reader: Any

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """:raises LocalConfigError: it is none, or cut off."""
        from gguf import GGUFReader  # an extra

        check_lengths(path)
        try:
            return cls(path, GGUFReader(path))
        except (ValueError, KeyError, IndexError, OSError, OverflowError, TypeError) as error:
            got = f"{type(error).__name__}"
            raise LocalConfigError(f"{path}: want a GGUF file, got {got}; fetch the model again") from error

    def value(self, name: str) -> Any:
        """A value of the metadata, None if there is none."""
        found = self.reader.get_field(name)
        return None if found is None else found.contents()

    def own(self, name: str) -> Any:
        """:meth:`value` of the file's own architecture."""
        return self.value(f"{self.value('general.architecture')}.{name}")

    def tensors(self, config: Mapping[str, Any]) -> dict[str, Stored]:
        """The tensors of the file, of any of its types, as the family that config.json names calls them.

        :raises LocalConfigError: it is of another architecture than that family's.
        """
        family, layout = self._layout(config)
        described = _described(config)
        heads = any(tensor.name.startswith("cls") for tensor in self.reader.tensors)
        found = {}
        for tensor in self.reader.tensors:
            size = tuple(int(n) for n in reversed(tensor.shape))
            size = (1, *size) if len(size) == 1 and tensor.name in SINGLE else size
            theirs = _theirs(tensor.name, family, layout)
            name = tensor.name if theirs is None else family.prefix * heads + theirs
            skipped = int(described.get("skipped_positions", 0))
            if tensor.name == "position_embd.weight" and size[0] == described.get("positions"):
                found[name] = Stored((skipped + size[0], *size[1:]), "F32", partial(_behind, tensor, size, skipped))
            else:
                found[name] = Stored(size, "F32", partial(_read, tensor, size))
        return found

    def pooling(self, config: Mapping[str, Any]) -> str | None:
        """How the file says that tokens are pooled; None if it does not, or of a classifier.

        :raises LocalConfigError: in a way that is not computed.
        """
        number = self.own("pooling_type")
        classifier = next(iter(HEADS_BY_ARCHITECTURE))
        names = config.get("architectures")
        ranks = isinstance(names, list) and any(str(name).endswith(classifier) for name in names)
        if number in (None, 0) or (number == RANK and ranks):
            return None
        if number not in POOLINGS:
            raise LocalConfigError(
                f"{self.path}: want pooling_type {', '.join(map(str, POOLINGS))}, got {number}; take the safetensors"
            )
        return POOLINGS[number]

    def differences(self, config: Mapping[str, Any]) -> Iterator[str]:
        """What config.json says otherwise than the file.

        :raises LocalConfigError: another family.
        """
        self._layout(config)
        known = _described(config)
        if not known:  # refused elsewhere, value by value
            return
        skipped, width = known.get("skipped_positions", 0), known["hidden"] // max(known["heads"], 1)
        windows, rotary = known.get("windows", ()), known.get("rotary", ())
        local = [base for base, window in zip(rotary, windows or [0] * len(rotary), strict=True) if window]
        everywhere = [base for base, window in zip(rotary, windows or [0] * len(rotary), strict=True) if not window]
        same: dict[str, tuple[str, Sequence[float]]] = {  # the file's name, ours, and the values that are right
            "block_count": ("num_hidden_layers", [known["layers"]]),
            "embedding_length": ("hidden_size", [known["hidden"]]),
            "feed_forward_length": ("intermediate_size", [known["ffn"]]),
            "attention.head_count": ("num_attention_heads", [known["heads"]]),
            "attention.head_count_kv": ("num_attention_heads", [known["heads"]]),
            "attention.key_length": ("hidden_size / num_attention_heads", [width]),
            "attention.value_length": ("hidden_size / num_attention_heads", [width]),
            "attention.layer_norm_epsilon": ("layer_norm_eps", [known["eps"]]),
            "attention.causal": ("is_decoder", [0]),
            "attention.max_alibi_bias": ("alibi", [0]),
        }
        if not rotary:  # RoBERTa's are stored from the first that a token has, CamemBERT's from the table's first row
            same["context_length"] = ("max_position_embeddings", [known["positions"], known["positions"] + skipped])
        else:
            same |= {
                "rope.dimension_count": ("hidden_size / num_attention_heads", [width]),
                "rope.freq_base": ("rope_theta", everywhere),
                "rope.freq_base_swa": ("rope_theta of local layers", local),
                "attention.sliding_window": (
                    "local_attention",
                    [x for most in windows for x in (2 * most, 2 * most + 1)],
                ),
            }
        for name, (ours, right) in same.items():
            said = self.own(name)
            if said is not None and not any(np.isclose(float(said), want, rtol=NEAR, atol=0) for want in right):
                got = right[0] if right else "none"
                yield f"{ours}: want {said}, as {self.path.name} says, got {got}; {SAME_MODEL}"
        yield from self._other_angles(windows)

    def _other_angles(self, windows: Sequence[int]) -> Iterator[str]:
        scaling = self.own("rope.scaling.type")
        if scaling not in (None, "none"):
            yield f"{self.path.name}: want rotary positions as they are, got {scaling}; take a model that scales none"
        pattern = self.own("attention.sliding_window_pattern")
        if pattern is None or not windows:
            return
        every = isinstance(pattern, list)
        local = [bool(x) for x in pattern] if every else [i % int(pattern) != 0 for i in range(len(windows))]
        if local != [window > 0 for window in windows]:
            yield f"layer_types: want local windows as {self.path.name} has them, got others; {SAME_MODEL}"

    def _layout(self, config: Mapping[str, Any]) -> tuple[Family, Layout]:
        kind = self.value("general.architecture")
        if kind not in LAYOUTS:
            known = f"{', '.join(list(LAYOUTS)[:-1])} or {list(LAYOUTS)[-1]}"
            raise LocalConfigError(
                f"{self.path}: want general.architecture {known}, got {kind}; take the model's safetensors"
            )
        layout, named = LAYOUTS[kind], config.get("model_type")
        if named not in layout.families:
            known = " or ".join(layout.families)
            raise LocalConfigError(f"{self.path.name}: want model_type {known} of a {kind}, got {named}; {SAME_MODEL}")
        return family_of(config), layout


def _described(config: Mapping[str, Any]) -> dict[str, Any]:
    """The family's description of config.json; empty if it has none."""
    try:
        return family_of(config).describe(config_values(config))
    except (LocalConfigError, *MALFORMED):
        return {}


def _theirs(name: str, family: Family, layout: Layout) -> str | None:
    """What a family calls a parameter of the file; None where it has no such one, which is refused as unknown."""
    stem, _, leaf = name.rpartition(".")
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if found is None:
        module = _last(family.outside, OUTSIDE.get(stem))
    else:
        ours, number = layout.inside.get(found[2]), int(found[1])
        inside = (
            {theirs: parts for theirs, parts in family.joined.items()}
            if isinstance(ours, tuple)
            else {**family.inside, **family.behind}
        )
        module = _last(inside, ours)
        layer = family.layer.replace(r"(\d+)", str(number)).replace("\\", "")
        module = None if module is None else layer + module
    return None if module is None else f"{module}.{leaf}"


def _last(modules: Mapping[str, Any], ours: Any) -> str | None:
    """The last of those that are ours: of a head with a map of its own, that map."""
    return next((theirs for theirs, own in reversed(list(modules.items())) if own == ours), None)


def _read(tensor: Any, size: tuple[int, ...]) -> Tensor:
    from gguf.quants import dequantize

    try:
        values = dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise LocalConfigError(
            f"{tensor.name}: want a type that gguf dequantises, got {tensor.tensor_type.name}"
        ) from error
    return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(size)


def _behind(tensor: Any, size: tuple[int, ...], skipped: int) -> Tensor:
    """Positions behind those that no token has, of which only a padding token's are ever looked at, by nobody."""
    return torch.cat([torch.zeros(skipped, *size[1:]), _read(tensor, size)])
