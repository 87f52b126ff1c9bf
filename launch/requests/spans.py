"""From logits of an answer's start and end to the answer: the part of the context that is likeliest to be it.

The rules are those of transformers' `pipeline("question-answering")` before its release 5, which left it out: each end
has a probability over the tokens of the context and the first token of all, which stands for "no answer". Of the parts
of at most `max_answer_len` tokens, whole words each, the one whose ends' probabilities have the largest product wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.view import Known
from mpcnet.models.texts.tokens import Given


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a context, context[start:end], and the probability that it is the answer; "" if there is none."""

    text: str = field(repr=False)
    score: float
    start: int
    end: int


def check_pair(text: Given) -> None:
    """:raises LocalInputError: it is no pair."""
    if not isinstance(text, tuple):
        raise LocalInputError("want a question and a context, got one text")


def best_span(logits: Tensor, known: Known, max_answer_len: int = 15, *, impossible: bool = False) -> Span:
    """Of a pair's logits [n, 2]; rows behind the pair do not count. `impossible`: there may be no answer.

    :raises LocalInputError: the tokenizer does not tell where its tokens are, or the text is no pair.
    """
    check_pair(known.text)
    assert isinstance(known.text, tuple)
    encoding, context = known.encoding, known.text[1]
    of_context = torch.tensor([place == 1 for place in encoding.sequence_ids])
    counted = of_context.clone()
    counted[0] = True
    given = logits[: len(counted)].double().masked_fill(~counted[:, None], -torch.inf)
    starts, ends = given.softmax(0).unbind(1)
    nothing = float(starts[0] * ends[0])
    products = (starts * of_context)[:, None] * (ends * of_context)
    products = products.triu().tril(max_answer_len - 1)
    first, last = divmod(int(products.argmax()), len(products))
    score = float(products[first, last])
    if impossible and nothing > score:
        return Span("", nothing, 0, 0)
    begin, end = (_word(encoding, place) for place in (first, last))
    return Span(context[begin[0] : end[1]], score, begin[0], end[1])


def _word(encoding: Any, place: int) -> tuple[int, int]:
    """Where the whole word of a token is."""
    word = encoding.word_ids[place]
    start, end = encoding.offsets[place] if word is None else encoding.word_to_chars(word, 1)
    return start, end
