"""From a caller's texts to requests: each text in tokens by itself, then cut by length and by what servers accept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mpcnet.errors import LocalInputError
from mpcnet.launch.party.upload import MAX_BATCH
from mpcnet.launch.requests.asked import listed
from mpcnet.models.picture import Picture
from mpcnet.models.texts.tokens import Given, Reader, Row

if TYPE_CHECKING:
    from PIL.Image import Image

Item: TypeAlias = "str | tuple[str, str] | Path | Image"  # a text, a pair of them, an image's path, or an image

REQUEST_TOKENS = 1024  # padded tokens of a request: beyond that a server's memory grows and nothing gets faster


def texts_of(given: Iterable[Item]) -> list[Item]:
    """The caller's texts, or images.

    :raises LocalInputError: it is one of them, rather than several.
    """
    if isinstance(given, str):
        raise LocalInputError("texts: want a list of texts, got one text; put it in a list")
    if not isinstance(given, Iterable):
        raise LocalInputError(f"texts: want a list of texts or images, got {type(given).__name__}; put it in a list")
    return list(given)


def read(
    reader: Reader, texts: Sequence[Item], check: Callable[[Given], None] = lambda text: None
) -> list[Row | LocalInputError]:
    """Each text's or image's rows, or what is wrong with it; `check` raises what else is."""
    return [_row(reader, number, text, check) for number, text in enumerate(texts, 1)]


def as_given(reader: Reader, item: Any) -> Given:
    """A text, a pair, which may be a list, or an image.

    :raises LocalInputError: it is none of these, or of the other kind than the reader's.
    """
    if reader.noun == "image":
        return Picture.of(item)
    text: Given = (item[0], item[1]) if isinstance(item, list) and len(item) == 2 else item
    words = text if isinstance(text, tuple) else (text,)
    if not all(isinstance(word, str) for word in words) or not 1 <= len(words) <= 2:
        got = f"a tuple of {len(words)}" if isinstance(text, tuple) else type(text).__name__
        raise LocalInputError(f"want a text or a pair of texts, got {got}")
    return text


def _row(reader: Reader, number: int, item: Item, check: Callable[[Given], None]) -> Row | LocalInputError:
    try:
        given = as_given(reader, item)
        check(given)
        return reader.asked(given)
    except LocalInputError as error:
        return LocalInputError(f"{reader.noun} {number}: {error}")


def cuts(rows: Sequence[Row | LocalInputError], most: int) -> str:
    """Which texts lost tokens, for people; "" if none did."""
    names = [f"text {number}" for number, row in enumerate(rows, 1) if isinstance(row, Row) and row.uncut]
    return f"cut to {most} tokens, as the model's folder says: {listed(names)}" if names else ""


def requests(rows: Sequence[Row | LocalInputError], batch_size: int) -> list[list[int]]:
    """The places of the good rows, shortest first: neighbours need little padding.

    A request has at most `batch_size` rows and REQUEST_TOKENS tokens, padding included; a longer row is alone.
    """
    if not 1 <= batch_size <= MAX_BATCH:
        raise LocalInputError(f"batch_size: want 1 to {MAX_BATCH}, which servers accept, got {batch_size}")
    lengths = {place: len(row.ids) for place, row in enumerate(rows) if isinstance(row, Row)}
    found: list[list[int]] = []
    for place in sorted(lengths, key=lengths.__getitem__):
        last = found[-1] if found else []
        fits = (len(last) + 1) * lengths[place] <= REQUEST_TOKENS and len(last) < batch_size
        if last and fits:
            last.append(place)
        else:
            found.append([place])
    return found
