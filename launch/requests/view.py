"""What a client knows of a text that it has asked about, and how it wants to see what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from mpcnet.errors import LocalInputError
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Row, Text

Aggregation: TypeAlias = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True, slots=True)
class View:
    """How answers are shown: by which rule tokens become entities."""

    aggregation: Aggregation = "simple"


VIEW = View()


def view_of(shape: BertShape, aggregation: Aggregation | None = None) -> View:
    """As options of a command ask for it; what is None was not asked for.

    :raises LocalInputError: an option is for another kind of model.
    """
    if aggregation is not None and shape.head != "token-classification":
        raise LocalInputError(f"--aggregation: want a model that labels tokens, got one of {shape.head}")
    return View(aggregation or VIEW.aggregation)


def check_aggregation(wanted: object) -> None:
    """:raises LocalInputError: there is no such rule."""
    if wanted not in get_args(Aggregation):
        raise LocalInputError(f"aggregation: want {', '.join(get_args(Aggregation))}, got {str(wanted)[:20]!r}")


@dataclass(frozen=True, slots=True)
class Known:
    """A text, its tokens, and the tokenizer that made them."""

    text: Text = field(repr=False)
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
