"""Private answers held against the published model: what it says, and which of them are not as near as they must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests import answers
from mpcnet.launch.requests.asked import Asked
from mpcnet.launch.requests.view import VIEW, Known, View
from mpcnet.models.families.config import AnswerKind, Config
from mpcnet.models.float_model import reference
from mpcnet.models.private.prepare import Prepared
from mpcnet.models.private.program import kind_of
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Given, Tokens

LEAST_COSINE = 0.999
MOST_DISTANCE = 0.05  # of an embedding, relative to its length: a vector of another length has the same cosine
ROUNDING = 0.05  # error of a logit that is rounding, of values up to 1; of larger ones in proportion: the
# shipped classifier's answers to the built-in texts are off by 0.02, of which its words' table of 16 bits makes 0.019


@dataclass(frozen=True, slots=True, repr=False)
class Plain:
    """What private answers [B, columns] must equal, and who computed it.

    With another softmax than the weights were trained with that is not the published model, which then stands in
    `published` [B, columns].
    """

    values: Tensor
    by: str
    published: Tensor | None = None
    published_by: str = ""


def plain(prepared: Prepared, texts: Sequence[Given] | None, batches: Sequence[Tokens], dim: int = 0) -> Plain:
    """The float model's answers in float64; `batches` are the tokens of the same texts, or all that there is.

    `dim` is how many columns of an embedding were asked for; 0: all.

    :raises LocalConfigError: transformers cannot load the folder.
    """
    made = _plain(prepared, texts, batches)
    if dim:
        first = None if made.published is None else first_columns(prepared.config, made.published, dim)
        return replace(made, values=first_columns(prepared.config, made.values, dim), published=first)
    if prepared.config.shape.tells_tokens:
        width = max(tokens.ids.shape[1] for tokens in batches)  # with the padding that the requests had
    elif prepared.config.shape.fills:
        width = max(tokens.places.shape[1] for tokens in batches if tokens.places is not None)
    else:
        return made
    theirs = None if made.published is None else _as_wide(made.published, width)
    return replace(made, values=_as_wide(made.values, width), published=theirs)


def check_one_row(shape: BertShape) -> None:
    """For benchmarks that hold one row of numbers a text against another.

    :raises LocalInputError: the model's answers have more.
    """
    if shape.tells_tokens or shape.fills:
        raise LocalInputError(f"bench: want a model of embeddings or a classifier of texts, got {kind_of(shape)}")


def first_columns(config: Config, vectors: Tensor, dim: int) -> Tensor:
    """Of embeddings [B, d]; of length 1 again, if the model's folder asks for that."""
    first = vectors[:, :dim]
    normal = config.preprocessing is not None and config.preprocessing.normalize
    return torch.nn.functional.normalize(first, dim=1) if normal else first


def _as_wide(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, width - values.shape[1]))


def _plain(prepared: Prepared, texts: Sequence[Given] | None, batches: Sequence[Tokens]) -> Plain:
    from mpcnet.models.float_model.huggingface import published  # transformers: only who compares waits for it

    found, used = prepared.checkpoint, prepared.config.formats.softmax
    own, activation = found.softmax or "exact", prepared.config.shape.activation
    if texts is None or found.shape.alibi:  # whose published code is none of transformers'
        return Plain(stacked([plain_answer(prepared, tokens) for tokens in batches]), "the float model")
    put_in = activation if activation != found.shape.activation else ""
    if used == own and not put_in:
        theirs = published(found, own)
        return Plain(theirs(texts), theirs.by)
    theirs = published(found, own)
    if put_in:
        here = stacked([plain_answer(prepared, tokens) for tokens in batches])
        kinds = f"{used} softmax" + (f" and {put_in}" if put_in else "")
        return Plain(here, f"the float model with {kinds}", theirs(texts), theirs.by)
    same = published(found, used)
    return Plain(same(texts), f"{same.by} with {used} softmax", theirs(texts), theirs.by)


def stacked(found: Sequence[Tensor]) -> Tensor:
    """Answers of batches [B, ...] in one; those of tokens [B, n, columns] with 0 behind the shorter ones."""
    return pad_sequence([row for rows in found for row in rows], batch_first=True)


