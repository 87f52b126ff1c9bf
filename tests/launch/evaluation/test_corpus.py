"""The corpus of evaluations: deterministic, of many kinds, short and long, and none of it is calibrated on."""

from collections import defaultdict

import pytest

from mpcnet.launch.evaluation.corpus import EACH, corpus, count, cut, sentences
from mpcnet.models.checkpoints.demo import demo_model_dir
from mpcnet.models.formats.calibration_batches import default_texts
from mpcnet.models.texts.tokens import load_tokenizer, parts


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(demo_model_dir())


@pytest.fixture(scope="module")
def samples(tokenizer):
    return corpus(tokenizer, 510)


def test_kinds_and_lengths(tokenizer, samples):
    lengths = defaultdict(list)
    for sample in samples:
        lengths[sample.kind].append(count(tokenizer, sample.text))
    assert len(samples) >= 400 and len(lengths) >= 20
    assert all(len(found) == EACH for found in lengths.values())
    assert all(min(found) <= 2 and 505 <= max(found) <= 510 for found in lengths.values())
    assert min(map(min, lengths.values())) == 1 and max(map(max, lengths.values())) == 510  # and 2 around each
    scripts = {"english", "european", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "bengali_tamil", "thai"}
    scripts |= {"chinese", "japanese", "korean", "more_scripts"}
    assert scripts | {"code", "numbers", "emoji", "punctuation", "repeated", "vocabulary", "unknown"} < set(lengths)


def test_the_same_each_time(tokenizer):
    first, second, other = (corpus(tokenizer, 30, each=4, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


def test_calibration_never_sees_them(samples):
    known = [part for text in default_texts() for part in parts(text)]
    assert not {sample.text for sample in samples} & set(known)
    assert not {line for lines in sentences().values() for line in lines if any(line in text for text in known)}


def test_cut(tokenizer):
    assert cut(tokenizer, "one two three four", 2) == "one two"
    assert cut(tokenizer, "한국", 1) == "한"  # three tokens: a text has a character
    assert cut(tokenizer, "one", 9) == "one"
