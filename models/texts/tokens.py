"""Texts to token ids with the model's own tokenizer, prepared as its folder says: the one place that does it.

Runs at the client: ids are secret, lengths and masks are not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.picture import Picture
from mpcnet.models.pooling import check_pooled
from mpcnet.models.preprocessing import Preprocessing, lower_letters
from mpcnet.models.shape import BertShape

Text: TypeAlias = "str | tuple[str, str]"
Given: TypeAlias = "Text | Picture"  # what a model is asked about


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A padded batch, int64 [batch, seq] each: ids; types (0 first text, 1 second); mask (1 token, 0 padding).

    places [batch, count] are those of masks to fill, each row's last one said again where it has fewer than others.
    Of images `ids` are the rows themselves, float [batch, seq, columns]: a patch's pixels, zeros before the patches.
    """

    ids: Tensor = field(repr=False)
    types: Tensor = field(repr=False)
    mask: Tensor
    places: Tensor | None = field(default=None, repr=False)

    def rows(self, rows: Sequence[int]) -> Tokens:
        """Some of the rows, padded to the longest of them."""
        chosen = torch.as_tensor(rows)
        width = int(self.mask[chosen].sum(1).max())
        places = None if self.places is None else self.places[chosen]
        return Tokens(self.ids[chosen, :width], self.types[chosen, :width], self.mask[chosen, :width], places)

    def part(self, rows: slice) -> Tokens:
        """Some of the rows, padded as they are."""
        places = None if self.places is None else self.places[rows]
        return Tokens(self.ids[rows], self.types[rows], self.mask[rows], places)


def first_said(places: Tensor) -> Tensor:
    """Bool [batch, count]: a place that is not the one before it again."""
    again = places[:, 1:] == places[:, :-1]
    return torch.cat([torch.ones_like(places[:, :1], dtype=torch.bool), ~again], 1)


@dataclass(frozen=True, slots=True)
class Row:
    """One text's tokens; `uncut` is how many there were, if some had to go, and 0 if none had.

    `encoding` says where in the text each of them is; None if the tokenizer does not. An image has rows of `pixels`,
    float [seq, columns], and no ids but 0.
    """

    ids: list[int] = field(repr=False)
    types: list[int] = field(repr=False)
    uncut: int = 0
    places: tuple[int, ...] = field(default=(), repr=False)  # of masks, if they are to be filled
    encoding: Any = field(default=None, repr=False, compare=False)
    pixels: Tensor | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """A tokenizer, what its model's folder asks for, and what the model takes: `shape`, and `limit` tokens at most.

    Without a shape, ids and types are whatever the tokenizer gives.
    """

    tokenizer: Any = field(repr=False)
    limit: int
    preprocessing: Preprocessing | None = None
    shape: BertShape | None = None

    @classmethod
    def of(
        cls,
        tokenizer_dir: str | Path,
        limit: int,
        preprocessing: Preprocessing | None = None,
        shape: BertShape | None = None,
    ) -> Reader:
        """:raises LocalConfigError: there is no tokenizer in `tokenizer_dir`, or none that runs here."""
        if shape is not None and shape.image is not None:
            raise LocalConfigError(f"{tokenizer_dir}: want a model of texts, got one of images")
        tokenizer = load_tokenizer(tokenizer_dir)
        if preprocessing is not None and preprocessing.lower_case:
            lower_letters(tokenizer)
        return cls(tokenizer, limit, preprocessing, shape)

    @property
    def noun(self) -> str:
        """What it reads, for people."""
        return "text"

    def row(self, text: Given) -> Row:
        """One text, or a pair of texts, in tokens; cut, special tokens kept, if the model's folder says so.

        :raises LocalInputError: it has no tokens, too many, or some that the model has no row for; or it is a picture.
        """
        if isinstance(text, Picture):
            raise LocalInputError("want a text: this is a model of texts; got an image")
        given = self.prepared(text)
        try:
            for part in parts(text):
                self._check_words(part)
            row, uncut = self._cut(given)
        except LocalInputError:
            raise
        except Exception as error:  # the tokenizers library raises bare ones; their text may hold the user's
            raise LocalInputError(
                f"want a text that the tokenizer reads, got one with which it fails ({type(error).__name__})"
            ) from None
        if len(row["input_ids"]) > self.limit:
            raise LocalInputError(
                f"want at most {self.limit} tokens, got {len(row['input_ids'])}; shorten the text, or cut it in two"
            )
        encoding = (row.encodings or [None])[0]
        found = Row(
            row["input_ids"],
            row.get("token_type_ids") or [0] * len(row["input_ids"]),
            uncut,
            encoding=encoding,
        )
        return self._checked(found)

    def asked(self, text: Given) -> Row:
        """:meth:`row` of a text that a client asks about: it has a mask, if the model fills those.

        :raises LocalInputError: as :meth:`row`, or it has none.
        """
        found = self.row(text)
        if self.shape is not None and self.shape.fills and not found.places:
            raise LocalInputError(f"want a {self.tokenizer.mask_token or 'mask'} to fill, got a text without")
        return found

    def pad(self, rows: Sequence[Row], length: int = 0) -> Tokens:
        """The rows as a batch, padded behind their tokens to the longest, or to `length`."""
        width = max(length, *(len(row.ids) for row in rows))
        padding = self.tokenizer.pad_token_id or 0
        if self.shape is not None and padding >= self.shape.vocab:
            padding = 0  # it is masked, so any row of the table does

        def filled(values: Sequence[list[int]], by: int) -> Tensor:
            return torch.tensor([row + [by] * (width - len(row)) for row in values])

        mask = [[1] * len(row.ids) for row in rows]
        return Tokens(
            filled([row.ids for row in rows], padding),
            filled([row.types for row in rows], 0),
            filled(mask, 0),
            self._places(rows),
        )

    def _places(self, rows: Sequence[Row]) -> Tensor | None:
        if self.shape is None or not self.shape.fills:
            return None
        most = max(len(row.places) for row in rows)
        if not most:
            return None
        return torch.tensor([[*row.places, *row.places[-1:] * (most - len(row.places))] for row in rows])

    def prepared(self, text: Text) -> tuple[str, ...]:
        """The prompt in front of a text, or of the first of a pair; letters are lowered by the tokenizer."""
        first, *second = parts(text)
        return ((self.preprocessing.prompt if self.preprocessing else "") + first, *second)

    def _check_words(self, text: str) -> None:
        if not text.strip():
            raise LocalInputError("want words, got an empty text")
        if not self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]:
            raise LocalInputError("want words, got a text in which the tokenizer finds none")

    def _cut(self, given: tuple[str, ...]) -> tuple[Any, int]:
        """The tokens, and how many there were if some had to go."""
        row = self.tokenizer(*given, verbose=False)
        most = self.preprocessing.max_tokens if self.preprocessing else 0
        count = len(row["input_ids"])
        if not most or count <= most:
            return row, 0
        return self.tokenizer(*given, verbose=False, truncation="longest_first", max_length=most), count

    def _checked(self, row: Row) -> Row:
        """Ids and types that the model has rows for.

        Types are those the tokenizer gives unasked, as transformers takes them; a model without any needs none.
        """
        shape = self.shape
        if shape is None:
            return row
        check_pooled(shape, torch.ones(1, len(row.ids)))
        if shape.fills:
            mask = self.tokenizer.mask_token_id
            row = replace(row, places=tuple(place for place, id in enumerate(row.ids) if id == mask))
        if max(row.ids) >= shape.vocab:
            raise LocalInputError(
                f"want tokens of the model's {shape.vocab} rows, got number {max(row.ids)}: the tokenizer is none of "
                "these weights, or was added to without resizing their table"
            )
        if shape.skipped_positions and shape.skipped_positions - 1 in row.ids:  # MPNet gives padding no position
            raise LocalInputError("want a text without the padding token, got one that spells it")
        if not shape.types:
            return replace(row, types=[0] * len(row.ids))
        if max(row.types) >= shape.types:
            raise LocalInputError(f"want one text: the model has {shape.types} type(s) of token, got a pair")
        return row


