"""`mpcnet bench layers`: one row a layer, and JSON that says the same."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpcnet.launch.cli import app

pytestmark = pytest.mark.slow

OPERATIONS = ("qkv", "scores", "softmax", "context", "out", "out norm", "up", "activation", "down", "down norm")


def test_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    target = tmp_path / "errors.json"
    done = CliRunner().invoke(app, ["bench", "layers", "--model", "bert-tiny", "--json", str(target)])
    assert done.exit_code == 0, done.output
    document = json.loads(target.read_text())
    assert (document["bench"], document["model"], document["tokens"]) == ("layers", "bert-tiny", 64)
    assert [block["name"] for block in document["blocks"]] == ["embedding", "layer0", "layer1"]
    for block in document["blocks"][1:]:
        assert tuple(block["added"]) == OPERATIONS
        shown = next(line for line in done.output.splitlines() if block["name"] in line)
        assert block["source"] in shown and f"{block['total']['largest'] * 1e4:.1f}" in shown
