"""Texts from words and files: one entry a line, whatever characters a line holds, and an error in its place."""

import json
from pathlib import Path

import pytest

from mpcnet.errors import LocalConfigError, LocalInputError
from mpcnet.models.texts.inputs import Entry, entries, read_lines, texts_of, whole

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"  # what str.splitlines cuts at besides \n


def write(folder: Path, raw: bytes | str, name: str = "texts.txt") -> Path:
    path = folder / name
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


@pytest.mark.parametrize("mark", SEPARATORS)
def test_a_line_ends_at_a_newline_alone(tmp_path: Path, mark: str) -> None:
    lines = [f"the dog{mark}eats", f"{mark}a cat", "not good"]
    assert read_lines(write(tmp_path, "\n".join(lines) + "\n")) == lines


def test_ends_of_lines_and_of_files(tmp_path: Path) -> None:
    for raw in (b"one\r\ntwo\r\n", b"one\ntwo", b"\xef\xbb\xbfone\r\ntwo\n"):
        assert read_lines(write(tmp_path, raw)) == ["one", "two"]
    assert read_lines(write(tmp_path, "one\n\n\ufefftwo\n\n")) == [
        "one",
        "",
        "\ufefftwo",
        "",
    ]  # a mark inside is a text's
    assert read_lines(write(tmp_path, "")) == []


def test_bytes_that_are_no_text_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(LocalConfigError, match="want text in UTF-8, got other bytes in line 2; convert it"):
        read_lines(write(tmp_path, b"one\nt\xffwo\n"))
    with pytest.raises(LocalConfigError, match="no-file: want a text file, got No such file"):
        read_lines(tmp_path / "no-file")


def test_words_are_numbered() -> None:
    assert entries(["a", "b"]) == [Entry("text 1", "a", plain=True), Entry("text 2", "b", plain=True)]


def test_blank_lines_keep_their_place(tmp_path: Path) -> None:
    found = entries(file=write(tmp_path, "one\n\n  \t\ntwo\n"))
    assert [(entry.where, entry.text) for entry in found] == [
        ("line 1", "one"), ("line 2", ""), ("line 3", ""), ("line 4", "two")
    ]  # fmt: skip


def test_json_lines(tmp_path: Path) -> None:
    values = ["a\tb", ["c", "d"], {"text": "e\nf"}, {"text": "g", "text_pair": "h"}]
    wrong = [3, ["a"], ["a", "b", "c"], ["a", 1], {"text": 1}, {"texts": "a"}, {"text": "a", "more": 1}, None, {}]
    path = write(tmp_path, "\n".join(json.dumps(value) for value in [*values, *wrong]) + "\nnot json\n", "x.jsonl")
    found = entries(file=path)
    assert [entry.text for entry in found[:4]] == ["a\tb", ("c", "d"), "e\nf", ("g", "h")]
    assert not any(entry.plain for entry in found)
    for number, entry in enumerate(found[4:], 5):
        assert entry.text is None and entry.where == f"line {number}" and "want a text, a list of two or" in entry.error


def test_pairs(tmp_path: Path) -> None:
    """Two columns where the name or the format says so, JSON lines otherwise, and nothing but pairs."""
    columns = write(tmp_path, 'who "eats"\ta dog\none column\nthree\tof\tthem\n', "x.tsv")
    for found in (
        entries(pairs=columns),
        entries(file=columns),
        entries(pairs=write(tmp_path, columns.read_bytes()), form="tsv"),
    ):
        assert [entry.text for entry in found] == [('who "eats"', "a dog"), None, None]
        assert found[1].error == "want two columns with one tab between them, got 1 column(s)"
        assert found[2].error.endswith("got 3 column(s)")
    mixed = write(tmp_path, '["a", "b"]\n"c"\n', "pairs")
    assert [(entry.text, entry.error) for entry in entries(pairs=mixed)] == [
        (("a", "b"), ""), (None, "want a pair of texts, got one text")
    ]  # fmt: skip


def test_forms_that_are_not_guessed(tmp_path: Path) -> None:
    for name in ("x.json", "x.CSV"):
        with pytest.raises(LocalConfigError, match=r"want --format lines or jsonl or tsv for a \.(json|csv) file"):
            entries(file=write(tmp_path, "a,b\n", name))
        assert entries(file=tmp_path / name, form="lines")[0].text == "a,b"
    with pytest.raises(LocalConfigError, match="want --format jsonl or tsv for pairs, got lines"):
        entries(pairs=write(tmp_path, "a\n"), form="lines")


def test_one_source_of_texts(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n")
    for given in ({"words": ["a"], "file": path}, {"file": path, "pairs": path}, {"words": ["a"], "pairs": path}):
        with pytest.raises(LocalInputError, match="want words, --file or --pairs, got more than one"):
            entries(**given)
    with pytest.raises(LocalInputError, match="--format: want --file or --pairs"):
        entries(["a"], form="jsonl")
    with pytest.raises(LocalInputError, match="want at least one text, got none"):
        entries(file=write(tmp_path, ""))


def test_all_of_a_files_texts_or_none(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path, "one\n\n \ntwo\u2028three\n")) == ["one", "two\u2028three"]
    assert whole([Entry("text 1", ("a", "b"))]) == [("a", "b")]
    with pytest.raises(LocalInputError, match="line 2: want two columns"):
        texts_of(write(tmp_path, "a\tb\nc\n", "x.tsv"))
    with pytest.raises(LocalInputError, match="got blank lines"):
        texts_of(write(tmp_path, "\n \n"))


def test_no_text_is_in_a_repr() -> None:
    assert "secret" not in repr(Entry("text 1", "secret"))
