"""Processes of our own: one that has ended is what a call fails of, not the connection that ended with it."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import NoReturn

import pytest

from mpcnet.errors import ChannelClosed
from mpcnet.launch.api import sources
from mpcnet.launch.simulation.processes import PartyFailed


async def cut() -> None:
    raise ChannelClosed("server1: the connection ended")


def test_a_process_that_ended_is_named_however_long_the_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get time to say what they noticed, which is longer than we wait for a process to end: here, not at all."""
    monkeypatch.setattr(sources, "NOTICE_S", 0.0)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    def check_all_run() -> NoReturn:
        raise PartyFailed("server1 (exit code 0): it said nothing")

    here = sources.here("demo", "fast", None, "private", "none", 1, 1, "cpu", None, None)
    here._made = SimpleNamespace(running={"server1": process}, check_all_run=check_all_run, reap=lambda: None)
    with pytest.raises(PartyFailed, match="server1"):
        asyncio.run(here.guard(cut()))


def test_a_connection_that_ends_alone_is_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "NOTICE_S", 0.0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = sources.here("demo", "fast", None, "private", "none", 1, 1, "cpu", None, None)
        here._made = SimpleNamespace(running={"server1": process}, check_all_run=lambda: None, reap=lambda: None)
        with pytest.raises(ChannelClosed, match="the connection ended"):
            asyncio.run(here.guard(cut()))
        process.communicate(b"\n")
