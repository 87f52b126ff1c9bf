"""Small seeded models in folders, as save_pretrained writes them, with tokenizers of many kinds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-.,!?"
VOCABULARY = [
    *SPECIAL,
    *LETTERS,
    *(f"##{x}" for x in LETTERS[:36]),
    "the",
    "dog",
    "cat",
    "eats",
    "sings",
    "not",
    "good",
    "bad",
    "old",
    "ship",
]
ATOMS = "CNOcno123()=#.>"


def save_embedding(folder: Path, **sizes: Any) -> Path:
    """A BERT whose answers to different texts differ well, and a WordPiece tokenizer."""
    save_weights(folder, **sizes)
    save_words(folder)
    return folder


def save_classifier(folder: Path, labels: int, std: float = 0.25, **sizes: Any) -> Path:
    save_weights(folder, BertForSequenceClassification, std=std, num_labels=labels, **sizes)
    save_words(folder)
    return folder


def save_head(folder: Path, kind: Any, std: float = 0.25, **sizes: Any) -> Path:
    """A model of another class, and a WordPiece tokenizer."""
    save_weights(folder, kind, std=std, **sizes)
    save_words(folder)
    return folder


def save_weights(
    folder: Path, kind: Any = BertModel, *, words: int = len(VOCABULARY), std: float = 0.15, seed: int = 7, **more: Any
) -> None:
    """A narrow BERT without a tokenizer, its weights N(0, std^2), LayerNorms around one."""
    sizes = {
        "vocab_size": words, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128,
    }  # fmt: skip
    model = kind(BertConfig(**(sizes | more))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.1 * noise if "LayerNorm.weight" in name else std * noise)
    model.save_pretrained(folder)


def save_words(folder: Path, **options: Any) -> None:
    BertTokenizerFast(vocab={word: place for place, word in enumerate(VOCABULARY)}, **options).save_pretrained(folder)


def save_word_level(folder: Path, *, pad: bool = True, cls: bool = True, sep: bool = True) -> None:
    """Whole words alone; with or without names for its special tokens, which its template adds all the same."""
    known = _whole(VOCABULARY)
    known.normalizer, known.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    names = {"pad_token": pad, "cls_token": cls, "sep_token": sep, "unk_token": True}
    _save_whole(folder, known, [name for name, named in names.items() if named])


def save_atoms(folder: Path) -> None:
    """A tokenizer of molecules: it finds nothing in many English words. Its words are SPECIAL and ATOMS."""
    known = _whole([*SPECIAL, *ATOMS])
    known.pre_tokenizer = pre_tokenizers.Split(Regex(r"[CNOcno123()=#.>]"), behavior="removed", invert=True)
    _save_whole(folder, known, ["pad_token", "cls_token", "sep_token", "unk_token"])


def _whole(words: Sequence[str]) -> Tokenizer:
    """One token a word, the first of them SPECIAL, of which two are set around a text."""
    known = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    known.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return known


def _save_whole(folder: Path, known: Tokenizer, named: Sequence[str]) -> None:
    names = {name: f"[{name.removesuffix('_token').upper()}]" for name in named}
    PreTrainedTokenizerFast(tokenizer_object=known, **names).save_pretrained(folder)


def add_word(folder: Path, word: str) -> None:
    """To the tokenizer, not to the model's table."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(folder)


def layout(folder: Path, *kinds: str, pooling: Any = "mean", **files: dict[str, Any]) -> None:
    """What sentence-transformers adds: modules after Transformer and Pooling, and more files by name."""
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense", "Normalize": "3_Normalize"}
    rows = [
        {"idx": place, "name": str(place), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(("Transformer", "Pooling", *kinds))
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    config = {"embedding_dimension": 32, "pooling_mode": pooling, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config | files.pop("pooled", {})))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
