"""Small seeded models in folders, as save_pretrained writes them, with tokenizers of many kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
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
]


def save_embedding(folder: Path, words: int = len(VOCABULARY), **sizes: Any) -> Path:
    """A BERT whose answers to different texts differ well, and a WordPiece tokenizer."""
    _save(BertModel, folder, words, sizes)
    save_words(folder)
    return folder


def save_classifier(folder: Path, labels: int, std: float = 0.25, **sizes: Any) -> Path:
    _save(BertForSequenceClassification, folder, len(VOCABULARY), {"num_labels": labels} | sizes, std)
    save_words(folder)
    return folder


def _save(kind: Any, folder: Path, words: int, more: dict[str, Any], std: float = 0.15) -> None:
    sizes = {
        "vocab_size": words, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128,
    }  # fmt: skip
    model = kind(BertConfig(**(sizes | more))).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.1 * noise if "LayerNorm.weight" in name else std * noise)
    model.save_pretrained(folder)


def save_words(folder: Path, **options: Any) -> None:
    BertTokenizerFast(vocab={word: place for place, word in enumerate(VOCABULARY)}, **options).save_pretrained(folder)


def save_word_level(folder: Path, *, pad: bool = True, cls: bool = True, sep: bool = True) -> None:
    """Whole words alone; with or without names for its special tokens, which its template adds all the same."""
    known = Tokenizer(models.WordLevel({word: place for place, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    known.normalizer, known.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    places = [("[CLS]", VOCABULARY.index("[CLS]")), ("[SEP]", VOCABULARY.index("[SEP]"))]
    known.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=places
    )
    names = {"pad_token": "[PAD]" if pad else None, "cls_token": "[CLS]" if cls else None}
    names |= {"sep_token": "[SEP]" if sep else None, "unk_token": "[UNK]"}
    given = {name: token for name, token in names.items() if token}
    PreTrainedTokenizerFast(tokenizer_object=known, **given).save_pretrained(folder)


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
