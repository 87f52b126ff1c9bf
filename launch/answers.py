"""Private answers beside the float model's: labels with or without probabilities, or the first values of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def table(texts: Sequence[str], document: Mapping[str, Any], private: Tensor, plain: Tensor) -> Table:
    """What a run's document has to say of each text."""
    if document["answer"] == "label":
        return labels(texts, document["labels"], document["plain_labels"])
    if "answers" in document:
        return probabilities(texts, document["answers"])
    return vectors(texts, private, plain)


def labels(texts: Sequence[str], private: Sequence[str], plain: Sequence[str]) -> Table:
    """One row a text: nothing but its label, which is all that the client learns."""
    made = Table(title="private label, all that the client learns, beside the float model's", title_justify="left")
    for column in ("text", "private", "float model", "same"):
        made.add_column(column)
    for text, mine, theirs in zip(texts, private, plain, strict=False):
        made.add_row(escape(text[:64]), escape(mine), escape(theirs), "yes" if mine == theirs else "no")
    return made


def probabilities(texts: Sequence[str], found: Sequence[dict[str, Any]]) -> Table:
    """One row a text."""
    made = Table(title="private answers beside the float model's", title_justify="left")
    for column in ("text", "private", "probability", "float model", "probability"):
        made.add_column(column, justify="right" if column == "probability" else "left")
    for text, row in zip(texts, found, strict=False):
        mine, theirs = f"{row['probability']:.4f}", f"{row['plain_probability']:.4f}"
        made.add_row(escape(text[:64]), escape(row["label"]), mine, escape(row["plain_label"]), theirs)
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
