"""From labels of tokens to entities of a text, by the rules of transformers' `pipeline("token-classification")`.

Labels that begin with "B-" start an entity; "I-" and all others go on with one of the same kind. "O" is none.

    none     every token by itself
    simple   neighbours of one kind together
    first, average, max   first each word gets one label: that of its first token; that of the mean of its tokens'
             probabilities; that of its likeliest token
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.view import Aggregation, Known

OUTSIDE = "O"  # the label of what is no entity


@dataclass(frozen=True, slots=True)
class Entity:
    """A part of a text, text[start:end], and its label; `score` is its probability, None if only labels were asked."""

    label: str
    score: float | None
    text: str = field(repr=False)
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """One token, or a word: the probability of each label, and where it is."""

    chances: Tensor
    start: int
    end: int
    within: bool = False  # it goes on with the word of the token before

    @property
    def label(self) -> int:
        return int(self.chances.argmax())

    @property
    def score(self) -> float:
        return float(self.chances.max())


def check_one(text: object) -> None:
    """:raises LocalInputError: it is a pair: nobody could tell in which of the two an entity is."""
    if not isinstance(text, str):
        raise LocalInputError("want one text to tag, got a pair")


def entities(
    names: Sequence[str], values: Tensor, known: Known, aggregation: Aggregation = "simple", *, labels: bool = False
) -> list[Entity]:
    """What a text's logits [n, labels], or with `labels` its one-hot rows, say; rows behind the text do not count.

    :raises LocalInputError: the tokenizer does not tell where its tokens are, or the text is a pair.
    """
    check_one(known.text)
    chances = values if labels else values.softmax(-1)
    pieces = list(_tokens(chances, known))
    if aggregation not in ("none", "simple"):
        pieces = [_word(group, aggregation) for group in _words(pieces)]
    groups = [[piece] for piece in pieces] if aggregation == "none" else _alike(names, pieces)
    found = []
    for group in groups:
        name = names[group[0].label]
        if aggregation != "none":
            name = name.split("-", 1)[-1]
        if name != OUTSIDE:
            start, end = group[0].start, group[-1].end
            score = None if labels else sum(piece.score for piece in group) / len(group)
            found.append(Entity(name, score, str(known.text)[start:end], start, end))
    return found


def _tokens(chances: Tensor, known: Known) -> Iterator[_Piece]:
    """The tokens of the text itself."""
    encoding, tokenizer, text = known.encoding, known.tokenizer, str(known.text)
    parts = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for row, (id, token, (start, end), special) in zip(chances, parts, strict=False):
        if not special:
            within = id != tokenizer.unk_token_id and _within(tokenizer, token, text, start, end)
            yield _Piece(row, start, end, within)


def _within(tokenizer: Any, token: str, text: str, start: int, end: int) -> bool:
    """Whether a token goes on with a word: it is marked so ("##ing"), or no space is before it."""
    known = getattr(getattr(tokenizer, "_tokenizer", None), "model", None)
    if getattr(known, "continuing_subword_prefix", None):
        return len(token) != end - start
    return start > 0 and " " not in text[start - 1 : start + 1]


def _words(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    word: list[_Piece] = []
    for piece in pieces:
        if word and not piece.within:
            yield word
            word = []
        word.append(piece)
    if word:
        yield word


def _word(group: Sequence[_Piece], aggregation: Aggregation) -> _Piece:
    if aggregation == "first":
        chances = group[0].chances
    elif aggregation == "max":
        chances = max(group, key=lambda piece: piece.score).chances
    else:
        chances = torch.stack([piece.chances for piece in group]).mean(0)
    return _Piece(chances, group[0].start, group[-1].end)


def _alike(names: Sequence[str], pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Neighbours of one kind, but for one that starts anew."""
    groups = [[piece] for piece in pieces[:1]]
    for before, piece in pairwise(pieces):
        (starts, kind), (_, last) = _kind(names[piece.label]), _kind(names[before.label])
        if kind == last and not starts:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _kind(name: str) -> tuple[bool, str]:
    """Whether a label starts an entity, and of which kind it is."""
    return name.startswith("B-"), name[2:] if name.startswith(("B-", "I-")) else name
