"""What takes over two seconds shows how far it is, where somebody watches: on a terminal or in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the display."""

    progress: Progress
    task: TaskID

    def say(self, text: str) -> None:
        """What is being done now. May be called from any thread."""
        self.progress.update(self.task, description=text)

    def advance(self, count: int) -> None:
        """So much more is done."""
        self.progress.advance(self.task, count)


@contextmanager
def shown(text: str, total: int | None = None, *, enabled: bool = True) -> Iterator[Step]:
    """Show a step on standard error, from two seconds on until it has ended. Needs a running event loop."""
    console = Console(stderr=True)
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    if total is not None:
        columns += [BarColumn(), MofNCompleteColumn()]
    watched = enabled and (console.is_interactive or console.is_jupyter)  # not a dumb terminal
    progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not watched)
    timer = asyncio.get_running_loop().call_later(PATIENCE_S, progress.start)
    try:
        yield Step(progress, progress.add_task(text, total=total))
    finally:
        timer.cancel()
        progress.stop()
