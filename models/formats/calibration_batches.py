"""What a model is calibrated on: this project's own texts, rows of every length, and the user's texts beside them.

Ranges grow with the length of a row, with rare tokens and with repeated ones, so there are rows of each kind up to the
longest. Long rows are dear and few. Each row begins as a text that is asked does, with the model's prompt, and its
letters are lowered if the model's folder says so. Models of images have images of many kinds, made from a seed
(mpcnet.models.images.synthetic). What a model's tokenizer cannot make of the built-in texts is left
out in silence: nobody asked for them. All rows of a batch have the same length, so that there is no padding.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.image_shape import Image
from mpcnet.models.images import synthetic
from mpcnet.models.images.reader import image_batch, reader_of
from mpcnet.models.picture import Picture
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Given, Reader, Text, Tokens, parts

FOLDER = Path(__file__).with_name("calibration_texts")  # a file a kind
LONGEST = 2048  # tokens of a row, whatever a model allows: attention grows by the square of it
KIND_LENGTH = 192  # tokens of the one full row of each kind of text
SENTENCES = 60  # tokens, said again and again
PAIR_LENGTH = 128  # and the longest row
BATCH_TOKENS = 1024  # more would take memory and no less time
SEED = 0
WORDS = ("bad", "the", "very", ".", "1", "no", "é", "。")  # that fill a row alone
RECIPE = 1  # raised when the rows change and the texts do not
UNUSED = re.compile(r"[\[<]unused")  # no text has these tokens

Row: TypeAlias = tuple[list[int], list[int]]  # ids, types


def texts_by_kind() -> dict[str, list[Text]]:
    """This project's own calibration texts, one a line; a tab separates the two texts of a pair."""
    return {
        path.stem: [_text(line) for line in path.read_text("utf-8").split("\n") if line]
        for path in sorted(FOLDER.glob("*.txt"))
    }


def default_texts() -> list[Text]:
    """The same in one list."""
    return [text for texts in texts_by_kind().values() for text in texts]


def _text(line: str) -> Text:
    first, tab, second = line.partition("\t")
    return (first, second) if tab else line


def recipe(preprocessing: Preprocessing | None = None, image: Image | None = None) -> str:
    """Tells calibrations apart that were made with other built-in texts or rows, or another prompt or case; or with
    other images, or another image processor.
    """
    if image is not None:
        made = json.dumps([synthetic.RECIPE, asdict(image)], sort_keys=True)
        return hashlib.sha256(made.encode()).hexdigest()[:16]
    state = hashlib.sha256(f"{RECIPE}".encode())
    for path in sorted(FOLDER.glob("*.txt")):
        state.update(path.read_bytes())
    if preprocessing is not None and (preprocessing.prompt or preprocessing.lower_case):
        state.update(json.dumps([preprocessing.prompt, preprocessing.lower_case]).encode())
    return state.hexdigest()[:16]


def longest_row(shape: BertShape) -> int:
    """Tokens of the longest row that is calibrated unasked; of images all that there are."""
    return shape.positions if shape.image is not None else min(shape.positions, LONGEST)


def built_in_batches(found: Checkpoint, longest: int) -> list[Tokens]:
    """Every kind of row of up to `longest` tokens that the tokenizer and the model allow, prepared as the model's
    folder says; or every kind of image.

    :raises LocalConfigError: the model's folder has no tokenizer.
    """
    if found.shape.image is not None:
        return batched_images(synthetic.synthetic_rows(found.shape.image))
    maker = _Maker.of(Reader.of(found.source, longest, found.preprocessing), found.shape)
    rows = [*maker.texts(default_texts()), *maker.full(longest), *maker.long_pairs(longest)]
    return batched([row for row in rows if _fits(found.shape, row, longest)])


def own_batches(found: Checkpoint, texts: Sequence[Given], longest: int) -> list[Tokens]:
    """The user's texts or images, prepared and cut as the model's folder says.

    :raises LocalInputError: the model cannot read one of them, or it has too many tokens (the error says which).
    :raises LocalConfigError: the model's folder has no tokenizer, or no image processor.
    """
    reader = reader_of(found.source, longest, found.preprocessing, found.shape)
    rows, images = [], []
    for number, text in enumerate(texts, 1):
        try:
            row = reader.row(text)
        except LocalInputError as error:
            where = f"image {text.name}" if isinstance(text, Picture) else f"text {number} of {len(texts)}"
            raise LocalInputError(f"calibration, {where}: {error}") from None
        if row.pixels is not None:
            images.append(row.pixels)
        else:
            rows.append((row.ids, row.types))
    return batched_images(torch.stack(images)) if images else batched(rows)


