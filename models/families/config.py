"""The public description of a private model, and what its clients share: what all parties agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mpcnet.models.formats.fixed_point import PIXEL_BITS, PIXEL_FRAC, Formats
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape
from mpcnet.protocols.lookup import index_bits
from mpcnet.protocols.suites import Suite

Embedding: TypeAlias = Literal["private", "client"]
AnswerKind: TypeAlias = Literal["logits", "label"]  # what a client gets: all results, or which logit is the largest


@dataclass(frozen=True, slots=True)
class Input:
    """An array that a client shares: [B, n, *columns] in the ring of `bits`; or a number for each place, [B, count]."""

    bits: int
    frac: int = 0
    columns: tuple[int, ...] = ()
    of_places: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The public description of a private model: what all parties must agree on.

    `embedding` says who looks tokens up: the servers, in a private table, or the client, in a table that is public. Of
    images it is the servers, who multiply patches by a private matrix.
    `preprocessing` is how clients make tokens of texts; None for random weights, which have no tokenizer.
    `labels` are the names of a classifier's, for who gets its answers. `answers` are the kinds that the owner allows.
    `weights` is a hiding commitment to the weights (mpcnet.models.private.commitment), "" for none.
    """

    shape: BertShape
    formats: Formats
    suite: Suite
    embedding: Embedding = "private"
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    answers: tuple[AnswerKind, ...] = get_args(AnswerKind)
    weights: str = ""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a client shares for each token: its index and its type's, if there are several, or its embedding; or an
        image's pixels, a patch a row; and the places of masks, if it wants them filled.
        """
        if self.shape.image is not None:
            return (Input(PIXEL_BITS, PIXEL_FRAC, (self.shape.image.columns,)),)
        places = (Input(index_bits(self.shape.positions, short=True), of_places=True),) if self.shape.fills else ()
        if self.embedding == "client":
            return Input(self.formats.table_bits, self.formats.table_frac, (self.shape.embedded,)), *places
        words = Input(index_bits(self.shape.vocab))
        types = (Input(index_bits(self.shape.types, short=True)),) if self.typed else ()
        return words, *types, *places

    @property
    def typed(self) -> bool:
        """Whether servers look types up too. A single type is every token's: its row is added to each position's."""
        return self.embedding == "private" and self.shape.types > 1