def by_length(tokens: Tokens, size: int, limit: int) -> list[list[int]]:
    """The rows of at most `limit` tokens, shortest first, in groups of `size`: neighbours need little padding."""
    counts = tokens.mask.sum(1)
    fitting = [row for row in counts.argsort(stable=True).tolist() if counts[row] <= limit]
    return [fitting[start : start + size] for start in range(0, len(fitting), size)]


def encode(
    tokenizer_dir: str | Path,
    texts: Sequence[Text],
    limit: int,
    preprocessing: Preprocessing | None = None,
    shape: BertShape | None = None,
) -> Tokens:
    """Token ids of texts, or of pairs of texts, padded to the longest; see :class:`Reader`.

    :raises LocalInputError: no text, or one that :meth:`Reader.row` refuses (the error says which).
    :raises LocalConfigError: there is no tokenizer in `tokenizer_dir`.
    """
    return read_all(Reader.of(tokenizer_dir, limit, preprocessing, shape), texts)


def read_all(reader: Reader, given: Sequence[Given]) -> Tokens:
    """All of them, as one batch.

    :raises LocalInputError: there is none, or one that :meth:`Reader.row` refuses (the error says which).
    """
    if not given:
        raise LocalInputError(f"{reader.noun}s: want at least one, got none")
    rows = []
    for number, one in enumerate(given, 1):
        try:
            rows.append(reader.row(one))
        except LocalInputError as error:
            raise LocalInputError(f"{reader.noun} {number} of {len(given)}: {error}") from None
    return reader.pad(rows)


def parts(text: Text) -> tuple[str, ...]:
    """One text, or the two of a pair."""
    return (text,) if isinstance(text, str) else text


def load_tokenizer(tokenizer_dir: str | Path) -> Any:
    """The model's own tokenizer.

    :raises LocalConfigError: there is none, or none that runs here.
    """
    from transformers import AutoTokenizer  # two seconds to import: only who tokenises waits for it

    local = Path(tokenizer_dir).is_dir()
    try:
        return AutoTokenizer.from_pretrained(str(tokenizer_dir), local_files_only=local, trust_remote_code=False)
    except (OSError, ValueError) as error:
        _need_sentencepiece(Path(tokenizer_dir))
        raise LocalConfigError(f"{tokenizer_dir}: want a directory or hub name with a tokenizer, got none") from error
    except Exception as error:  # a damaged tokenizer.json, or a library that this kind of tokenizer needs
        said = next(iter(str(error).strip().splitlines()), "")
        raise LocalConfigError(
            f"{tokenizer_dir}: want a tokenizer that runs here, got {type(error).__name__}: {said}"
        ) from error


def _need_sentencepiece(folder: Path) -> None:
    """:raises LocalConfigError: there is a sentencepiece model alone, and a library that reads it is not installed."""
    models = sorted(path.name for path in folder.glob("*.model"))
    missing = [name for name in ("sentencepiece", "google.protobuf") if not _installed(name)]
    if models and missing and not (folder / "tokenizer.json").is_file():
        raise LocalConfigError(
            f"{folder}: want sentencepiece and protobuf for {models[0]}, got no {' and '.join(missing)}; run: pip "
            "install sentencepiece protobuf, or save tokenizer.json beside it"
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
