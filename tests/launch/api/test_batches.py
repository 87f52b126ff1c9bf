"""From texts to requests: what is wrong with one is told in its place, and neighbours are of like length."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import save_words

from mpcnet.errors import LocalInputError
from mpcnet.launch.api import batches
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.texts.tokens import Reader, Row


def rows(lengths: list[int]) -> list[Row | LocalInputError]:
    """Of so many tokens; 0 is a text that cannot be asked."""
    return [Row([1] * length, [0] * length) if length else LocalInputError("none") for length in lengths]


@given(st.lists(st.integers(0, 600), max_size=60), st.integers(1, 256))
def test_each_good_text_is_asked_once(lengths: list[int], size: int) -> None:
    found = batches.requests(rows(lengths), size)
    assert sorted(place for chosen in found for place in chosen) == [p for p, length in enumerate(lengths) if length]
    for chosen in found:
        assert len(chosen) <= size
        longest = max(lengths[place] for place in chosen)
        assert len(chosen) == 1 or len(chosen) * longest <= batches.REQUEST_TOKENS
    order = [lengths[place] for chosen in found for place in chosen]
    assert order == sorted(order)


def test_a_request_is_as_large_as_it_may_be() -> None:
    assert batches.requests(rows([8] * 5), 2) == [[0, 1], [2, 3], [4]]
    assert batches.requests(rows([512, 3, 512, 512]), 32) == [[1, 0], [2, 3]]
    assert batches.requests([], 32) == []


@pytest.mark.parametrize("size", [0, -1, 257])
def test_sizes_that_servers_do_not_accept(size: int) -> None:
    with pytest.raises(LocalInputError, match=f"batch_size: want 1 to 256, which servers accept, got {size}"):
        batches.requests(rows([3]), size)


def test_errors_stand_in_their_places(tmp_path: Path) -> None:
    save_words(tmp_path)
    reader = Reader.of(tmp_path, 6, Preprocessing("0" * 64, max_tokens=5))
    found = batches.read(reader, ["dog", "", None, ("dog", "cat"), ["dog", "cat"], [], "dog cat dog cat"])
    assert [type(row) for row in found] == [Row, LocalInputError, LocalInputError, Row, Row, LocalInputError, Row]
    assert [str(found[place]) for place in (1, 2, 5)] == [
        "text 2: want words, got an empty text",
        "text 3: want a text or a pair of texts, got NoneType",
        "text 6: want a text or a pair of texts, got list",
    ]
    assert found[3] == found[4]
    assert batches.cuts(found, 5) == "cut to 5 tokens, as the model's folder says: text 7"
    assert batches.cuts(found[:3], 5) == ""


def test_one_text_is_no_list_of_texts() -> None:
    with pytest.raises(LocalInputError, match="texts: want a list of texts, got one text; put it in a list"):
        batches.texts_of("dog")
    assert batches.texts_of(word for word in ("dog", "cat")) == ["dog", "cat"]
