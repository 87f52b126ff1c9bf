"""The rows that models are calibrated on: every kind, every length, and no row that a model could not read."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from reviews import save_small_mpnet
from small_models import ATOMS, SPECIAL, VOCABULARY, save_atoms, save_word_level, save_words

from mpcnet.errors import LocalInputError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.formats.calibration_batches import (
    BATCH_TOKENS,
    built_in_batches,
    default_texts,
    own_batches,
    recipe,
    texts_by_kind,
)
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.shape import BertShape

SHAPE = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=len(VOCABULARY), positions=64)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    save_words(folder)
    return folder


@pytest.fixture(scope="module")
def demo():
    return built_in_batches(checkpoint(demo_model_dir(), BertShape(layers=1, hidden=8, heads=2, ffn=16)), 512)


def checkpoint(folder, shape, **preprocessing):
    prepared = Preprocessing("0" * 64, **preprocessing)
    return replace(random_checkpoint(shape, seed=0), source=str(folder), preprocessing=prepared)


def rows(batches):
    return [
        (ids, types) for batch in batches for ids, types in zip(batch.ids.tolist(), batch.types.tolist(), strict=True)
    ]


def test_kinds_and_pairs():
    kinds = texts_by_kind()
    assert {"english", "latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai", "cjk", "hangul"} < set(
        kinds
    )
    assert {"code", "numbers", "punctuation", "repeated", "symbols"} < set(kinds)
    assert all(len(texts) >= 6 for texts in kinds.values()) and len(default_texts()) >= 200
    assert any(isinstance(text, tuple) for text in kinds["english"])
    assert len(recipe()) == 16


def test_lengths_of_the_demo_models_rows(demo):
    """No padding, the longest of all positions, few long rows: the calibration is over in less than a minute."""
    lengths = Counter(batch.ids.shape[1] for batch in demo for _ in batch.ids)
    assert (min(lengths), max(lengths)) == (3, 512) and len(lengths) > 40
    assert 4 <= lengths[512] <= 8 and lengths[3] >= 64 and lengths[128] >= 10
    assert all(batch.mask.all() and batch.ids.numel() <= BATCH_TOKENS for batch in demo)
    assert sum(length * count for length, count in lengths.items()) < 20_000


def test_kinds_of_rows(demo):
    """One word alone, [UNK] alone, all special tokens, random tokens of the vocabulary, pairs that fill a row."""
    found = rows(demo)
    inner = [(set(ids[1:-1]), len(ids)) for ids, _ in found]
    alone = {next(iter(ids)) for ids, length in inner if len(ids) == 1 and length == 128}
    assert {100, 2919, 1996} <= alone and len(alone) >= 8  # [UNK], bad, the
    assert any(len(ids) == 1 and length == 512 for ids, length in inner)
    assert any({0, 100, 101, 102, 103} <= ids for ids, _ in inner)
    assert any(len(ids) > 400 for ids, length in inner if length == 512)
    assert any(length == 512 and max(types) == 1 for (_, length), (_, types) in zip(inner, found, strict=True))
    assert not any(0 < id < 100 for ids, _ in inner for id in ids)  # [unused0] and so on, which no text has


def test_the_same_each_time(words):
    first, second = (built_in_batches(checkpoint(words, SHAPE), 64) for _ in range(2))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("positions", [3, 8, 40, 64])
def test_a_model_of_few_positions_gets_short_rows(words, positions):
    found = rows(built_in_batches(checkpoint(words, SHAPE), positions))
    assert max(len(ids) for ids, _ in found) == positions and len(found) > 60
    assert [len(ids) for ids, _ in found] == sorted(len(ids) for ids, _ in found)


def test_a_model_of_one_type_gets_no_pairs(words):
    one = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=len(VOCABULARY), positions=64, types=1)
    assert any(max(types) == 1 for _, types in rows(built_in_batches(checkpoint(words, SHAPE), 64)))
    found = rows(built_in_batches(checkpoint(words, one), 64))
    assert found and not any(max(types) for _, types in found)


def test_a_model_of_fewer_words_than_its_tokenizer(words):
    few = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=len(VOCABULARY) - 3, positions=64)
    assert max(max(ids) for ids, _ in rows(built_in_batches(checkpoint(words, few), 64))) < len(VOCABULARY) - 3


def test_a_tokenizer_that_finds_nothing_in_some_texts(tmp_path):
    """It is calibrated on what it knows, up to the longest row, and nothing is said."""
    save_atoms(tmp_path)
    shape = BertShape(layers=1, hidden=8, heads=2, ffn=16, vocab=len(SPECIAL) + len(ATOMS), positions=64)
    found = rows(built_in_batches(checkpoint(tmp_path, shape), 64))
    assert max(len(ids) for ids, _ in found) == 64
    assert {id for ids, _ in found for id in ids} >= set(range(5, shape.vocab))
    with pytest.raises(LocalInputError, match="text 2 of 2: want words, got a text in which") as caught:
        own_batches(checkpoint(tmp_path, shape), ["CCO", "kkk"], 64)
    assert "kkk" not in str(caught.value)


@pytest.mark.parametrize("missing", ["pad", "cls", "sep"])
def test_full_rows_have_what_the_tokenizer_sets_around_a_text(tmp_path, missing):
    """Whether or not it has a name for it."""
    save_word_level(tmp_path, **{missing: False})
    found = [ids for ids, _ in rows(built_in_batches(checkpoint(tmp_path, SHAPE), 64))]
    assert any(len(ids) == 64 for ids in found)
    assert {(ids[0], ids[-1]) for ids in found} == {(SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]"))}


def test_rows_begin_with_the_prompt(words):
    """All that are long enough for it, and the shortest is one token more; its tokens stand in the words' place."""
    prompt = [SPECIAL.index("[CLS]"), *(VOCABULARY.index(word) for word in ("the", "ship", ","))]
    plain, found = (rows(built_in_batches(checkpoint(words, SHAPE, prompt=p), 64)) for p in ("", "the ship, "))
    assert {tuple(ids[:4]) for ids, _ in found} == {tuple(prompt)}
    assert min(len(ids) for ids, _ in found) == len(prompt) + 2
    assert max(len(ids) for ids, _ in found) == 64 and any(len(ids) == 64 and max(types) for ids, types in found)
    assert len({tuple(ids) for ids, _ in plain}) > 60 and len({tuple(ids) for ids, _ in found}) > 60


