"""What an owner's model must have in common with the program that was made before."""

from __future__ import annotations

from dataclasses import replace

from private import TINY, tiny_model

from models.matching import mismatches, overflows
from models.preprocessing import Preprocessing
from models.weights import fold, random_checkpoint

TEXTS = Preprocessing("a" * 64, 12, "query: ", False, True)


def test_the_same_model_and_others() -> None:
    model, _ = tiny_model("fast", "exact")
    config, other = replace(model.config, preprocessing=TEXTS), random_checkpoint(TINY, 7)
    checkpoint = replace(other, preprocessing=TEXTS)
    assert list(mismatches(config, checkpoint)) == []
    assert list(overflows(config, fold(checkpoint))) == []
    deeper = replace(random_checkpoint(replace(TINY, layers=3), 7), preprocessing=TEXTS)
    assert list(mismatches(config, deeper)) == ["layers: the program has 2, the model 3"]
    cased = replace(checkpoint, preprocessing=replace(TEXTS, tokenizer_sha256="b" * 64, prompt=""))
    assert [text.split(":")[0] for text in mismatches(config, cased)] == ["prompt", "tokenizer_sha256"]
    assert "tokenizer: the program has None, the model none" in list(mismatches(config, other))
    large = replace(checkpoint, tensors={name: value * 1e6 for name, value in checkpoint.tensors.items()})
    assert next(overflows(config, fold(large))).startswith("values of the embedding: want < 4194304 for every text")
