"""Real processes: how they end, and what they say."""

import asyncio
import signal
from pathlib import Path

import pytest
from limits import LIMIT_S
from parties import ALL, SERVERS, deployed, some_tokens, tiny
from running import Running

from mpcnet.errors import ChannelClosed, MpcError
from mpcnet.launch.simulation.processes import PartyFailed

TOKENS, NEXT = some_tokens([5, 3]), some_tokens([4], seed=1)


@pytest.mark.parametrize("role", ALL)
async def test_sigterm_in_mid_run(running: Running, role: str) -> None:
    """The run is finished and the client gets its answer; the others wait for the party's return."""
    asked = running.ask(TOKENS)
    for server in SERVERS:
        await running.said(server, "running$")
    running.signal(role, signal.SIGTERM)
    await running.answered(TOKENS, asked)
    assert await running.ended(role) == 0
    for other in ALL:
        if other != role:
            assert f"{role} is stopping" in await running.said(other, "the session ended: ")
    await running.restart(role)
    await running.answered(NEXT)


async def test_sigterm_while_the_owner_waits(running: Running) -> None:
    """It has nothing to finish, and nobody misses it until the next session."""
    running.signal("owner", signal.SIGTERM)
    assert await running.ended("owner") == 0
    await running.answered(TOKENS)
    await running.restart("owner")


async def test_second_signal_in_mid_run(running: Running) -> None:
    """The process ends at once, and says so."""
    asked = running.ask(TOKENS)
    for server in SERVERS:
        await running.said(server, "running$")
    running.signal("server1", signal.SIGTERM)
    running.signal("server1", signal.SIGINT)  # another one, as two of a kind at once are one to the kernel
    assert await running.ended("server1") == ChannelClosed.exit_code
    assert running.log("server1").splitlines()[-1] == "server1  failed server1 was stopped"
    with pytest.raises(MpcError, match=r"the session with the other parties ended; ask again|server1"):
        await asyncio.wait_for(asked, LIMIT_S)
    await running.restart("server1")
    await running.answered(NEXT)


@pytest.mark.slow
async def test_wait_names_who_failed_first(tmp_path: Path) -> None:
    with deployed(tiny().config(), tmp_path / "deployment") as made:
        made.config("server1").write_text('role = "server1"\nports = 3\n')
        made.start("server1", "party")
        words = r"server1 \(exit code 78\): .*addresses is missing; unknown setting 'ports'"
        with pytest.raises(PartyFailed, match=words):
            await asyncio.to_thread(made.wait, ["server1"])