def test_letters_are_lowered_if_the_folder_says_so(tmp_path):
    save_words(tmp_path, do_lower_case=False)  # capitals are then unknown
    unknown = SPECIAL.index("[UNK]")
    plain, lower = (
        sum(ids.count(unknown) for ids, _ in rows(built_in_batches(checkpoint(tmp_path, SHAPE, lower_case=case), 64)))
        for case in (False, True)
    )
    assert lower < plain


def test_calibrations_of_another_prompt_or_case_are_others():
    ways = [{}, {"prompt": "a"}, {"prompt": "b"}, {"lower_case": True}, {"prompt": "a", "lower_case": True}]
    assert len({recipe(Preprocessing("0" * 64, **way)) for way in ways}) == len(ways)
    assert recipe(Preprocessing("0" * 64, max_tokens=64, normalize=True)) == recipe(None) == recipe()


def test_texts_of_the_user(words):
    texts = ["the cat", ("the ship", "sings"), "cat " * 14, "old cat"]
    lengths = [len(ids) for ids, _ in rows(own_batches(checkpoint(words, SHAPE), texts, 16))]
    assert lengths == [4, 4, 6, 16]
    for shape, longest, which in ((SHAPE, 15, 3), (replace(SHAPE, types=1), 16, 2), (replace(SHAPE, vocab=60), 16, 1)):
        with pytest.raises(LocalInputError, match=f"calibration, text {which} of 4: want"):
            own_batches(checkpoint(words, shape), texts, longest)


def test_a_tokenizer_without_a_token_for_unknown_words(tmp_path):
    """It raises on a text with one: texts are left out, and words that it reads make rows."""
    save_small_mpnet(tmp_path)
    found = checkpoint(tmp_path, replace(SHAPE, vocab=24, types=0, positions=32))
    made = rows(built_in_batches(found, 32))
    known = ["the", "a", "was", "with", "and", "its"]
    (row,) = rows(own_batches(found, [" ".join(known)], 32))
    assert row[0][0] == 0 and row[0][-1] == 2  # <s> and </s>, around every row
    assert {(ids[0], ids[-1]) for ids, _ in made} == {(0, 2)}
    assert {len(ids) for ids, _ in made} >= {3, 8, 32}
    assert set(row[0]) <= {id for ids, _ in made for id in ids}
