"""Small seeded models in folders, with tokenizers of their own: what `save_pretrained` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
WORDS = [*SPECIAL, *LETTERS, *(f"##{x}" for x in LETTERS[:36]), "the", "cat", "ship", "bad", "sings", "old"]
ATOMS = "CNOcno123()=#.>"


def save_model(folder: Path, *, seed: int = 0, std: float = 0.08, words: int = len(WORDS), **config: Any) -> None:
    """A BERT of two narrow layers, its weights N(0, std^2), LayerNorms around one."""
    sizes = {"vocab_size": words, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64, "max_position_embeddings": 64}  # fmt: skip
    model = BertModel(BertConfig(**(sizes | config))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.1 * noise if "LayerNorm.weight" in name else std * noise)
    model.save_pretrained(folder)


def save_words(folder: Path) -> None:
    """A WordPiece tokenizer that can spell any Latin word."""
    BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)


def save_atoms(folder: Path) -> None:
    """A tokenizer of molecules: it finds nothing in many English words."""
    words = [*SPECIAL, *ATOMS]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[CNOcno123()=#.>]"), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))],
    )  # fmt: skip
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
