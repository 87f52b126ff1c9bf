"""A party is killed, in any phase: the others say so and live on, no answer is wrong, and the next one comes."""

import asyncio
import re
import signal
from collections.abc import Mapping

import pytest
import rogue
from limits import LIMIT_S
from parties import ALL, SERVERS, Parties, some_tokens
from rogue import RogueNode, Which
from running import Running

from mpcnet.errors import MpcError, RemoteAbort
from mpcnet.launch.party.control_frames import RESULT, WEIGHTS
from mpcnet.runtime.correction_buffer import CorrectionBuffer
from mpcnet.transport.rendezvous import JOIN
from mpcnet.transport.wire import Value

TOKENS, NEXT = some_tokens([5, 3]), some_tokens([4], seed=1)
ROLES = (*ALL, "owner")
PHASES: dict[str, tuple[str, str, Which, int]] = {  # who holds back which frame to whom
    "handshake": ("server1", "dealer", rogue.named(JOIN), 1),
    "weights": ("owner", "server1", rogue.named(WEIGHTS), 3),
    "load": ("server1", "server0", rogue.of_load("round"), 1),
    "offline": ("dealer", "server1", rogue.of_run("deal"), 4),
    "online": ("server1", "server0", rogue.of_run("round"), 4),
    "answer": ("server1", "client", rogue.named(RESULT), 1),
}
GONE = "the connection ended|closed the channel|cannot write|has connected anew"


# --- at once, as tasks ----------------------------------------------------------------------------------------


async def right_or_refused(parties: Parties, asked: asyncio.Task) -> bool:
    """True if the client has got an answer; one that it gets is right."""
    await asyncio.wait_for(asyncio.wait([asked]), LIMIT_S)
    if isinstance(asked.exception(), MpcError):
        return False
    await parties.answered(TOKENS, asked)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("parties", [{"buffer_mib": 0}], indirect=True, ids=["no buffer"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("phase", PHASES)
async def test_killed(parties: Parties, phase: str, role: str) -> None:
    who, whom, which, when = PHASES[phase]
    node = parties.node(who, RogueNode, victim=whom, which=which, when=when, misdeed=rogue.held)
    parties.serve(node)
    asked = parties.ask(TOKENS)
    await asyncio.wait_for(node.did.wait(), LIMIT_S)
    for server in SERVERS:
        await parties.said(server, "queued: 1")
    await parties.kill(role)
    node.released.set()
    if role != "owner" or phase == "weights":
        for line in await parties.all_say("the session ended: ", *(other for other in ALL if other != role)):
            assert re.search(role if role == "owner" else f"{role}|owner", line), line
    parties.start(role)
    got = await right_or_refused(parties, asked)
    if role == "owner" or (role == "dealer" and phase in ("handshake", "weights", "load")):
        assert got  # it waited in both queues
    elif role in SERVERS and (role, phase) != ("server0", "answer"):
        assert not got  # else both shares of the answer may have left in time
    await parties.answered(NEXT)


async def test_a_run_that_has_its_material_outlives_the_dealer(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered; then the session ends, and the next begins with the next dealer."""
    finish, complete = CorrectionBuffer.finish, asyncio.Semaphore(0)

    async def finished(buffer: CorrectionBuffer, facts: Mapping[str, Value]) -> None:
        await finish(buffer, facts)
        complete.release()

    monkeypatch.setattr(CorrectionBuffer, "finish", finished)
    slow = parties.node("server1", RogueNode, victim="server0", which=rogue.of_run("round"), when=2, misdeed=rogue.held)
    parties.serve(slow)
    asked = parties.ask(TOKENS)
    await asyncio.wait_for(slow.did.wait(), LIMIT_S)
    for _ in range(4):  # of loading and of the run, at both
        await asyncio.wait_for(complete.acquire(), LIMIT_S)
    links = [each for role in SERVERS for each in parties.nodes[role].channels if each.peer == "dealer"]
    await parties.kill("dealer")
    await asyncio.gather(*(link.gone() for link in links))
    slow.released.set()
    await parties.answered(TOKENS, asked)
    await parties.all_say("the session ended: .*dealer", *SERVERS)
    parties.start("dealer")
    await parties.answered(NEXT)
    await parties.stop()


@pytest.mark.parametrize("role", ROLES)
async def test_killed_while_nobody_asks(parties: Parties, role: str) -> None:
    parties.serve()
    await parties.answered(TOKENS)
    await parties.kill(role)
    if role != "owner":
        for line in await parties.all_say("the session ended: ", *(other for other in ALL if other != role)):
            assert role in line, line
    parties.start(role)
    await parties.answered(NEXT)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ALL)
@pytest.mark.parametrize("role", ROLES)
async def test_killed_while_one_is_missing(parties: Parties, role: str, missing: str) -> None:
    """Nobody has a session yet: the others wait for two, and then begin."""
    for party in ROLES:
        if party != missing:
            parties.start(party)
    for party in ALL:
        if party not in (missing, role):
            await parties.said(party, "waiting for")
    if role != missing:
        await parties.kill(role)
        parties.start(role)
    asked = parties.ask(TOKENS)
    parties.start(missing)
    if await right_or_refused(parties, asked) is False:
        assert missing in SERVERS or role in SERVERS
    await parties.answered(NEXT)


@pytest.mark.parametrize("role", ALL)
async def test_stopped_in_order(parties: Parties, role: str) -> None:
    """While nobody asks: the others hear why, and wait for its return."""
    parties.serve()
    await parties.answered(TOKENS)
    await parties.stop(role)
    for line in await parties.all_say("the session ended: ", *(other for other in ALL if other != role)):
        assert f"{role} is stopping" in line, line
    parties.start(role)
    await parties.answered(NEXT)


async def test_all_of_them_in_a_row(parties: Parties) -> None:
    """Each session has its own name."""
    parties.serve()
    await parties.answered(TOKENS)
    for role in ALL:
        await parties.kill(role)
        parties.start(role)
        await parties.answered(NEXT)
    names = [line.split()[-1] for line in parties.logs["server0"].lines if "connected with" in line]
    assert len(set(names)) == len(names) >= 4


# --- for real -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_sigkill_in_mid_run(running: Running, role: str) -> None:
    asked = running.ask(TOKENS)
    for server in SERVERS:
        await running.said(server, "running$")
    assert await running.kill(role) == -signal.SIGKILL
    if role == "owner":
        await running.answered(TOKENS, asked)
    else:
        await asyncio.wait_for(asyncio.wait([asked]), LIMIT_S)
        if role == "dealer" and asked.exception() is None:  # both had all that it dealt
            await running.answered(TOKENS, asked)
        else:
            assert isinstance(asked.exception(), RemoteAbort)  # who is left says so at once
        for other in ALL:
            if other != role:
                assert role in await running.said(other, f"the session ended: .*({GONE}|aborted)")
    await running.restart(role)
    await running.answered(NEXT)


async def test_sigstop_in_mid_run(running: Running) -> None:
    """The others give up on who shows no sign of life, and take it back when it goes on."""
    asked = running.ask(TOKENS)
    for server in SERVERS:
        await running.said(server, "running$")
    running.signal("server1", signal.SIGSTOP)
    try:
        with pytest.raises(MpcError):
            await asyncio.wait_for(asked, LIMIT_S)
        for other in ("server0", "dealer"):
            assert "server1" in await running.said(other, "the session ended: ")
    finally:
        running.signal("server1", signal.SIGCONT)
    await running.said("server1", "the session ended: ")
    await running.answered(NEXT)
