"""The student that comes with this package: BERT-tiny for the sentiment of sentences, distilled to 2Quad.

models/sentiment/README.md says what it was made from, how, and what it scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from models.files import check_files
from models.weights import Checkpoint, load_checkpoint

FOLDER = Path(__file__).with_name("sentiment")
ORIGIN = "BERT-tiny (Apache-2.0), fine-tuned on SST-2 and distilled to 2Quad by this project's `mpcnet distill`"
SHA256: Mapping[str, str] = {  # of every file transformers or models.weights reads
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
