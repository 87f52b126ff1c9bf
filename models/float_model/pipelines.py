"""A model's folder, read a second time: what private answers are compared with.

Only for comparison, and on purpose apart from the code that makes the private program: a mistake in the reading of a
folder shows only if somebody else reads it too. Where sentence-transformers is installed it does so for its folders,
otherwise the lines below do. Without modules.json an embedding is the mean of the last hidden states.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.source import find, read_json
from mpcnet.models.texts.tokens import Text, parts

OLD_MODES = {  # the names of releases before 6, in the order in which their vectors are joined
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def root(origin: str, source: str) -> str:
    """The local folder that holds modules.json, of what was asked for and where the transformer lies."""
    index = find(origin, "modules.json") if Path(origin).is_dir() or HUB_NAME.fullmatch(origin) else None
    if index is not None:
        return str(index.parent)
    return origin if Path(origin).is_dir() else source


def has_modules(folder: str) -> bool:
    """Whether a folder is one of sentence-transformers'."""
    return find(folder, "modules.json") is not None


def installed() -> bool:
    """Whether sentence-transformers is here to read it."""
    return importlib.util.find_spec("sentence_transformers") is not None


def load_library(folder: str, arguments: Mapping[str, Any]) -> Any:
    """sentence-transformers' own model, of a transformer that is loaded with these arguments."""
    library = importlib.import_module("sentence_transformers")  # optional, so unknown to type checkers
    return library.SentenceTransformer(folder, device="cpu", model_kwargs=dict(arguments)).double()


def by_library(model: Any) -> Callable[[Text], Tensor]:
    """Its own `encode`."""

    def embed(text: Text) -> Tensor:
        found: Tensor = model.encode([text], convert_to_tensor=True, show_progress_bar=False)[0]
        return found.clone()

    return embed


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What modules.json and the files beside it say: of texts to tokens, and of hidden states to a vector."""

    folder: str
    rows: list[Mapping[str, Any]]
    settings: Mapping[str, Any]
    prompt: str
    size: int | None  # of the vector, which is cut there

    @classmethod
    def of(cls, folder: str) -> Pipeline:
        rows = _json(folder, "modules.json") or []
        inner = str(rows[0]["path"]) if rows else ""
        prompting = _json(folder, "config_sentence_transformers.json")
        prompt = (prompting.get("prompts") or {}).get(prompting.get("default_prompt_name"), "")
        return cls(
            folder, rows, _json(folder, str(PurePosixPath(inner, "sentence_bert_config.json"))), prompt if rows else "",
            prompting.get("truncate_dim") if rows else None,
        )  # fmt: skip

    def tokenised(self, tokenizer: Any, positions: int) -> Callable[[Text], Mapping[str, Tensor]]:
        """One text as [1, n] tensors: cut, lowered and with a prompt before it as the files say."""
        settings: dict[str, Any] = {}
        if self.rows:
            most = self.settings.get("max_seq_length") or min(tokenizer.model_max_length, positions)
            settings = {"truncation": "longest_first", "max_length": most}
        if self.settings.get("do_lower_case"):
            from mpcnet.models.preprocessing import lower_letters

            lower_letters(tokenizer)

        def tokens(text: Text) -> Mapping[str, Tensor]:
            first, *second = parts(text)
            found: Mapping[str, Tensor] = tokenizer(
                self.prompt + first, *second, return_tensors="pt", verbose=False, **settings
            )
            return found

        return tokens

    def vector(self, tokenizer: Any) -> Callable[[Tensor], Tensor]:
        """Hidden states [n, d] to the embedding.

        :raises LocalConfigError: a module is none of those that are known here.
        """
        steps: list[Callable[[Tensor], Tensor]] = [] if self.rows else [lambda hidden: hidden.mean(0)]
        for row in self.rows:
            kind, path = str(row["type"]).rpartition(".")[2], str(row["path"])
            if kind == "Pooling":
                steps.append(_pooling(_json(self.folder, f"{path}/config.json"), self._prompt_tokens(tokenizer)))
            elif kind == "Dense":
                steps.append(_dense(self.folder, path))
            elif kind == "Normalize":
                steps.append(lambda vector: nn.functional.normalize(vector, dim=0))
            elif kind not in ("Transformer", "Dropout"):
                raise LocalConfigError(f"{self.folder}: want a module known here, got {row['type']}")

        def embed(value: Tensor) -> Tensor:
            for step in steps:
                value = step(value)
            return value[: self.size]

        return embed

    def _prompt_tokens(self, tokenizer: Any) -> int:
        """Those before a text, without the special one at their end."""
        if not self.prompt:
            return 0
        ids = tokenizer(self.prompt, verbose=False)["input_ids"]
        return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def _pooling(config: Mapping[str, Any], prompt: int) -> Callable[[Tensor], Tensor]:
    """One text has no padding, so every row counts, but for a prompt's where they are to be left out."""
    modes = config.get("pooling_mode") or [mode for name, mode in OLD_MODES.items() if config.get(name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    start = 0 if config.get("include_prompt", True) else prompt

    def one(mode: str, hidden: Tensor) -> Tensor:
        places = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype)[start:]
        rows = hidden[start:]
        if mode == "weightedmean":
            return places @ rows / places.sum()
        known: Mapping[str, Callable[[], Tensor]] = {
            "cls": lambda: rows[0],
            "lasttoken": lambda: rows[-1],
            "max": lambda: rows.max(0).values,
            "mean": lambda: rows.mean(0),
            "mean_sqrt_len_tokens": lambda: rows.sum(0) / len(rows) ** 0.5,
        }
        if mode not in known:
            raise LocalConfigError(f"pooling: want one of {', '.join(OLD_MODES.values())}, got {mode}")
        return known[mode]()

    return lambda hidden: torch.cat([one(mode, hidden) for mode in modes])


def _dense(folder: str, path: str) -> Callable[[Tensor], Tensor]:
    from safetensors.torch import load_file

    config = _json(folder, f"{path}/config.json")
    tensors = find(folder, f"{path}/model.safetensors")
    if tensors is not None:
        values = load_file(tensors)
    else:
        values = torch.load(str(find(folder, f"{path}/pytorch_model.bin")), weights_only=True, map_location="cpu")
    weight = values["linear.weight"].double()
    bias = values["linear.bias"].double() if config.get("bias", True) else torch.zeros(len(weight), dtype=torch.float64)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    kind = getattr(nn, name.rpartition(".")[2], None)
    if not (name.startswith("torch.nn.") and isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise LocalConfigError(f"{folder}/{path}: want an activation_function of torch.nn, got {name}")
    activation: nn.Module = kind()
    return lambda vector: activation(weight @ vector + bias)


def _json(folder: str, name: str) -> Any:
    """What a JSON file holds; nothing if there is none."""
    path = find(folder, name)
    return read_json(path) if path else {}
