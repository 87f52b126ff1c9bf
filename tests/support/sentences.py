"""Small seeded folders as sentence-transformers saves them, and what it makes of texts by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizerFast

from mpcnet.models.preprocessing import Preprocessing, lower_letters
from mpcnet.models.texts.tokens import Tokens, load_tokenizer

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *[
        "the",
        "a",
        "old",
        "new",
        "Ship",
        "ship",
        "sails",
        "on",
        "river",
        "she",
        "reads",
        "letter",
        "query",
        ":",
        "warm",
        "cold",
        "winter",
        "and",
        "or",
    ],
)
TEXTS = ("the old ship sails on the river", "she reads a letter", "cold", "the Ship and the ship or a new ship")
HIDDEN = 32
KINDS = {
    "Transformer": "",
    "Pooling": "1_Pooling",
    "Dense": "{}_Dense",
    "Normalize": "{}_Normalize",
    "Dropout": "{}_Dropout",
}
HOMES = {kind: f"sentence_transformer.modules.{kind.lower()}" for kind in ("Pooling", "Dropout")}  # in release 6
TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"


def save_encoder(folder: Path, seed: int = 3, **tokenizer: Any) -> None:
    """A BERT whose attention is not flat, and a cased WordPiece tokenizer."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24,
    )  # fmt: skip
    model = BertModel(config)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, mean=float(name.endswith("LayerNorm.weight")), std=0.12)
    model.save_pretrained(folder)
    options = {"do_lower_case": False} | tokenizer
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, **options).save_pretrained(folder)


def save_modules(
    folder: Path, *after: tuple[str, dict[str, Any] | None], pooling: dict[str, Any] | None = None, release: int = 6
) -> None:
    """modules.json around an encoder: Transformer, Pooling, and `after` them modules with their configurations."""
    rows = []
    modules = [
        ("Transformer", None),
        ("Pooling", pooling or {"embedding_dimension": HIDDEN, "pooling_mode": "mean"}),
        *after,
    ]
    for place, (kind, config) in enumerate(modules):
        path = KINDS[kind].format(place)
        home = HOMES.get(kind, f"base.modules.{kind.lower()}")
        name = f"sentence_transformers.{home}.{kind}" if release >= 6 else f"sentence_transformers.models.{kind}"
        rows.append({"idx": place, "name": str(place), "path": path, "type": name})
        (folder / path).mkdir(exist_ok=True)
        if config is not None:
            (folder / path / "config.json").write_text(json.dumps(config))
        if kind == "Dense" and config is not None:
            save_dense(folder / path, config, seed=place)
    (folder / "modules.json").write_text(json.dumps(rows))


def save_dense(folder: Path, config: dict[str, Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = config["in_features"], config["out_features"]
    tensors = {"linear.weight": torch.randn(columns, rows, generator=generator) / rows**0.5}
    if config.get("bias", True):
        tensors["linear.bias"] = torch.randn(columns, generator=generator) * 0.1
    save_file(tensors, folder / "model.safetensors")


def dense(rows: int, columns: int, activation: str = TANH, **more: Any) -> tuple[str, dict[str, Any]]:
    return "Dense", {
        "in_features": rows,
        "out_features": columns,
        "bias": True,
        "activation_function": activation,
    } | more


def tokenise(folder: str | Path, preprocessing: Preprocessing, texts: Sequence[str]) -> Tokens:
    """As a client does it: prompt, letters, cut."""
    tokenizer = load_tokenizer(folder)
    if preprocessing.lower_case:
        lower_letters(tokenizer)
    made = tokenizer(
        [preprocessing.prompt + text for text in texts], padding=True, truncation=preprocessing.max_tokens > 0,
        max_length=preprocessing.max_tokens or None, return_tensors="pt", return_token_type_ids=True,
    )  # fmt: skip
    return Tokens(made["input_ids"], made["token_type_ids"], made["attention_mask"])


def hidden_states(folder: Path, texts: Sequence[str], prompt: str = "", limit: int | None = None) -> list[Tensor]:
    """transformers' own, of each text alone, [tokens, hidden] in float64."""
    tokenizer, model = load_tokenizer(folder), BertModel.from_pretrained(folder, dtype=torch.float64).eval()
    rows = [
        tokenizer(prompt + text, return_tensors="pt", truncation=limit is not None, max_length=limit) for text in texts
    ]
    with torch.inference_mode():
        return [model(**row).last_hidden_state[0] for row in rows]
