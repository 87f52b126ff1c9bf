"""A made-up separable task in SST-2's format, and a small random BERT and MPNet with tokenizers for it."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, MPNetConfig, MPNetModel, MPNetTokenizerFast

GOOD, BAD = ("fine", "bright", "lovely"), ("dull", "stale", "awful")
PLAIN = ("the", "a", "film", "plot", "actor", "was", "with", "scene", "story", "and", "its", "music")


def write_reviews(folder: Path, train: int = 240, dev: int = 60) -> Path:
    """Texts of 3 to 12 plain words with one good or one bad word among them, which is the label."""
    generator = random.Random(5)
    for name, count in (("train", train), ("dev", dev)):
        lines = ["sentence\tlabel"]
        for _ in range(count):
            label = generator.randrange(2)
            words = generator.choices(PLAIN, k=generator.randint(2, 11))
            words.insert(generator.randrange(len(words)), generator.choice(GOOD if label else BAD))
            lines.append(f"{' '.join(words)}\t{label}")
        (folder / "SST-2").mkdir(parents=True, exist_ok=True)
        (folder / "SST-2" / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def save_small_bert(folder: Path) -> Path:
    """Two layers of 32, random: an encoder without a head, as pretrained ones are."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PLAIN, *GOOD, *BAD]
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def save_small_mpnet(folder: Path) -> Path:
    """The same of an MPNet, whose tokenizer has no types."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *PLAIN, *GOOD, *BAD]
    torch.manual_seed(3)
    config = MPNetConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=34, initializer_range=0.2,
    )  # fmt: skip
    MPNetModel(config).save_pretrained(folder)
    MPNetTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder
