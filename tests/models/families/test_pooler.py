"""The dense layer that BertModel saves behind its encoder, with a tanh: who uses it, and who leaves it out.

A classifier's logits are made of it. An embedding never is: a folder without a modules.json is the mean of its tokens,
as sentence-transformers takes it, and one with it is pooled as its 1_Pooling says.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import layout, save_classifier, save_embedding
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.reference import classify, embed
from mpcnet.models.texts.tokens import encode

TEXT = "the dog eats"
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


def saved(folder: Path, head: bool) -> Path:
    return save_classifier(folder, 3) if head else save_embedding(folder)


def with_pooler(folder: Path, factor: float | None) -> Checkpoint:
    """The folder with its pooler times `factor`, or without one."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith(POOLER)]:
        pooler = tensors.pop(name)
        if factor is not None:
            tensors[name] = factor * pooler
    save_file(tensors, path, {"format": "pt"})
    return load_checkpoint(folder)


def ask(found: Checkpoint) -> Tensor:
    call = classify if found.shape.head == "classification" else embed
    tokens = encode(found.source, [TEXT], 64)
    return call(found.shape, fold(found), tokens.ids, tokens.types, tokens.mask)[0]


@pytest.mark.parametrize(
    ("pooling", "head"), [(None, False), ("cls", False), ("mean", False), ("cls", True), ("mean", True)]
)
def test_an_embedding_leaves_it_out(tmp_path: Path, pooling: str | None, head: bool) -> None:
    """Be it there, another or missing; a modules.json makes an embedding of a classifier's folder too."""
    saved(tmp_path, head)
    if pooling is not None:
        layout(tmp_path, pooling=pooling)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.inference_mode():
        output = model(**AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt"))
    rows = output.last_hidden_state[0]
    checkpoints = [with_pooler(tmp_path, factor) for factor in (1.0, -2.0, None)]
    for found in checkpoints:
        assert not any("pooler" in name for name in found.tensors)
        assert found.sha256 == checkpoints[0].sha256
        assert torch.allclose(ask(found), rows[0] if pooling == "cls" else rows.mean(0), atol=1e-9)
    assert (output.pooler_output[0] - rows[0]).abs().max() > 0.1  # what it would have been


def test_a_classifier_uses_it(tmp_path: Path) -> None:
    saved(tmp_path, head=True)
    for factor in (1.0, -2.0):
        found = with_pooler(tmp_path, factor)
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
        with torch.inference_mode():
            theirs = model(**AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")).logits[0]
        assert torch.allclose(ask(found), theirs, atol=1e-9)
    with pytest.raises(LocalConfigError, match=r"2 missing parameters: pooler\.weight, pooler\.bias"):
        with_pooler(tmp_path, None)
