"""What a client knows of a text that it has asked about, and how it wants to see what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from mpcnet.errors import LocalInputError
from mpcnet.models.head_shape import Head
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Given, Row

Aggregation: TypeAlias = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True, slots=True)
class View:
    """How answers are shown: by which rule tokens become entities; how many tokens an answer in a context may have, and
    whether there may be none; how many words for a mask."""

    aggregation: Aggregation = "simple"
    max_answer_len: int = 15
    impossible: bool = False
    top: int = 5


VIEW = View()


OPTIONS: Mapping[str, Head] = {  # and the kind of model that each is for
    "question": "question-answering",
    "query": "classification",
    "aggregation": "token-classification",
    "max_answer_len": "question-answering",
    "impossible": "question-answering",
    "dim": "embedding",
    "top": "fill-mask",
}


@dataclass(frozen=True, slots=True)
class Choices:
    """What a command's options ask of answers; what is None was not asked for."""

    question: str | None = field(default=None, repr=False)
    query: str | None = field(default=None, repr=False)
    aggregation: Aggregation | None = None
    max_answer_len: int | None = None
    impossible: bool | None = None
    dim: int | None = None
    top: int | None = None

    @property
    def first(self) -> str | None:
        """A text that goes before every other."""
        return self.question if self.query is None else self.query

    def view(self, shape: BertShape) -> View:
        """How to show the answers of a model.

        :raises LocalInputError: an option is for another kind of model.
        """
        given = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}
        for name in given:
            if shape.head != OPTIONS[name]:
                option = name.replace("_", "-")
                raise LocalInputError(f"--{option}: want a model of {OPTIONS[name]}, got one of {shape.head}")
        if self.query is not None and shape.labels != 1:
            raise LocalInputError(f"--query: want a cross-encoder, which has one label, got {shape.labels} labels")
        of_view = {each.name for each in fields(View)}
        return View(**{name: value for name, value in given.items() if name in of_view})


NO_CHOICES = Choices()


def check_aggregation(wanted: object) -> None:
    """:raises LocalInputError: there is no such rule."""
    if wanted not in get_args(Aggregation):
        raise LocalInputError(f"aggregation: want {', '.join(get_args(Aggregation))}, got {str(wanted)[:20]!r}")


def check_count(name: str, wanted: object) -> None:
    """:raises LocalInputError: there cannot be so many of something."""
    if type(wanted) is not int or wanted < 1:
        raise LocalInputError(f"{name}: want a whole number of at least 1, got {str(wanted)[:20]!r}")


@dataclass(frozen=True, slots=True)
class Known:
    """A text, its tokens, and the tokenizer that made them; or a picture."""

    text: Given = field(repr=False)
    row: Row = field(repr=False)
    tokenizer: Any = field(repr=False)

    @property
    def encoding(self) -> Any:
        """Where in the text each token stands.

        :raises LocalInputError: the tokenizer does not tell.
        """
        if self.row.encoding is None:
            raise LocalInputError(
                f"tokenizer: want one that tells where its tokens are, got {type(self.tokenizer).__name__}; "
                "save it again as a fast tokenizer"
            )
        return self.row.encoding
