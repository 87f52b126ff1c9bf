"""A command's texts: one bad one does not take the others with it, and everything stays in its place."""

from pathlib import Path

import pytest
from small_models import VOCABULARY, save_words

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.asked import ask, words
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.inputs import Entry
from mpcnet.models.texts.tokens import Reader

SHAPE = BertShape(layers=1, hidden=32, heads=2, ffn=64, vocab=len(VOCABULARY), positions=128)
CLASSIFIER = BertShape(
    layers=1, hidden=32, heads=2, ffn=64, vocab=len(VOCABULARY), positions=128, head="classification", labels=1,
    pooling="first",
)  # fmt: skip


def reader(folder: Path, shape: BertShape = SHAPE, max_tokens: int = 0) -> Reader:
    save_words(folder)
    return Reader.of(folder, 16, Preprocessing("0" * 64, max_tokens), shape)


def test_errors_stand_in_their_places(tmp_path: Path) -> None:
    given = [*words(["the dog", "", "dog " * 40, "cat"]), Entry("line 9", None, "want two columns")]
    found = ask(given, reader(tmp_path))
    assert (found.good, found.texts) == ([0, 3], ["the dog", "cat"])
    assert found.in_place([{"n": 1}, {"n": 2}]) == [
        {"n": 1},
        {"error": "text 2: want words, got an empty text"},
        {"error": "text 3: want at most 16 tokens, got 42; shorten the text, or cut it in two"},
        {"n": 2},
        {"error": "line 9: want two columns"},
    ]
    assert found.refused().startswith("text 2: want words, got an empty text; text 3: want")


def test_blank_lines_may_be_empty_answers(tmp_path: Path) -> None:
    found = ask(words(["the dog", " ", ("", ""), "\u200b"]), reader(tmp_path), "empty")
    assert found.in_place([{"n": 1}])[:3] == [{"n": 1}, {"empty": True}, {"empty": True}]
    assert found.refused() == "text 4: want words, got a text in which the tokenizer finds none"


@pytest.mark.parametrize("given", [["", " "], ["dog " * 40]])
def test_no_good_text_at_all_is_refused(tmp_path: Path, given: list[str]) -> None:
    with pytest.raises(LocalInputError, match="text 1: want"):
        ask(words(given), reader(tmp_path))
    with pytest.raises(LocalInputError, match="want at least one, got blank lines"):
        ask(words([""]), reader(tmp_path), "empty")


def test_a_long_list_of_errors_is_cut(tmp_path: Path) -> None:
    assert ask(words(["dog", *[""] * 5]), reader(tmp_path)).refused().endswith("; and 2 more")


def test_requests_keep_the_order_and_pad_to_their_longest(tmp_path: Path) -> None:
    found = ask(words(["dog", "", "the dog eats", "cat", "not good"]), reader(tmp_path))
    assert [batch.mask.sum(1).tolist() for batch in found.batches(2)] == [[3, 5], [3, 4]]
    assert [tuple(batch.ids.shape) for batch in found.batches(3, length=9)] == [(3, 9), (1, 9)]


def test_who_is_cut_is_told(tmp_path: Path) -> None:
    found = ask(words(["dog", "the dog eats the cat"]), reader(tmp_path, max_tokens=4))
    assert found.cuts() == "cut to 4 tokens, as the model's folder says: text 2"
    assert found.in_place([{}, {}]) == [{}, {"cut_from": 7, "tokens": 4}]
    assert not ask(words(["dog"]), reader(tmp_path, max_tokens=4)).cuts()


def test_a_tab_in_a_classifiers_text_is_not_guessed(tmp_path: Path) -> None:
    """It may have been a pair. From JSON lines, or from Python, it is a text; at its ends it is white space."""
    plain = [Entry("line 1", "dog\tcat", plain=True), Entry("line 2", "\tdog\t", plain=True)]
    found = ask([*plain, Entry("line 3", "dog\tcat"), Entry("line 4", ("dog", "cat"))], reader(tmp_path, CLASSIFIER))
    assert found.good == [1, 2, 3]
    assert found.errors[0].startswith("line 1: want one text, got a tab in it; pairs of texts are read with --pairs")
    assert ask(plain, reader(tmp_path)).good == [0, 1]
