"""Pieces of Markdown that every report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mpcnet.errors import LocalConfigError


def write(path: Path, text: str) -> Path:
    """Write a report; returns its path.

    :raises LocalConfigError: it cannot be written.
    """
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise LocalConfigError(f"{path}: cannot write: {error.strerror}") from error
    return path


def cell(text: str) -> str:
    """Text that Markdown does not take for markup."""
    return "".join(f"\\{char}" if char in "\\`*_|<>[]#" else char for char in text)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> list[str]:
    """The lines of a table whose first `left` columns are words, the others figures."""
    head = [f"| {' | '.join(titles)} |", f"|{'---|' * left}{'---:|' * (len(titles) - left)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def figures(titles: Mapping[str, str]) -> list[str]:
    """A section for each plot: `titles` by file name, without the endings."""
    lines = []
    for name, title in titles.items():
        lines += [f"## {title}", "", f"![{title}]({name}.png)", "", f"[As SVG]({name}.svg)", ""]
    return lines
