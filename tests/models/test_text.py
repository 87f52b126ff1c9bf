"""Texts to tokens: padding, pairs, and what is refused."""

import pytest
import torch

from models.demo import demo_model_dir
from models.text import Tokens, by_length, encode, encode_full
from mpcnet.errors import LocalConfigError, LocalInputError


@pytest.fixture(scope="module")
def folder():
    return demo_model_dir()


def test_pads_to_the_longest(folder):
    tokens = encode(folder, ["Hello", "A small dog sleeps."], limit=128)
    assert tokens.ids.tolist() == [
        [101, 7592, 102, 0, 0, 0, 0],
        [101, 1037, 2235, 3899, 25126, 1012, 102],
    ]
    assert tokens.mask.tolist() == [[1, 1, 1, 0, 0, 0, 0], [1] * 7]
    assert tokens.types.sum() == 0
    assert {tokens.ids.dtype, tokens.types.dtype, tokens.mask.dtype} == {torch.int64}


def test_pairs_have_two_types_and_mix_with_single_texts(folder):
    tokens = encode(folder, [("Hello", "hello"), "Hello"], limit=5)
    assert tokens.ids.tolist() == [[101, 7592, 102, 7592, 102], [101, 7592, 102, 0, 0]]
    assert tokens.types.tolist() == [[0, 0, 0, 1, 1], [0] * 5]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one, got none"),
        (["fine", ""], "text 2 of 2: want words, got an empty text"),
        (["fine", " \t\n"], "text 2 of 2"),
        ([("fine", "")], "text 1 of 1"),
        (["fine", "one two three four five six seven"], "text 2 of 2: want at most 8 tokens, got 9"),
    ],
)
def test_refuses(folder, texts, message):
    with pytest.raises(LocalInputError, match=message):
        encode(folder, texts, limit=8)


def test_limit_is_inclusive_and_the_error_keeps_the_text_to_itself(folder):
    assert encode(folder, ["secret word"], limit=4).ids.shape == (1, 4)
    with pytest.raises(LocalInputError) as caught:
        encode(folder, ["secret word"], limit=3)
    assert "secret" not in str(caught.value)


def test_rows_by_length_and_without_padding_that_none_of_them_needs():
    mask = (torch.arange(5) < torch.tensor([2, 5, 1, 3])[:, None]).long()
    tokens = Tokens(torch.arange(20).reshape(4, 5), torch.zeros(4, 5), mask)
    assert by_length(tokens, 2, limit=5) == [[2, 0], [3, 1]]
    assert by_length(tokens, 3, limit=3) == [[2, 0, 3]]
    some = tokens.rows([2, 0])
    assert (some.ids.tolist(), some.mask.tolist()) == ([[10, 11], [0, 1]], [[1, 0], [1, 1]])
    assert some.types.shape == (2, 2)


def test_no_tokenizer(tmp_path):
    with pytest.raises(LocalConfigError, match="tokenizer"):
        encode(tmp_path, ["fine"], limit=8)


def test_full_rows(folder):
    tokens = encode_full(folder, ["one two three", ("four five", "six seven eight")], length=5)
    assert tokens.ids.shape == tokens.types.shape == (2, 5)
    assert tokens.mask.all()
    assert tokens.ids[:, 0].tolist() == [101, 101]
    assert tokens.ids[:, -1].tolist() == [102, 102]
    with pytest.raises(LocalInputError, match="at least 5 tokens of 3 or more, got 4"):
        encode_full(folder, ["one two"], length=5)
