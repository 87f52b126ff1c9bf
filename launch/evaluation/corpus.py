"""Texts of many scripts and kinds, short and long, to see how exact private answers are. Calibration never sees them.

The sentences are this project's own; a seed decides how they follow each other, and which words and tokens the other
kinds are made of. Every kind has texts of one token up to the most that the model reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from mpcnet.errors import LocalConfigError
from mpcnet.models.formats.calibration_batches import default_texts
from mpcnet.models.texts.tokens import parts

FOLDER = Path(__file__).with_name("corpus_texts")  # a file a kind, a sentence a line
SEED = 14
EACH = 18  # texts of a kind
LONGEST_WORD = 40  # characters of a token, at most
REPEATED = (
    "awful", "love", "of", "seven", "?", "unbelievable", "42", "да", "o", "wait what", "we", "我", "not bad", "k9",
    "and then", "###", "zebra crossing", "hm",
)  # fmt: skip
NEVER_KNOWN = ["𐌰𐌱𐌲", "𒀀𒀁", "𓀀𓃠", "𐎀𐎁", "𝋠𝋡", "𐤀𐤁", "𞤀𞤁", "ꡀꡁ"]  # words of scripts that hardly any vocabulary has


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, and what kind of text it is."""

    kind: str
    text: str = field(repr=False)


def sentences() -> dict[str, list[str]]:
    """This project's own sentences by kind."""
    return {path.stem: path.read_text("utf-8").split("\n")[:-1] for path in sorted(FOLDER.glob("*.txt"))}


def corpus(tokenizer: Any, longest: int, each: int = EACH, seed: int = SEED) -> list[Sample]:
    """`each` texts of every kind, of 1 to `longest` tokens that the tokenizer makes of their words.

    :raises LocalConfigError: the tokenizer does not tell where in a text its tokens are.
    """
    if not tokenizer.is_fast:
        raise LocalConfigError("corpus: want a tokenizer of the tokenizers library, got one in Python")
    rng = np.random.default_rng(seed)
    known = {part for text in default_texts() for part in parts(text)}
    lengths = [round(length) for length in np.geomspace(1, longest, each)]
    return [
        Sample(kind, _unknown(tokenizer, text, length, known))
        for kind, texts in _endless(tokenizer, longest, each, rng)
        for text, length in zip(texts, lengths, strict=True)
    ]


def cut(tokenizer: Any, text: str, length: int) -> str:
    """The beginning of a text: as many characters as make at most so many tokens, and at least one."""
    text = text[: LONGEST_WORD * length]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    made = text[: encoded["offset_mapping"][length - 1][1]] if len(encoded["input_ids"]) > length else text
    while len(made) > 1 and count(tokenizer, made) > length:
        made = made[:-1]
    return made.strip()


def _unknown(tokenizer: Any, text: str, length: int, known: Collection[str]) -> str:
    """As much of a text, from its beginning or from behind what calibration knows."""
    while (made := cut(tokenizer, text, length)) in known:
        text = text[len(made) :].lstrip()
    return made


def count(tokenizer: Any, text: str) -> int:
    """Tokens of a text's words."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _endless(tokenizer: Any, longest: int, each: int, rng: Generator) -> Iterator[tuple[str, list[str]]]:
    """Each kind's texts, longer than any that is wanted."""
    natural = sentences()
    for kind, lines in natural.items():
        yield kind, [_joined(tokenizer, lines, longest, rng) for _ in range(each)]
    words = [word for lines in natural.values() for line in lines for word in line.split()]
    yield "mixed", [" ".join(rng.choice(words, longest)) for _ in range(each)]
    yield "letters", [" ".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), longest)) for _ in range(each)]
    yield "repeated", [" ".join([word] * longest) for word in islice(cycle(REPEATED), each)]
    yield "unknown", [" ".join(rng.choice(NEVER_KNOWN, longest)) for _ in range(each)]
    ids = [id for token, id in tokenizer.get_vocab().items() if "unused" not in token]
    ordinary = sorted(set(ids) - set(tokenizer.all_special_ids))
    yield "vocabulary", [tokenizer.decode(rng.choice(ordinary, longest).tolist()) for _ in range(each)]


def _joined(tokenizer: Any, lines: Sequence[str], longest: int, rng: Generator) -> str:
    """All sentences in a random order, and again, until there are enough of them."""
    once = max(1, count(tokenizer, " ".join(lines)))  # 1: a tokenizer that knows none of it
    order = [place for _ in range(1 + longest // once) for place in rng.permutation(len(lines))]
    return " ".join(lines[place] for place in order)
