"""`mpcnet bench corpus` on a small model: the oracle beside transformers, kind by kind; once as real processes."""

import json
import sys
from pathlib import Path

import pytest
from small_models import save_embedding

from mpcnet.launch import cli

pytestmark = pytest.mark.slow


def corpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    monkeypatch.setattr(sys, "argv", ["mpcnet", "bench", "corpus", *map(str, arguments), "--json", "-"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert not ended.value.code, shown.err
    return json.loads(shown.out)


@pytest.mark.parametrize(("each", "where"), [(2, ()), (1, ("--processes",))])
def test_small_model(tmp_path: Path, monkeypatch, capsys, each: int, where: tuple[str, ...]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    save_embedding(model, max_position_embeddings=64)
    found = corpus(monkeypatch, capsys, "--model", model, "--each", each, "--longest", 12, *where)
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert {"english", "repeated", "vocabulary", "thai"} < set(kinds) and found["n"] == each * len(kinds)
    assert found["tokens"] <= 12 and found["min_cosine"] > 0.999
    assert found["answers"] == ("processes" if where else "oracle")
    assert found["out_of_range"] == 0
