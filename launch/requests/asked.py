"""What a command was asked: its texts in tokens, the errors of the others in their places, and the requests of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.entities import check_one
from mpcnet.launch.requests.spans import check_pair
from mpcnet.launch.requests.view import Known
from mpcnet.models.head_shape import Head
from mpcnet.models.picture import Picture
from mpcnet.models.texts.inputs import Entry, is_blank
from mpcnet.models.texts.tokens import Given, Reader, Row, Tokens

Check: TypeAlias = Callable[[Given], None]  # raises a LocalInputError if a model's head cannot take a text
Blank: TypeAlias = Literal["error", "empty"]  # what the answer to a blank line is
CHECKS: Mapping[Head, Check] = {"token-classification": check_one, "question-answering": check_pair}
LISTED = 3  # errors that a refusal shows
PAIR = (  # to a classifier a pair and a text with a tab in it are different things, and which was meant is not guessed
    "want one text, got a tab in it; pairs of texts are read with --pairs FILE --format tsv, "
    "a text that holds a tab from JSON lines"
)


def anything(text: Given) -> None:
    """No text is refused."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One of everything for each entry: its row of tokens, or None and the error ("" where a blank line may be)."""

    entries: Sequence[Entry]
    rows: Sequence[Row | None]
    errors: Sequence[str]
    reader: Reader = field(repr=False)

    @property
    def good(self) -> list[int]:
        """The places of the texts that can be asked."""
        return [place for place, row in enumerate(self.rows) if row is not None]

    @property
    def known(self) -> list[Known]:
        """What is known of each of those."""
        both = [(self.entries[place].text, self.rows[place]) for place in self.good]
        return [Known(text, row, self.reader.tokenizer) for text, row in both if text is not None and row is not None]

    @property
    def texts(self) -> list[Given]:
        """Those texts, or images."""
        return [text for place in self.good if (text := self.entries[place].text) is not None]

    def batches(self, size: int, length: int = 0) -> list[Tokens]:
        """Requests of `size` texts in their order, padded to the longest of each, or to `length`."""
        rows = [row for row in self.rows if row is not None]
        return [self.reader.pad(rows[start : start + size], length) for start in range(0, len(rows), size)]

    def in_place(self, answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to the good texts, and what stands in the place of the others."""
        found: list[dict[str, Any]] = [{"error": error} if error else {"empty": True} for error in self.errors]
        for place, answer in zip(self.good, answers, strict=True):
            row = self.rows[place]
            cut = {"cut_from": row.uncut, "tokens": len(row.ids)} if row is not None and row.uncut else {}
            found[place] = answer | cut
        return found

    def cuts(self) -> str:
        """Which texts lost tokens, for people; "" if none did."""
        names = [entry.where for entry, row in zip(self.entries, self.rows, strict=True) if row and row.uncut]
        most = self.reader.preprocessing.max_tokens if self.reader.preprocessing else 0
        return f"cut to {most} tokens, as the model's folder says: {listed(names)}" if names else ""

    def refused(self) -> str:
        """The errors, for people; "" if there are none."""
        return listed([error for error in self.errors if error], "; ")


def asking(entries: Sequence[Entry], first: str | None) -> Sequence[Entry]:
    """The texts as the second ones of pairs with `first`, a question or a query; as they are if there is none."""
    if first is None:
        return entries
    return [_behind(entry, first) for entry in entries]


def _behind(entry: Entry, first: str) -> Entry:
    if entry.text is None or is_blank(entry.text):
        return replace(entry, plain=False)
    if not isinstance(entry.text, str):
        got = "an image" if isinstance(entry.text, Picture) else "a pair"
        return replace(entry, text=None, error=f"want one text to go with it, got {got}")
    return replace(entry, text=(first, entry.text), plain=False)


def ask(entries: Sequence[Entry], reader: Reader, blank: Blank = "error") -> Asked:
    """Tokenise each text by itself.

    :raises LocalInputError: none of them can be asked.
    """
    rows: list[Row | None] = []
    errors = []
    for entry in entries:
        row, error = _read(entry, reader, blank)
        rows.append(row)
        errors.append(f"{entry.where}: {error}" if error else "")
    found = Asked(entries, rows, errors, reader)
    if not found.good:
        raise LocalInputError(found.refused() or f"{reader.noun}s: want at least one, got blank lines")
    return found


def _read(entry: Entry, reader: Reader, blank: Blank) -> tuple[Row | None, str]:
    if entry.text is None:
        return None, entry.error
    if blank == "empty" and is_blank(entry.text):
        return None, ""
    head = reader.shape.head if reader.shape is not None else "embedding"
    if head == "classification" and entry.plain and isinstance(entry.text, str) and "\t" in entry.text.strip():
        return None, PAIR
    try:
        CHECKS.get(head, anything)(entry.text)
        return reader.asked(entry.text), ""
    except LocalInputError as error:
        return None, str(error)


def listed(names: Sequence[str], between: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = f"{between}and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return between.join(names[:LISTED]) + more


def words(texts: Sequence[Given]) -> list[Entry]:
    """Texts or images from Python, numbered."""
    return [
        Entry(f"{'image' if isinstance(text, Picture) else 'text'} {number}", text)
        for number, text in enumerate(texts, 1)
    ]
