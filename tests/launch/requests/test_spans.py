"""The answer in a context: the span that transformers' own search finds among the same probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import save_words
from transformers import AutoTokenizer
from transformers.pipelines.document_question_answering import select_starts_ends

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.spans import Span, best_span, check_pair
from mpcnet.launch.requests.view import Known
from mpcnet.models.texts.tokens import Reader

QUESTION, CONTEXT = "not a dog?", "The old ship 1234 sings, a catdog eats. good bad"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("words")
    save_words(folder)
    row = Reader.of(folder, 64).row((QUESTION, CONTEXT))
    return Known((QUESTION, CONTEXT), row, AutoTokenizer.from_pretrained(folder))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 20), st.booleans())
def test_the_one_of_transformers(known: Known, seed: int, longest: int, impossible: bool) -> None:
    """Whole words of it; the search is theirs, and so is the score of there being none."""
    generator = torch.Generator().manual_seed(seed)
    count = len(known.row.ids)
    logits = 3 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    mine = best_span(torch.cat([logits, 9 * torch.ones(4, 2)]), known, longest, impossible=impossible)
    hidden = np.array([int(place != 1) for place in known.encoding.sequence_ids])
    hidden[0] = 0  # as their pipeline does
    starts, ends, scores, nothing = select_starts_ends(
        logits[None, :, 0].numpy(), logits[None, :, 1].numpy(), hidden, np.ones(count, int), handle_impossible_answer=True,
        max_answer_len=longest,
    )  # fmt: skip
    if impossible and nothing > scores[0]:
        assert mine == Span("", pytest.approx(nothing, rel=1e-6), 0, 0)
        return
    words = [known.encoding.word_to_chars(known.encoding.word_ids[int(place[0])], 1) for place in (starts, ends)]
    assert (mine.start, mine.end) == (words[0][0], words[1][1])
    assert mine.score == pytest.approx(float(scores[0]), rel=1e-6)
    assert mine.text == CONTEXT[mine.start : mine.end]


def test_one_text_is_no_question() -> None:
    with pytest.raises(LocalInputError, match="want a question and a context, got one text"):
        check_pair("the dog")
