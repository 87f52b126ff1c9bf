"""The pages that people read: links lead somewhere, commands exist and take their options, named files are there."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mpcnet.launch import cli
from mpcnet.launch.party.monitor import Metrics

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "deploy/*.md", "models/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMED = re.compile(r"(?:mpcnet|protocols|models|launch|tests|docs|deploy|examples)/[\w/.@-]*[\w/]")


@cache
def tokens(page: Path) -> list[Token]:
    parsed = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    return [token for each in parsed for token in (each, *(each.children or ()))]


def slug(heading: str) -> str:
    """As mkdocs and GitHub make anchors."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@cache
def anchors(page: Path) -> set[str]:
    parsed = tokens(page)
    titles = [after for token, after in pairwise(parsed) if token.type == "heading_open"]
    return {slug("".join(part.content for part in title.children or ())) for title in titles}


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        target = token.attrGet("href") or token.attrGet("src")
        if isinstance(target, str):
            yield target


def broken(page: Path) -> list[str]:
    found = []
    for target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(target)
    return found


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `mpcnet` line in a shell block."""
    blocks = "\n".join(token.content for token in tokens(page) if token.type == "fence" and token.info == "sh")
    lines = [line.partition("  #")[0] for line in blocks.replace("\\\n", " ").splitlines()]
    return [
        re.findall(r'"[^"]*"|\S+', found[1])
        for line in lines
        if (found := re.search(r"(?:^|/bin/|run --rm )mpcnet ([^;&|]*)", line))
    ]


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    assert broken(ROOT / page) == []


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str) -> None:
    for line in commands(ROOT / page):
        command, rest = typer.main.get_command(cli.app), [word.strip('"') for word in line if word != "..."]
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
        command.make_context(line[0], rest)  # raises a UsageError where an option does not exist


@pytest.mark.parametrize("page", PAGES)
def test_named_files(page: str) -> None:
    words = [word for token in tokens(ROOT / page) if token.type == "code_inline" for word in token.content.split()]
    named = [word.removesuffix("/") for word in words if NAMED.fullmatch(word)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_of_the_site_is_found_by_readers() -> None:
    """README's index names each page of docs/, so none is known to its author alone."""
    named = {target.partition("#")[0] for target in links(ROOT / "README.md")}
    pages = {page for page in PAGES if page.startswith("docs/")} - {"docs/index.md"}
    assert pages <= named


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](b.md)", ["b.md"]),
        ("# A title, and more\n[a](#a-title-and-more) [b](#another)", ["#another"]),
        ("| x |\n|---|\n| [a](b.md) |\n", ["b.md"]),
        ("[a](https://example.org/b.md)", []),
    ],
)
def test_what_a_broken_link_is(tmp_path: Path, text: str, wrong: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert broken(page) == wrong


def test_what_a_wrong_command_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('```sh\n.venv/bin/mpcnet plan --model "a b" --lengths 3  # no such option\n```\n')
    (line,) = commands(page)
    assert line == ["plan", "--model", '"a b"', "--lengths", "3"]
    with pytest.raises(Exception, match="--lengths"):
        typer.main.get_command(cli.app).commands["plan"].make_context("plan", line[1:])  # type: ignore[attr-defined]


def test_operations_lists_every_metric() -> None:
    registry = Metrics("server0").registry
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    names = {name + "_info" if name == "mpcnet_build" else name for name in names if not name.startswith("process_")}
    rows = re.findall(r"^\| `(mpcnet_\w+)", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(names)
