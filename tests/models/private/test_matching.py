"""What an owner's model must have in common with the program that was made before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from private import TINY, tiny_model

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import random_checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.head_shape import Dense
from mpcnet.models.preprocessing import Preprocessing
from mpcnet.models.private import program
from mpcnet.models.private.matching import mismatches, overflows

TEXTS = Preprocessing("a" * 64, 12, "query: ", False, True)


def test_a_program_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And what differs is named, by settings that a handshake carries."""
    shape = replace(TINY, pooling="cls+mean", dense=(Dense(8, "tanh"), Dense(4, "identity")))
    config = tiny_model("fast", "exact", shape)[0].config
    config = replace(config, shape=replace(shape, pooled_from=1), preprocessing=TEXTS)
    path = tmp_path / "program.json"
    program.save(config, path)
    assert program.read(path) == config
    assert program.agreement(program.read(path)).digest == program.agreement(config).digest
    settings = program.agreement(config).settings
    assert (settings["model.dense"], settings["texts.prompt"]) == ("8 tanh, 4 identity", "query: ")
    for other in (None, replace(TEXTS, normalize=False), replace(TEXTS, max_tokens=11)):
        assert program.agreement(replace(config, preprocessing=other)).digest != program.agreement(config).digest
    values = json.loads(path.read_text())
    del values["preprocessing"]
    path.write_text(json.dumps(values))
    with pytest.raises(LocalConfigError, match=r"want a program file, got .*; make it again: mpcnet init"):
        program.read(path)


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
