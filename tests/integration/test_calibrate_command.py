"""`mpcnet calibrate`: what it writes and where, what it prints, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest
from small_models import save_embedding

from mpcnet.launch import cli
from mpcnet.models.private.prepare import prepare


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return save_embedding(tmp_path / "model", max_position_embeddings=64)


@pytest.fixture
def calibrate(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process: its exit code, its JSON or what it printed, its standard error."""

    def run(*arguments: object, model: object = model):
        monkeypatch.setattr(sys, "argv", ["mpcnet", "calibrate", "--model", str(model), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code or 0, json.loads(shown.out) if "-" in arguments else shown.out, shown.err

    return run


def test_texts_of_the_user(calibrate, model: Path, tmp_path: Path) -> None:
    """They are added to the built-in ones; later commands use the result; without texts the built-in one counts again."""
    texts = tmp_path / "texts.txt"
    texts.write_text("bad " * 60 + "\n\nold\u2028ship sings\r\n", "utf-8")
    built_in = prepare(str(model), "fast").calibration
    code, found, _ = calibrate("--texts", texts, "--json", "-")
    assert (code, found["own"], found["longest"], found["compared"]) == (0, 2, 64, True)
    assert Path(found["calibration"]).parent.parent == tmp_path / "cache" / "mpcnet"
    assert not list(model.glob("*calibration*"))
    own = prepare(str(model), "fast").calibration
    assert own.sentences == built_in.sentences + 2 == found["rows"]
    assert "bad" not in Path(found["calibration"]).read_text()
    code, found, _ = calibrate("--json", "-")
    assert (code, found["own"]) == (0, 0)
    assert prepare(str(model), "fast").calibration == built_in
    assert Path(found["calibration"]).is_file()


def test_what_widened_is_told(calibrate, model: Path, tmp_path: Path) -> None:
    """In a table, the widest first: a short calibration against one of longer rows."""
    out = tmp_path / "ranges.json"
    code, _, _ = calibrate("--length", 4, "--out", out)
    assert code == 0 and json.loads(out.read_text())["coverage"]["longest"] == 4
    code, shown, said = calibrate("--out", out)
    assert code == 0 and "ranges wider than before" in shown and "make them again" in said
    assert "up to 64 tokens" in shown and str(out) in shown.replace("\n", "")
    code, found, _ = calibrate("--out", out, "--json", "-")
    assert found["widened"] == [] and found["compared"]
    assert prepare(str(model), "fast", calibration_file=out).note == ""


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", (), "want at least one text, got none"),
        (None, (), "want a text file, got"),
        ("the cat\n\t \n", ("--length", 65), "the model has 64 positions, got 65"),
        ("the cat", ("--out", "/nowhere/at/all.json"), "want a file in a folder that exists"),
    ],
)
def test_refused_in_one_line(calibrate, tmp_path: Path, content: str | None, options: tuple, words: str) -> None:
    texts = tmp_path / "texts.txt"
    if content is not None:
        texts.write_text(content)
    code, shown, said = calibrate("--texts", texts, *options)
    assert code > 0 and shown == "" and said.count("\n") == 1 and words in said


def test_random_weights_are_refused(calibrate) -> None:
    code, _, said = calibrate(model="bert-tiny")
    assert code == 78 and "want a checkpoint, got a model whose weights are random" in said


def test_calibrate_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As mpcnet calibrate --texts, within another command: the ranges are kept, and what follows is planned with them."""
    texts = tmp_path / "texts.txt"
    texts.write_text("bad " * 60 + "\nthe old ship\n", "utf-8")

    def plan(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["mpcnet", "plan", "--model", str(model), "--length", "8", "--json", *map(str, arguments)]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code or 0, shown.err if ended.value.code else shown.out

    built_in = prepare(str(model), "fast").calibration.sentences
    code, found = plan("--calibrate-on", texts)
    assert code == 0 and json.loads(found)["rounds"] > 0
    assert prepare(str(model), "fast").calibration.sentences == built_in + 2
    code, said = plan("--calibrate-on", texts, "--calibration", tmp_path / "ranges.json")
    assert code > 0 and "want it or --calibration, got both" in said and said.count("\n") == 1
    texts.write_text("the cat\n" + "dog " * 200)
    code, said = plan("--calibrate-on", texts)
    assert code > 0 and "calibration, text 2 of 2: want at most 64 tokens, got 202" in said and said.count("\n") == 1
    code, said = plan("--model", "bert-tiny", "--calibrate-on", texts)
    assert code > 0 and "calibrate: want a checkpoint, got a model whose weights are random" in said


def test_it_has_one_more_name(calibrate, model: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the old ship\n", "utf-8")
    code, found, _ = calibrate("--calibrate-on", texts, "--json", "-")
    assert (code, found["own"]) == (0, 1)