def batched_images(rows: Tensor) -> list[Tokens]:
    """Batches of images, [count, n, columns]."""
    return [image_batch(part) for part in torch.split(rows, max(1, BATCH_TOKENS // rows.shape[1]))]


def batched(rows: Sequence[Row]) -> list[Tokens]:
    """Batches of rows of one length each, shortest first."""
    by_length: dict[int, list[Row]] = {}
    for row in rows:
        by_length.setdefault(len(row[0]), []).append(row)
    return [
        _tokens(same[start : start + max(1, BATCH_TOKENS // length)])
        for length, same in sorted(by_length.items())
        for start in range(0, len(same), max(1, BATCH_TOKENS // length))
    ]


def _tokens(rows: Sequence[Row]) -> Tokens:
    ids, types = (torch.tensor([row[place] for row in rows]) for place in (0, 1))
    return Tokens(ids, types, torch.ones_like(ids))


def _fits(shape: BertShape, row: Row, longest: int) -> bool:
    """Has the model embeddings for it?"""
    ids, types = row
    return 0 < len(ids) <= longest and max(ids) < shape.vocab and max(types) < max(shape.types, 1)


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Of the words alone; of those that are read, where the tokenizer has no token for what it does not know."""
    try:
        found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception:  # the tokenizers library raises bare ones
        words = text.split()
        return [id for word in words for id in _ids(tokenizer, word)] if len(words) > 1 else []
    return found


def _reads(tokenizer: Any, text: str) -> bool:
    """Does it find tokens, and read all of the text?"""
    try:
        return bool(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    except Exception:  # likewise
        return False


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes rows with one tokenizer. `before` and `after` are the tokens set around a text, the prompt's among them."""

    reader: Reader
    before: list[int]
    after: list[int]
    streams: Mapping[str, list[int]]  # all words of a kind of text, one after another; none is empty
    random: list[int]  # ordinary tokens in a random order
    specials: list[int]
    unknown: list[int]

    @classmethod
    def of(cls, reader: Reader, shape: BertShape) -> _Maker:
        tokenizer = reader.tokenizer
        joined = {
            kind: " ".join(part for text in texts for part in parts(text)) for kind, texts in texts_by_kind().items()
        }
        streams = {kind: [id for id in _ids(tokenizer, text) if id < shape.vocab] for kind, text in joined.items()}
        specials = sorted(id for id in tokenizer.all_special_ids if id < shape.vocab)
        tokens = {id: token for token, id in tokenizer.get_vocab().items() if id < shape.vocab}
        ordinary = [id for id in sorted(tokens) if id not in specials and not UNUSED.match(tokens[id])]
        order = torch.randperm(len(ordinary), generator=torch.Generator().manual_seed(SEED)).tolist()
        unknown = [tokenizer.unk_token_id] if tokenizer.unk_token_id in specials else []
        before, after = _frame(tokenizer, [*joined.values()])
        (prompt,) = reader.prepared("")
        return cls(
            reader,
            [*before, *(id for id in _ids(tokenizer, prompt) if id < shape.vocab)],
            after,
            {kind: ids for kind, ids in streams.items() if ids},
            [ordinary[place] for place in order],
            specials,
            unknown,
        )

    def texts(self, texts: Sequence[Text]) -> Iterator[Row]:
        """Each as it is; those that the tokenizer does not read, or finds nothing in, are left out."""
        for text in texts:
            if all(_reads(self.reader.tokenizer, part) for part in parts(text)):
                yield self._row(text)

    def full(self, longest: int) -> Iterator[Row]:
        """Rows of exactly `longest` tokens and of some smaller numbers: more of them, the shorter they are."""
        everything = [id for ids in self.streams.values() for id in ids]
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(SEED)).tolist()
        mixed = [everything[place] for place in order]
        english, indic = (self.streams.get(kind, []) for kind in ("english", "indic"))
        words = [ids for word in WORDS if (ids := _ids(self.reader.tokenizer, word))]
        words += [[id] for id in (*self.unknown, *self.random[:4])]
        specials = [id for pair in zip(self.random, cycle(self.specials)) for id in pair]
        again = english[:SENTENCES]
        yield from self._filled(longest, [english, mixed, indic, self.random, again, *words[:1], *words[-1:]])
        yield from self._filled(min(KIND_LENGTH, longest), [*self.streams.values(), mixed, *words[1:2]])
        for length, count in ((128, 4), (32, 8), (8, 24), (1 + len(self.before) + len(self.after), 64)):
            if length <= longest:
                yield from self._filled(length, [*self._pieces(count, length), *words, specials])

    def long_pairs(self, longest: int) -> Iterator[Row]:
        """Two long texts in full rows."""
        texts = [part for text in texts_by_kind()["english"] for part in parts(text)]
        for length in sorted({longest, min(PAIR_LENGTH, longest)}):
            # tokenizers keeps what it cuts off, every piece of one text with every piece of the other
            first, second = (" ".join(texts[start::2])[: 8 * length] for start in (0, 1))
            if all(_reads(self.reader.tokenizer, half) for half in (first, second)):
                yield self._row((first, second), truncation=True, max_length=length)

    def _row(self, text: Text, **options: Any) -> Row:
        """A text as it would be asked."""
        given = self.reader.prepared(text)
        encoded = self.reader.tokenizer(*given, return_token_type_ids=True, verbose=False, **options)
        return encoded["input_ids"], encoded["token_type_ids"]

    def _pieces(self, count: int, length: int) -> Iterator[list[int]]:
        """As many pieces of the random tokens, one after the other."""
        endless = cycle(self.random)
        for _ in range(count):
            yield list(islice(endless, length))

    def _filled(self, length: int, sources: Sequence[Sequence[int]]) -> Iterator[Row]:
        """A row of `length` tokens from each source, from its start again where it is too short."""
        inner = length - len(self.before) - len(self.after)
        for source in sources:
            if source and inner > 0:
                yield [*self.before, *islice(cycle(source), inner), *self.after], [0] * length


def _frame(tokenizer: Any, texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """What the tokenizer sets before and after a text; nothing if it reads none of these texts, nor a word of them."""
    beginnings = [text[:100] for text in texts]
    for text in (*beginnings, *" ".join(texts).split()):
        if not _reads(tokenizer, text):
            continue
        words, whole = _ids(tokenizer, text), tokenizer(text, verbose=False)["input_ids"]
        for start in range(len(whole) - len(words) + 1):
            if words and whole[start : start + len(words)] == words:
                return whole[:start], whole[start + len(words) :]
    return [], []
