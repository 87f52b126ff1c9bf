"""Models in the files they come in, through the real parties: deployed, asked, and as near to transformers as others."""

import asyncio
from pathlib import Path

import pytest
import torch
from exported import export_graph, save_adapter
from limits import LIMIT_S
from served import served
from small_models import save_embedding

import mpcnet
from mpcnet.models.checkpoints.loading import load_checkpoint
from mpcnet.models.float_model.huggingface import published
from mpcnet.models.formats.calibration_batches import texts_by_kind

TEXTS = ["the dog eats a cat", "good old ship"]


@pytest.mark.parametrize("kind", ["adapter", "graph", "gguf"])
async def test_embeddings(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GGUF file brings its tokenizer too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = save_embedding(tmp_path / "model")
    if kind == "gguf":
        pytest.importorskip("sentencepiece")
        converted = pytest.importorskip("converted", reason="the extra mpcnet[gguf] is not installed")
        lines = [text for text in texts_by_kind()["english"] if isinstance(text, str)]
        folder = converted.save_pieces(tmp_path / "other", lines)
        converted.convert(folder)
        converted.strip(folder)
    elif kind == "graph":
        pytest.importorskip("onnx", reason="the extra mpcnet[onnx] is not installed")
        export_graph(folder)
    else:
        base, folder = folder, tmp_path / "own"
        save_adapter(base, folder)
    theirs = published(load_checkpoint(folder))
    assert theirs.by.startswith("transformers, of model") and theirs.by.endswith(" as it is read here")
    with served(folder, tmp_path / "made") as parties:
        parties.serve()
        async with asyncio.timeout(LIMIT_S), mpcnet.AsyncClient.connect(parties.made.config("client")) as private:
            found = torch.from_numpy(await private.embed(TEXTS))
        await parties.stop()
    assert torch.cosine_similarity(found.double(), theirs(TEXTS)).min() > 0.9999
