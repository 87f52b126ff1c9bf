"""Private answers beside the float model's: the labels of a classifier, or the first values of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor


def by_label(names: Sequence[str], private: Tensor, plain: Tensor) -> list[dict[str, Any]]:
    """The likelier label of each row of logits [B, labels] and its probability, private and plaintext."""
    found = []
    for mine, theirs in zip(private.softmax(1), plain.softmax(1), strict=True):
        row: dict[str, Any] = {"label": names[int(mine.argmax())], "probability": mine.max().item()}
        found.append(row | {"plain_label": names[int(theirs.argmax())], "plain_probability": theirs.max().item()})
    return found


def labels(texts: Sequence[str], found: Sequence[dict[str, Any]]) -> Table:
    """One row a text."""
    made = Table(title="private answers beside the float model's", title_justify="left")
    for column in ("text", "private", "probability", "float model", "probability"):
        made.add_column(column, justify="right" if column == "probability" else "left")
    for text, row in zip(texts, found, strict=False):
        mine, theirs = f"{row['probability']:.4f}", f"{row['plain_probability']:.4f}"
        made.add_row(escape(text[:64]), row["label"], mine, row["plain_label"], theirs)
    return made


def vectors(texts: Sequence[str], private: Tensor, plain: Tensor) -> Table:
    """One row for each of the first texts."""
    made = Table(title="private result beside the plaintext model's", title_justify="left")
    for column in ("text", "private (first values)", "plaintext", "cosine"):
        made.add_column(column)
    cosines = torch.cosine_similarity(private, plain, dim=1)
    for text, mine, theirs, cosine in zip(texts[:8], private, plain, cosines, strict=False):
        first = [" ".join(f"{value:+.4f}" for value in row[:4].tolist()) for row in (mine, theirs)]
        made.add_row(escape(text[:48]), *first, f"{cosine:.6f}")
    return made
