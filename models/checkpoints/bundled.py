"""The student that comes with this package: BERT-tiny for the sentiment of sentences, distilled to 2Quad.

models/checkpoints/sentiment/README.md says what it was made from, how, and what it scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.files import check_files
from mpcnet.models.checkpoints.loading import load_checkpoint

FOLDER = Path(__file__).with_name("sentiment")
ORIGIN = "BERT-tiny (Apache-2.0), fine-tuned on SST-2 and distilled to 2Quad by this project's `mpcnet distill`"
SHA256: Mapping[str, str] = {  # of every file transformers or mpcnet.models.checkpoints.loading reads
    "config.json": "748e742369bd57359b02775291336d3e961a34407f31c314f4397425f415886c",
    "model.safetensors": "5e1b66f0c3386cacd64bb0a8ab85620b3708c84936f1069c1412bee179e2a77f",
    "tokenizer.json": "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854",
    "tokenizer_config.json": "052fffd9124b096c8d261cfb20f767e56392eb7cabb4542fcca0a5bd775f26b9",
}


def sentiment_model_dir() -> Path:
    """The model's directory, its files checked.

    :raises LocalConfigError: a file is not the one.
    """
    check_files("sentiment model", FOLDER, SHA256, "install mpcnet again")
    return FOLDER


def sentiment_checkpoint() -> Checkpoint:
    """The model, ready to fold.

    :raises LocalConfigError: see :func:`sentiment_model_dir`.
    """
    return replace(load_checkpoint(sentiment_model_dir()), origin=ORIGIN)
