"""What a terminal shows: tables as wide as it is, progress, and warnings of one line."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from mpcnet.models.private.prepare import Prepared, off_domain, other_softmax

WIDE = 4000  # columns of what goes into a file or a pipe: no line is broken, no word of a table cut


def screen(*, stderr: bool = False) -> Console:
    """Where tables are printed: as wide as the terminal, if it is one."""
    out = Console(stderr=stderr, highlight=False)
    return out if out.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


console = screen(stderr=True)  # progress; results go to standard output


def warn(prepared: Prepared, to: Console = console) -> None:
    """Say what is odd about how a model is to be run, a line each."""
    if prepared.note:
        warn_of(prepared.note, to)
    if text := other_softmax(prepared.checkpoint, prepared.config):
        warn_of(text, to, "bold red")
    if text := off_domain(prepared):
        warn_of(text, to, "bold red")


def warn_of(text: str, to: Console = console, style: str = "yellow") -> None:
    """A warning, in one line."""
    to.print(f"[{style}]warning: {escape(text)}[/{style}]", soft_wrap=True)
