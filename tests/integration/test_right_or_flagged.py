"""Whatever the text: processes over TLS give the right answer, or the client learns that it may not be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import SPECIAL, VOCABULARY, save_embedding
from torch import Tensor
from wild import Draw

from mpcnet.launch.reporting.screen import console
from mpcnet.launch.simulate.localhost import Options, run
from mpcnet.models.float_model import reference
from mpcnet.models.private.prepare import prepare
from mpcnet.models.texts.tokens import Tokens

pytestmark = pytest.mark.slow

REQUESTS, BATCH, LENGTH = 13, 8, 40


def folder(path: Path, rare: float) -> Path:
    """A small model, of which a few words have embeddings so many times as long, and heads look for them."""
    save_embedding(path, hidden_size=32, num_hidden_layers=2)
    tensors = load_file(path / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][: len(SPECIAL)] *= rare
    for name in tensors:
        if "query.weight" in name or "key.weight" in name:
            tensors[name] *= 3.0
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


def texts(draw: Draw) -> Tokens:
    ids = draw.ids(0, len(VOCABULARY), BATCH, 2 + draw.below(LENGTH - 1))
    for row in range(BATCH):
        if draw.below(3) == 0:
            ids[row] = draw.ids(0, len(SPECIAL), ids.shape[1])
    mask: Tensor = (torch.arange(ids.shape[1]) < 1 + draw.ids(0, ids.shape[1], BATCH, 1)).long()
    return Tokens(ids * mask, torch.zeros_like(ids), mask)


@pytest.mark.parametrize(("softmax", "rare"), [("exact", 20.0), ("2quad", 6.0)])
def test_hundred_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, softmax: str, rare: float) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = str(folder(tmp_path / "model", rare))
    prepared = prepare(model, "fast", softmax)  # type: ignore[arg-type]
    draw = Draw(5)
    batches = [texts(draw) for _ in range(REQUESTS)]
    options = Options(model=model, softmax=softmax, batch=BATCH)  # type: ignore[arg-type]
    outcome = run(prepared, batches, options, console)
    floats = torch.cat(
        [
            reference.embed(
                prepared.config.shape, prepared.folded, x.ids, x.types, x.mask, prepared.config.formats.softmax
            )
            for x in batches
        ]
    )
    flags = torch.tensor(outcome.document["out_of_range"])
    assert len(flags) == len(floats) == REQUESTS * BATCH
    assert torch.cosine_similarity(outcome.private, floats)[~flags].min() > 0.999
    assert (~flags).sum() > len(flags) // 2