def plain_answer(prepared: Prepared, tokens: Tokens) -> Tensor:
    """The folded float model's, with the same softmax."""
    config = prepared.config
    with torch.inference_mode():
        found = reference.answer(
            config.shape, prepared.folded, tokens.ids, tokens.types, tokens.mask, config.formats.softmax,
            places=tokens.places,
        )  # fmt: skip
        return found.double()


def differing(private: Tensor, plain: Tensor, answer: AnswerKind, classifies: bool) -> list[int]:
    """The rows that are wrong: beyond rounding for logits and labels, too far in angle or length for embeddings.

    `private` holds one-hot rows if the answer is a label; `plain` are logits or embeddings in any case. Logits of
    tokens are [B, n, columns], 0 at padding.
    """
    if answer == "label":
        short = plain.amax(-1) - (plain * private).sum(-1)
        good = short.reshape(len(plain), -1).amax(1) <= 2 * _rounding(plain)  # both logits may be off
    elif classifies:
        good = (private - plain).abs().flatten(1).amax(1) <= _rounding(plain)
    else:
        distance = (private - plain).norm(dim=1) / plain.norm(dim=1)
        good = (torch.cosine_similarity(private, plain, dim=1) >= LEAST_COSINE) & (distance <= MOST_DISTANCE)
    return (~good).nonzero()[:, 0].tolist()


def _rounding(logits: Tensor) -> Tensor:
    return ROUNDING * logits.abs().flatten(1).amax(1).clamp(min=1)


def findings(
    config: Config,
    kind: AnswerKind,
    private: Tensor,
    plain: Plain,
    out_of_range: Sequence[bool],
    accept: bool,
    found: Asked | None,
    view: View = VIEW,
) -> dict[str, Any]:
    """For a run's document: how near the answers are that are given out, which are wrong, and an entry for each text.

    Rows that are `outside` of their ranges are given out only if they are accepted, and are never called wrong.
    """
    names = [found.entries[place].where for place in found.good] if found else _numbered(len(private))
    shown = [row for row, left in enumerate(out_of_range) if not left or accept]
    checked = [row for row, left in enumerate(out_of_range) if not left]
    classifies = config.shape.head != "embedding"
    known: Sequence[Known | None] = found.known if found else [None] * len(private)
    wrong = differing(private[checked], plain.values[checked], kind, classifies)
    given = [
        answers.guarded(answers.beside(config, kind, mine, theirs, about, view), left, name, accept)
        for mine, theirs, left, name, about in zip(private, plain.values, out_of_range, names, known, strict=True)
    ]
    document = figures(config, kind, private[shown], plain.values[shown]) | {
        "sentences": len(private),
        "compared_with": plain.by,
        "wrong": [names[checked[row]] for row in wrong],
        "answers": found.in_place(given) if found else given,
    }
    if plain.published is None:
        return document
    # Another model than the one that is run: shown, and no error.
    theirs = figures(config, kind, private[shown], plain.published[shown])
    return document | {"published": {"by": plain.published_by} | theirs}


def _numbered(count: int) -> list[str]:
    return [f"text {number}" for number in range(1, count + 1)]


def figures(config: Config, kind: AnswerKind, private: Tensor, plain: Tensor) -> dict[str, Any]:
    """Labels side by side, or errors and cosines."""
    if kind == "label":
        there = private.amax(-1) > 0  # of tokens, those that are no padding
        return agreement(answers.names(config), private[there], plain[there])
    return accuracy(private.flatten(1), plain.flatten(1))


def accuracy(private: Tensor, plain: Tensor) -> dict[str, Any]:
    """Figures over all rows; of single scores no cosine, which would only be their sign."""
    cosines = torch.cosine_similarity(private, plain, dim=1) if len(private) and private.shape[1] > 1 else None
    return {
        "min_cosine": None if cosines is None else cosines.min().item(),
        "mean_cosine": None if cosines is None else cosines.mean().item(),
        "max_abs_error": (private - plain).abs().max().item() if len(private) else None,
    }


def agreement(names: Sequence[str], private: Tensor, plain: Tensor) -> dict[str, Any]:
    """Labels by name, of one-hot rows and of logits, and in how many texts they are the same."""
    mine, theirs = ([names[place] for place in rows.argmax(1).tolist()] for rows in (private, plain))
    same = sum(a == b for a, b in zip(mine, theirs, strict=True))
    return {"labels": mine, "plain_labels": theirs, "same_labels": same}
