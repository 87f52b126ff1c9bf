"""A sentence-transformers folder, read a second time: what private embeddings are compared with.

Only for comparison, and on purpose apart from the code that makes the private program: a mistake in the reading of a
folder shows only if somebody else reads it too. Where sentence-transformers is installed it does so, otherwise the
lines below do. Without modules.json an embedding is the mean of the last hidden states.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from models.text import Text, parts
from mpcnet.errors import LocalConfigError

Hidden: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor]  # of one text's tokens, [1, n] each: [1, n, hidden]
OLD_MODES = {  # the names of releases before 6, in the order in which their vectors are joined
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def has_modules(source: str) -> bool:
    """Whether a folder or hub name is one of sentence-transformers'."""
    return _path(source, "modules.json") is not None


def installed() -> bool:
    """Whether sentence-transformers is here to read it."""
    return importlib.util.find_spec("sentence_transformers") is not None


def by_library(source: str, softmax: str) -> Callable[[Text], Tensor]:
    """sentence-transformers' own `encode` in float64; `softmax` names the attention that transformers is to use."""
    library = importlib.import_module("sentence_transformers")  # optional, so unknown to type checkers
    kwargs = {"dtype": torch.float64} | ({"attn_implementation": softmax} if softmax else {})
    model = library.SentenceTransformer(source, device="cpu", model_kwargs=kwargs).double()

    def embed(text: Text) -> Tensor:
        found: Tensor = model.encode([text], convert_to_tensor=True, show_progress_bar=False)[0]
        return found.double()

    return embed


def by_hand(source: str, tokenizer: Any, hidden: Hidden) -> Callable[[Text], Tensor]:
    """The modules one after the other, behind the hidden states of transformers' model.

    :raises LocalConfigError: a module is none of those below.
    """
    rows: list[dict[str, Any]] = _json(source, "modules.json") if has_modules(source) else []
    settings = _json(source, "sentence_bert_config.json")
    prompting = _json(source, "config_sentence_transformers.json")
    prompt = (prompting.get("prompts") or {}).get(prompting.get("default_prompt_name"), "")
    cut: dict[str, Any] = {}
    if rows and (most := settings.get("max_seq_length")):
        cut = {"truncation": "longest_first", "max_length": most}
    pool: Callable[[Tensor], Tensor] = _mean
    after: list[Callable[[Tensor], Tensor]] = []
    for row in rows:
        kind = str(row["type"]).rpartition(".")[2]
        if kind == "Pooling":
            pool = _pooling(_json(source, f"{row['path']}/config.json"), prompt)
        elif kind == "Dense":
            after.append(_dense(source, str(row["path"])))
        elif kind == "Normalize":
            after.append(lambda vector: nn.functional.normalize(vector, dim=0))
        elif kind != "Transformer":
            raise LocalConfigError(f"{source}: want Transformer, Pooling, Dense or Normalize, got {row['type']}")
    if rows and settings.get("do_lower_case"):
        from models.preprocessing import lower_letters

        lower_letters(tokenizer)

    def embed(text: Text) -> Tensor:
        first, *second = parts(text)
        given = tokenizer(prompt + first, *second, return_tensors="pt", verbose=False, **cut)
        vector = pool(hidden(given)[0])
        for step in after:
            vector = step(vector)
        return vector

    return embed


def _mean(hidden: Tensor) -> Tensor:
    """[n, hidden] to [hidden]."""
    return hidden.mean(0)


def _pooling(config: Mapping[str, Any], prompt: str) -> Callable[[Tensor], Tensor]:
    """One text has no padding, so every row counts."""
    modes = config.get("pooling_mode") or [mode for name, mode in OLD_MODES.items() if config.get(name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if prompt and not config.get("include_prompt", True):
        raise LocalConfigError("pooling: want include_prompt true beside a default prompt, got false")

    def one(mode: str, hidden: Tensor) -> Tensor:
        count = len(hidden)
        if mode == "cls":
            return hidden[0]
        if mode == "lasttoken":
            return hidden[-1]
        if mode == "max":
            return hidden.max(0).values
        if mode == "weightedmean":
            weights = torch.arange(1, count + 1, dtype=hidden.dtype)
            return weights @ hidden / weights.sum()
        if mode in ("mean", "mean_sqrt_len_tokens"):
            return hidden.sum(0) / (count if mode == "mean" else count**0.5)
        raise LocalConfigError(f"pooling: want one of {', '.join(OLD_MODES.values())}, got {mode}")

    return lambda hidden: torch.cat([one(mode, hidden) for mode in modes])


def _dense(source: str, path: str) -> Callable[[Tensor], Tensor]:
    from safetensors.torch import load_file

    config = _json(source, f"{path}/config.json")
    tensors = _path(source, f"{path}/model.safetensors")
    if tensors is not None:
        values = load_file(tensors)
    else:
        values = torch.load(str(_path(source, f"{path}/pytorch_model.bin")), weights_only=True, map_location="cpu")
    weight = values["linear.weight"].double()
    bias = values["linear.bias"].double() if config.get("bias", True) else torch.zeros(len(weight), dtype=torch.float64)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    kind = getattr(nn, name.rpartition(".")[2], None)
    if not (name.startswith("torch.nn.") and isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise LocalConfigError(f"{source}/{path}: want an activation_function of torch.nn, got {name}")
    activation: nn.Module = kind()
    return lambda vector: activation(weight @ vector + bias)


def _path(source: str, name: str) -> Path | None:
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(source, name)
    except OSError:  # it has none
        return None
    return Path(found) if found else None


def _json(source: str, name: str) -> Any:
    """What a JSON file holds; nothing if there is none."""
    path = _path(source, name)
    return json.loads(path.read_text("utf-8")) if path else {}
