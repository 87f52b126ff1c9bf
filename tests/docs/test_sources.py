"""Every source that a docstring names can be found: a heading of a document here, or a full reference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGE = ROOT / "docs" / "protocol.md"
PACKAGES = ("mpcnet", "protocols", "models", "launch")

FIELD = r"^[ ]*Source(?::|[ ]{2,})(.*?)(?=^[ ]*(?:[A-Z][a-z]+[ ]{2,}|:raises)|\n[ ]*\n|\Z)"
DOCUMENT = r'([\w/]+\.md)((?:,\s*"[^"]+")*)'
KEY = r"[A-Z][A-Za-z]*\d*"
CITED = rf"\[({KEY}(?:; {KEY})*)\](?!\()"
REFERENCE = rf"^\* \[({KEY})\] (.*(?:\n  .*)*)"


def sources(docstring: str) -> list[str]:
    """The text of each Source field."""
    return [" ".join(found.split()) for found in re.findall(FIELD, docstring, re.DOTALL | re.MULTILINE)]


def headings(page: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", page, re.MULTILINE))


def references(page: str) -> dict[str, str]:
    """Each key's reference, from the last section."""
    _, _, section = page.partition("\n## References\n")
    return dict(re.findall(REFERENCE, section, re.MULTILINE))


def cited(text: str) -> set[str]:
    return {key for keys in re.findall(CITED, re.sub(r"\$[^$]*\$", "", text)) for key in keys.split("; ")}


def problems(source: str, root: Path, known: set[str]) -> list[str]:
    """What of a source cannot be found: documents below `root`, their headings, keys that are not `known`."""
    found = [f"no reference {key}" for key in sorted(cited(source) - known)]
    documents = re.findall(DOCUMENT, source)
    for name, quoted in documents:
        wanted = re.findall(r'"([^"]+)"', quoted)
        if not (root / name).is_file():
            found.append(f"no document {name}")
        elif not wanted:
            found.append(f"no heading of {name} is named")
        else:
            there = headings((root / name).read_text())
            found += [f"no heading {heading!r} in {name}" for heading in wanted if heading not in there]
    return found if documents or cited(source) else ["neither a document nor a reference"]


def docstrings() -> Iterator[tuple[str, str]]:
    """All of the packages, with the place they stand at."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                name = getattr(node, "name", "module")
                yield f"{path.relative_to(ROOT)}: {name}", ast.get_docstring(node) or ""


def test_every_source_is_found() -> None:
    known = set(references(PAGE.read_text()))
    rows = [(place, source) for place, text in docstrings() for source in sources(text)]
    wrong = [f"{place}: {problem}" for place, source in rows for problem in problems(source, ROOT, known)]
    assert wrong == []
    assert len(rows) >= 40, "the field is written otherwise: this test looks at nothing"


def test_every_protocol_has_a_source() -> None:
    """Each file of protocols/ that computes something is on the page, by its name."""
    page = PAGE.read_text()
    missing = [path.name for path in (ROOT / "protocols").glob("*.py") if f"`protocols/{path.name}`" not in page]
    assert sorted(missing) == ["__init__.py", "lockstep.py", "lockstep_session.py", "oracle.py", "suites.py"]
    named = set(re.findall(r"`((?:mpcnet|protocols|models)/[\w/]+\.py)`", page))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_page_cites_what_it_lists_and_lists_what_it_cites() -> None:
    page = PAGE.read_text()
    body, listed = page.partition("\n## References\n")[0], references(page)
    used = cited(body) | {key for _, text in docstrings() for source in sources(text) for key in cited(source)}
    assert used == set(listed)
    for key, text in listed.items():
        assert re.search(r"\b(19|20)\d\d\b|\d{4}\.\d{5}", text), f"{key}: want a year or an eprint number"


def test_links_within_the_page() -> None:
    page = PAGE.read_text()
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings(page)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    assert all((PAGE.parent / name).is_file() for name in re.findall(r"\]\(([\w.]+\.md)\)", page))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('docs/page.md, "There"; [Known99], section 2', []),
        ('docs/page.md, "There", "Absent"', ["no heading 'Absent' in docs/page.md"]),
        ('page.md, "There"', ["no document page.md"]),
        ("docs/page.md", ["no heading of docs/page.md is named"]),
        ("[Known99; Other00]", ["no reference Other00"]),
        ("Known et al. 1999", ["neither a document nor a reference"]),
        ("here", ["neither a document nor a reference"]),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, source: str, says: list[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n\n## There\n")
    assert problems(source, tmp_path, {"Known99"}) == says


def test_fields_are_read_to_their_end() -> None:
    text = "Does it.\n\nRounds   1\nSource   [A1], Pi;\n         more\nError    none\n\nSource: x\n\nNot: y"
    assert sources(text) == ["[A1], Pi; more", "x"]
    assert cited("$[x]$, [Text](link.md), [A1; Bc] and [B, n]") == {"A1", "Bc"}
