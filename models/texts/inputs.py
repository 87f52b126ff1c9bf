"""Texts as people give them: words of a command line, a file of lines, JSON lines or two columns; and images, by the
names of their files. One entry for each.

A line ends at \\n or \\r\\n and nowhere else: U+2028, U+0085, a form feed or a lone \\r are characters of the text. A
byte order mark at a file's start is no character of it. What is wrong with one line is told in its place, and the
others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mpcnet import checked_json
from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.picture import Picture, pictures_below
from mpcnet.models.texts.tokens import Given, Text

Format: TypeAlias = Literal["lines", "jsonl", "tsv"]
BY_SUFFIX: Mapping[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".tsv": "tsv"}
FOREIGN = (".json", ".csv")  # their lines are no texts: only who says so has them read as lines
WANTED = 'want a text, a list of two or {"text": ..., "text_pair": ...} in JSON'


@dataclass(frozen=True, slots=True)
class Entry:
    """A text, a pair of texts or a picture, or what is wrong in its place; `where` is its number, among the words or
    the lines, or its file.

    `plain`: taken as it stands on a command line or in a file of lines, where a pair cannot be told from a text.
    """

    where: str
    text: Given | None = field(repr=False)
    error: str = ""
    plain: bool = False


def entries(
    words: Sequence[str] = (),
    file: Path | None = None,
    pairs: Path | None = None,
    form: Format | None = None,
    *,
    paired: bool = False,
    images: Sequence[Path] = (),
) -> list[Entry]:
    """The texts of a command line, or of one file. Without a `form` the file's name tells: .jsonl, .tsv; else lines.

    With `paired` the words are pairs, two by two. `images` are files, or folders of them.

    A file of pairs holds JSON lines, unless its name or `form` says tsv, and nothing but pairs.

    :raises LocalConfigError: a file is missing, is no text, or its form is not to be told.
    :raises LocalInputError: there is no text, or more than one source of them.
    """
    if sum([bool(words), file is not None, pairs is not None]) > 1:
        raise LocalInputError("texts: want words, --file or --pairs, got more than one of them")
    if images:
        if words or file or pairs:
            raise LocalInputError("images: want --image alone, got texts too")
        return picture_entries(images)
    if form and not (file or pairs):
        raise LocalInputError("--format: want --file or --pairs, whose lines it is of, got neither")
    if paired and (len(words) % 2 or not words):
        raise LocalInputError(f"--pair: want an even number of words, got {len(words)}; put each text into quotes")
    path = file or pairs
    if paired:
        both = zip(words[::2], words[1::2], strict=True)
        found = [Entry(f"text {number}", pair) for number, pair in enumerate(both, 1)]
    elif path is None:
        found = [Entry(f"text {number}", word, plain=True) for number, word in enumerate(words, 1)]
    else:
        found = read_file(path, _form(path, form, pairs is not None), only_pairs=pairs is not None)
    if not found:
        raise LocalInputError(f"{path or 'texts'}: want at least one text, got none")
    return found


def picture_entries(paths: Sequence[Path]) -> list[Entry]:
    """An entry for each image, and for each of those below a folder.

    :raises LocalInputError: a folder has none.
    """
    found = [one for path in paths for one in (pictures_below(path) if path.is_dir() else [Picture.of(path)])]
    return [Entry(f"image {one.name}", one) for one in found]


def read_file(path: Path, form: Format, *, only_pairs: bool = False) -> list[Entry]:
    """One entry for each line of a file.

    :raises LocalConfigError: it is missing or no text.
    """
    parse = {"lines": _plain, "jsonl": _json, "tsv": _columns}[form]
    return [_entry(f"line {number}", line, parse, only_pairs) for number, line in enumerate(read_lines(path), 1)]


def read_lines(path: Path) -> list[str]:
    """A text file's lines without their ends.

    :raises LocalConfigError: it is missing or no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LocalConfigError(f"{path}: want a text file, got {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise LocalConfigError(f"{path}: want text in UTF-8, got other bytes in line {line}; convert it") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]  # what ends with a line's end has no further line


def whole(found: Sequence[Entry]) -> list[Text]:
    """All the texts, for who needs every one of them.

    :raises LocalInputError: one of them is damaged (the error says which).
    """
    for entry in found:
        if entry.error:
            raise LocalInputError(f"{entry.where}: {entry.error}")
    return [entry.text for entry in found if entry.text is not None and not isinstance(entry.text, Picture)]


def given_at(path: Path) -> list[Given]:
    """The images of a folder, or the texts of a file.

    :raises LocalConfigError: the file cannot be read.
    :raises LocalInputError: there is nothing, or a damaged line.
    """
    return [*(pictures_below(path) if path.is_dir() else texts_of(path))]


def texts_of(path: Path) -> list[Text]:
    """A file's texts, in the form that its name tells; blank lines are left out.

    :raises LocalConfigError: the file cannot be read.
    :raises LocalInputError: it holds no text, or a damaged line.
    """
    found = [entry for entry in entries(file=path) if entry.text is None or not is_blank(entry.text)]
    if not found:
        raise LocalInputError(f"{path}: want at least one text, got blank lines")
    return whole(found)


def is_blank(text: Given) -> bool:
    """Nothing but white space (of a pair, both)."""
    if isinstance(text, Picture):
        return False
    return not (text if isinstance(text, str) else "".join(text)).strip()


def _form(path: Path, form: Format | None, pairs: bool) -> Format:
    suffix = path.suffix.lower()
    chosen = form or BY_SUFFIX.get(suffix)
    if chosen is None and suffix in FOREIGN:
        raise LocalConfigError(f"{path}: want --format {' or '.join(get_args(Format))} for a {suffix} file, got none")
    chosen = chosen or ("jsonl" if pairs else "lines")
    if pairs and chosen == "lines":
        raise LocalConfigError(f"{path}: want --format jsonl or tsv for pairs, got lines")
    return chosen


def _entry(where: str, line: str, parse: Callable[[str], Text], only_pairs: bool) -> Entry:
    if not line.strip():
        return Entry(where, "")
    try:
        text = parse(line)
    except ValueError as error:
        return Entry(where, None, str(error))
    if only_pairs and isinstance(text, str):
        return Entry(where, None, "want a pair of texts, got one text")
    return Entry(where, text, plain=parse is _plain)


def _plain(line: str) -> Text:
    return line


def _columns(line: str) -> Text:
    """Two columns, where a quote is a character like any other."""
    columns = line.split("\t")
    if len(columns) != 2:
        raise ValueError(f"want two columns with one tab between them, got {len(columns)} column(s)")
    return columns[0], columns[1]


def _json(line: str) -> Text:
    try:
        value = checked_json.parse(line)
    except ValueError:
        raise ValueError(f"{WANTED}, got no JSON; --format names the form of the file") from None
    if isinstance(value, dict) and set(value) == {"text"}:
        value = value["text"]
    elif isinstance(value, dict) and set(value) == {"text", "text_pair"}:
        value = [value["text"], value["text_pair"]]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return value[0], value[1]
    raise ValueError(f"{WANTED}, got another value")
