"""Real processes: one killed in mid-run, and how the others end."""

import asyncio
import re
import signal
from dataclasses import replace

import pytest
from integration.parties import LIMIT_S, SERVERS, SHAPE, Parties, some_tokens

from launch import settings as settings_file
from launch.client import Answer
from launch.processes import Deployment, PartyFailed
from mpcnet.errors import MpcError

ALL = (*SERVERS, "dealer")
SLOW = {"net": "rtt=200ms", "timeout_s": 20.0}  # some thirty rounds: what takes ten seconds is interrupted early
TOKENS = some_tokens([SHAPE.positions] * 96)


async def said(made: Deployment, role: str, words: str) -> None:
    """Wait until a process has said this."""
    async with asyncio.timeout(LIMIT_S):
        while not re.search(words, made.log(role).read_text()):
            assert made.running[role].poll() is None, made.log(role).read_text()
            await asyncio.sleep(0.02)


async def exit_code(made: Deployment, role: str) -> int:
    return await asyncio.to_thread(made.running[role].wait, LIMIT_S)


def start(parties: Parties, stock_mib: int) -> None:
    for role in SERVERS:
        settings = settings_file.read(parties.made.config(role))
        settings_file.write(replace(settings, stock_mib=stock_mib))
        parties.made.start(role, "party", "--requests", "1")
    parties.made.start("dealer", "dealer")


@pytest.mark.parametrize("parties", [SLOW], indirect=True, ids=["200 ms"])
@pytest.mark.parametrize(
    ("victim", "number", "words"),
    [
        ("server1", signal.SIGKILL, r"the connection ended|closed the channel|cannot write"),
        ("dealer", signal.SIGKILL, r"the connection ended|closed the channel|cannot write"),
        ("server0", signal.SIGTERM, "server0: was stopped"),
    ],
)
async def test_one_is_killed(parties: Parties, victim: str, number: signal.Signals, words: str) -> None:
    """The others end at once: one line, no traceback, a non-zero exit code; the client gets nothing."""
    made = parties.made
    start(parties, stock_mib=0)
    await parties.give_weights()
    asked = parties.ask(TOKENS)
    for role in SERVERS:
        await said(made, role, "request 1: 96 x 16 tokens, running")
    assert "dealt" not in made.log("dealer").read_text()  # so it is in the midst of dealing
    made.running[victim].send_signal(number)
    codes = {role: await exit_code(made, role) for role in ALL}
    assert codes.pop(victim) == (-9 if number == signal.SIGKILL else 69)
    with pytest.raises(MpcError):
        await asked
    for role, code in codes.items():
        log = made.log(role).read_text()
        assert 0 < code < 128 and "Traceback" not in log and "Warning" not in log, log
        assert [line for line in log.splitlines() if "failed" in line] == log.splitlines()[-1:], log
        assert re.search(words, log.splitlines()[-1]) and victim in log.splitlines()[-1], log


@pytest.mark.parametrize("parties", [{"timeout_s": 20.0}], indirect=True, ids=["20 s"])
async def test_a_run_that_ends_well_says_nothing_else(parties: Parties) -> None:
    made = parties.made
    start(parties, stock_mib=64)
    await parties.give_weights()
    assert isinstance(await parties.ask(some_tokens([5, 3])), Answer)
    assert [await exit_code(made, role) for role in ALL] == [0, 0, 0]
    for role in ALL:
        assert all(line.startswith(role) for line in made.log(role).read_text().splitlines())


async def test_wait_names_who_failed_first(parties: Parties) -> None:
    made = parties.made
    made.config("server1").write_text('role = "server1"\nports = 3\n')
    made.start("server1", "party")
    with pytest.raises(PartyFailed, match=r"server1 \(exit code 78\): .*addresses is missing; unknown setting 'ports'"):
        await asyncio.to_thread(made.wait, ["server1"])
