"""Progress: after a while, where somebody watches, and gone at the end."""

import asyncio
import io

import pytest
from rich.console import Console

from mpcnet.launch.api import progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal gets."""
    made = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=made, force_terminal=True, width=80))
    return made


async def test_what_takes_long_is_shown(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    with progress.shown("embed: [3] texts", 3) as step:
        for _ in range(3):
            await asyncio.sleep(0)
        step.advance(2)
        step.progress.refresh()
        assert "embed: [3] texts" in screen.getvalue() and "2/3" in screen.getvalue()
        step.say("nearly done")
        step.progress.refresh()
        assert "nearly done" in screen.getvalue()
    assert not step.progress.live.is_started


async def test_what_is_over_soon_is_not(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 3600.0)
    with progress.shown("connecting") as step:
        step.say("starting")
        await asyncio.sleep(0)
    assert screen.getvalue() == ""


async def test_a_dumb_terminal_is_left_alone(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    with progress.shown("connecting", 2) as step:
        for _ in range(3):
            await asyncio.sleep(0)
        step.advance(1)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("enabled", [True, False])
async def test_nobody_watches(monkeypatch: pytest.MonkeyPatch, enabled: bool) -> None:
    """In a pipe, or who said so."""
    made = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=made, force_terminal=not enabled, width=80))
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    with progress.shown("connecting", 2, enabled=enabled) as step:
        for _ in range(3):
            await asyncio.sleep(0)
        step.advance(1)
    assert made.getvalue() == ""
