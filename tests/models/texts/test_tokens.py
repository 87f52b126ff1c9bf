"""Texts to tokens: padding, pairs, and what is refused."""

import json

import pytest
import torch
from small_models import VOCABULARY, add_word, save_word_level, save_words
from transformers import AutoTokenizer

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape
from mpcnet.models.texts.tokens import Reader, Tokens, by_length, encode


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


def reader(folder, limit=64, preprocessing=None, **shape):
    sizes = {"layers": 1, "hidden": 32, "heads": 2, "ffn": 64, "vocab": len(VOCABULARY), "positions": 128}
    return Reader.of(folder, limit, preprocessing, BertShape(**(sizes | shape)))


@pytest.fixture
def words(tmp_path):
    save_words(tmp_path)
    return tmp_path


def test_a_row_is_what_the_tokenizer_gives_alone(words):
    tokenizer = AutoTokenizer.from_pretrained(words)
    for text in ("the dog eats", "[SEP] [CLS] [MASK] [PAD]", "\x00\x01 x\u2028y", "e\u0301", "\u4f60\u597d", "a" * 60):
        row, alone = reader(words).row(text), tokenizer(text)
        assert (row.ids, row.types, row.uncut) == (alone["input_ids"], alone["token_type_ids"], 0)
    pair, alone = reader(words).row(("the dog", "a cat")), tokenizer("the dog", "a cat")
    assert (pair.ids, pair.types) == (alone["input_ids"], alone["token_type_ids"]) and 1 in pair.types


def test_padding_stands_behind_whatever_the_tokenizers_side(tmp_path):
    save_words(tmp_path, padding_side="left")
    made = reader(tmp_path)
    tokens = made.pad([made.row("dog"), made.row("the cat sings")], length=7)
    assert tokens.mask.tolist() == [[1] * 3 + [0] * 4, [1] * 5 + [0] * 2]
    assert tokens.ids[0, :3].tolist() == made.row("dog").ids


def test_a_padding_token_that_the_model_has_no_row_for(tmp_path):
    save_words(tmp_path, pad_token="<more>")
    made = reader(tmp_path)
    assert made.tokenizer.pad_token_id >= len(VOCABULARY)
    assert made.pad([made.row("dog")], length=5).ids[0, 3:].tolist() == [0, 0]


@pytest.mark.parametrize("missing", ["pad", "cls", "sep"])
def test_tokenizers_that_lack_a_special_token(tmp_path, missing):
    save_word_level(tmp_path, **{missing: False})
    made = reader(tmp_path)
    ids = made.pad([made.row("the dog"), made.row("cat")]).ids.tolist()
    assert ids == [[2, *map(VOCABULARY.index, ("the", "dog")), 3], [2, VOCABULARY.index("cat"), 3, 0]]


@pytest.mark.parametrize(
    ("text", "shape", "words_of_error"),
    [
        ("", {}, "want words, got an empty text"),
        (" \t\n", {}, "want words, got an empty text"),
        ("\u200b\x01", {}, "want words, got a text in which the tokenizer finds none"),
        (("dog", " "), {}, "want words, got an empty text"),
        ("\ud800", {}, "want a text that the tokenizer reads, got one with which it fails"),
        ("dog " * 63, {}, "want at most 64 tokens, got 65; shorten the text"),
        ("the dog", {"vocab": 50}, r"want tokens of the model's 50 rows, got number \d+: the tokenizer is none of"),
        (("dog", "cat"), {"types": 1}, r"want one text: the model has 1 type\(s\) of token, got a pair"),
        ("[UNK] dog", {"types": 0, "skipped_positions": 2}, "want a text without the padding token"),
        ("dog", {"pooled_from": 5}, "tokens: want some behind the 5 of the prompt"),
    ],
)
def test_one_text_is_refused_by_name(words, text, shape, words_of_error):
    with pytest.raises(LocalInputError, match=words_of_error) as caught:
        reader(words, **shape).row(text)
    assert "dog" not in str(caught.value)


def test_an_added_word_is_refused_where_it_is_used(words):
    add_word(words, "zyzzyva")
    assert reader(words).row("the dog")
    with pytest.raises(LocalInputError, match="was added to without resizing their table"):
        reader(words).row("a zyzzyva sings")


def test_models_without_types_are_given_none(words):
    assert set(reader(words, types=0).row(("dog", "cat")).types) == {0}


def test_types_that_the_tokenizer_does_not_give_unasked(words):
    """As transformers: a model whose tokenizer names no types gets type 0."""
    config = words / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_input_names": ["input_ids"]}))
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(words)("dog", "cat")
    assert set(reader(words).row(("dog", "cat")).types) == {0}


def prepared(**settings):
    return Preprocessing("0" * 64, **settings)


def test_texts_are_cut_as_sentence_transformers_cuts_them(words):
    made = reader(words, 10, prepared(max_tokens=6))
    row, short = made.row("the dog eats the good cat"), made.row("the dog eats it")
    names = [VOCABULARY[place] for place in row.ids]
    assert (names, row.uncut) == (["[CLS]", "the", "dog", "eats", "the", "[SEP]"], 8)
    assert short.uncut == 7  # "it" is two pieces
    pair = made.row(("the dog eats", "good cat"))
    assert [VOCABULARY[place] for place in pair.ids] == ["[CLS]", "the", "dog", "[SEP]", "good", "[SEP]"]
    with pytest.raises(LocalInputError, match="want at most 5 tokens, got 6"):
        reader(words, 5, prepared(max_tokens=6)).row("the dog eats the good cat")


def test_a_prompt_stands_in_front(words):
    made = reader(words, preprocessing=prepared(prompt="the dog: "))
    assert made.row("eats").ids == reader(words).row("the dog: eats").ids
    assert made.row(("eats", "cat")).ids == reader(words).row(("the dog: eats", "cat")).ids
    with pytest.raises(LocalInputError, match="got an empty text"):
        made.row("")


def test_letters_are_lowered_if_the_folder_says_so(tmp_path):
    save_words(tmp_path, do_lower_case=False)
    assert reader(tmp_path, preprocessing=prepared(lower_case=True)).row("DOG").ids[1] == VOCABULARY.index("dog")
    assert reader(tmp_path, preprocessing=prepared()).row("DOG").ids[1] == VOCABULARY.index("[UNK]")


def test_a_damaged_tokenizer_is_refused(tmp_path):
    save_words(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "None"}}')
    with pytest.raises(LocalConfigError, match="want a tokenizer that runs here, got"):
        encode(tmp_path, ["fine"], limit=8)
