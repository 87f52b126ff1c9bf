"""Entities of a text: those that transformers' pipeline finds on the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import save_atoms, save_head, save_weights
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertForTokenClassification
from transformers.pipelines.token_classification import TokenClassificationPipeline

from mpcnet.errors import LocalInputError
from mpcnet.launch.requests.entities import Entity, entities
from mpcnet.launch.requests.view import Aggregation, Known
from mpcnet.models.texts.tokens import Reader, Row

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
TEXTS = (
    "The dog eats 1234 ships, not a cat-fish!",
    "old ship sings",
    "dogcat dogs  zyx, good bad? the cat",
    "\N{SNOWMAN} not good \N{SNOWMAN}",
)
AGGREGATIONS: tuple[Aggregation, ...] = ("none", "simple", "first", "average", "max")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_head(
        tmp_path_factory.mktemp("words"), BertForTokenClassification, std=0.6, id2label=dict(enumerate(NAMES)),
        label2id={name: place for place, name in enumerate(NAMES)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def atoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose tokens do not say if they go on with a word."""
    folder = tmp_path_factory.mktemp("atoms")
    save_weights(folder, BertForTokenClassification, std=0.6, id2label=dict(enumerate(NAMES)))
    save_atoms(folder)
    return folder


def both(folder: Path, text: str, aggregation: Aggregation) -> tuple[list[dict[str, Any]], list[Entity]]:
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, aggregation_strategy=aggregation)
    with torch.inference_mode():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
    padded = torch.nn.functional.pad(logits, (0, 0, 0, 3))  # as in a request with a longer text
    known = Known(text, Reader.of(folder, 64).row(text), tokenizer)
    return pipeline(text), entities(NAMES, padded, known, aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_those_of_transformers(words: Path, aggregation: Aggregation) -> None:
    count = 0
    for text in TEXTS:
        theirs, mine = both(words, text, aggregation)
        kind = "entity" if aggregation == "none" else "entity_group"
        assert [(one[kind], one["start"], one["end"]) for one in theirs] == [(e.label, e.start, e.end) for e in mine]
        assert [one["score"] for one in theirs] == pytest.approx([entity.score for entity in mine], abs=1e-9)
        assert all(entity.text == text[entity.start : entity.end] for entity in mine)
        count += len(mine)
    assert count > len(TEXTS)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_words_of_a_tokenizer_without_marks(atoms: Path) -> None:
    for aggregation in AGGREGATIONS:
        theirs, mine = both(atoms, "CN(C) O=c1 no1", aggregation)
        assert [(one["start"], one["end"]) for one in theirs] == [(entity.start, entity.end) for entity in mine]


def test_labels_alone_have_no_score(words: Path) -> None:
    known = Known("the cat", Reader.of(words, 64).row("the cat"), AutoTokenizer.from_pretrained(words))
    hot = torch.eye(len(NAMES))[[0, 1, 2, 0]]
    assert entities(NAMES, hot, known, labels=True) == [Entity("PER", None, "the cat", 0, 7)]


def test_a_pair_is_refused(words: Path) -> None:
    known = Known(("the", "cat"), Row([], []), None)
    with pytest.raises(LocalInputError, match="want one text to tag, got a pair"):
        entities(NAMES, torch.zeros(0, 6), known)


def test_a_tokenizer_that_does_not_tell_places() -> None:
    with pytest.raises(LocalInputError, match="tokenizer: want one that tells where its tokens are, got dict"):
        entities(NAMES, torch.zeros(0, 6), Known("a", Row([1], [0]), {}))
