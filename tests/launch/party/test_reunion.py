"""Three parties whose connections break and whose processes die, in simulated time: all three always meet again.

The parties run the loop of a real process (`mpcnet.launch.party.service`) over memory channels. Time passes only when nobody has
anything to do, so an hour of waiting takes no time, and a seed always gives the same run.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from around import Around

from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import ChannelTimeout, MpcError
from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.service import Service
from mpcnet.transport.channel import Channel, Expect, MemoryChannel, memory_pair
from mpcnet.transport.handshake import Peer, Program, agree_seed, handshake
from mpcnet.transport.rendezvous import Rendezvous, join
from mpcnet.transport.wire import Header

ROLES = ("server0", "server1", "dealer")
ALL = dict.fromkeys(ROLES, "host:1")
HIDDEN_DEALER = dict.fromkeys(("server0", "server1"), "host:1")
PROGRAM = Program(bytes(32))
TIMEOUT_S = 60.0  # of a frame, and without a sign of life


# --- time -----------------------------------------------------------------------------------------------------------


class Jump(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Instead of waiting for a time, moves the clock there."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for somebody else")
        self.now_s += max(timeout, 0.0)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_s


def simulate(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main)


# --- a town without a network ---------------------------------------------------------------------------------------


class Line(Around):
    """One end of a connection, over which everything takes a while.

    If its holder loses power it does nothing any more, not even say goodbye: the other end notices after `TIMEOUT_S`.
    """

    def __init__(self, inner: MemoryChannel, delay_s: Callable[[], float]) -> None:
        super().__init__(inner)
        self._delay_s, self._dead = delay_s, False

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        await asyncio.sleep(self._delay_s())
        return await self.inner.receive(expect, patient=patient)

    async def gone(self) -> MpcError:
        error = await self.inner.gone()
        await asyncio.sleep(self._delay_s())
        return error

    async def close(self) -> None:
        if not self._dead:
            await self.inner.close()

    def abort(self, reason: str, **advice: int) -> None:
        if not self._dead:
            self.inner.abort(reason)

    def cut(self) -> None:
        """The connection ends, whoever holds it."""
        self.inner.abort("cut")

    def lose_power(self) -> None:
        self._dead = True
        asyncio.get_running_loop().call_later(TIMEOUT_S, self.cut)


@dataclass
class Process:
    task: asyncio.Task[None]
    stopping: asyncio.Event
    rendezvous: Rendezvous | None = None
    lines: list[Line] = field(default_factory=list)
    session: bytes = b""


class Town:
    """The parties' processes, and the connections between them."""

    def __init__(self, addresses: Mapping[str, str], chance: random.Random) -> None:
        self.addresses, self.chance = addresses, chance
        self.running: dict[str, Process] = {}
        self.bugs: list[BaseException] = []
        self.slowest_s = chance.choice([0.0, 0.001, 0.02, 0.2])

    def delay_s(self) -> float:
        return self.chance.uniform(0, self.slowest_s)

    def start(self, role: str) -> None:
        stopping = asyncio.Event()
        self.running[role] = Process(asyncio.create_task(self._live(role, stopping)), stopping)

    async def end(self, role: str, *, power: bool) -> None:
        """A process ends, whatever it is doing; without `power` nobody says goodbye for it."""
        if role not in self.running:
            return
        process = self.running.pop(role)
        for line in process.lines:
            line.cut() if power else line.lose_power()
        await end_tasks(process.task)

    async def united(self, within_s: float = 300.0) -> bytes:
        """Wait until all three are in one session, and have been for longer than anything takes to go wrong."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + within_s
        while True:
            before = [self.running[role].session for role in ROLES]
            await asyncio.sleep(3 * TIMEOUT_S)
            assert not self.bugs, self.bugs
            if before == [process.session for process in map(self.running.get, ROLES) if process] and all(before):
                assert len(set(before)) == 1, "in different sessions, and content"
                return before[0]
            assert loop.time() < end_s, before

    async def _live(self, role: str, stopping: asyncio.Event) -> None:
        node = SimpleNamespace(
            role=role,
            settings=Settings(Path(), role, self.addresses, timeout_s=TIMEOUT_S),
            identity=SimpleNamespace(role=lambda: role),
            roster=None,
            metrics=Metrics(role),
            stopping=stopping,
            say=lambda text, *level, **facts: None,
            waiting=lambda name, reason: None,
            refused=lambda where, error: None,
            greet=lambda channel: self._greet(role, channel),
            dial=lambda other, timeout_s: self._dial(role, other),
        )

        def arrive(channel: Channel) -> None:
            channel.abort("no visitors")

        try:
            await Service(cast(Node, node), arrive).run(lambda peers: self._session(role, peers, stopping))
        except Exception as error:
            self.bugs.append(error)

    async def _greet(self, role: str, channel: Channel) -> Peer:
        await asyncio.sleep(self.delay_s())
        return await handshake(channel, role, PROGRAM)

    async def _dial(self, role: str, other: str) -> Peer:
        await asyncio.sleep(self.delay_s())
        listener = self.running.get(other)
        if listener is None or listener.rendezvous is None:
            raise ChannelTimeout(f"{other}: nobody listens")
        ours, theirs = (Line(end, self.delay_s) for end in memory_pair(role, other, timeout_s=TIMEOUT_S))
        self.running[role].lines.append(ours)
        listener.lines.append(theirs)
        listener.rendezvous.arrive(theirs)
        return await self._greet(role, ours)

    async def _session(self, role: str, peers: Mapping[str, Peer], stopping: asyncio.Event) -> None:
        assert set(peers) == {*ROLES} - {role}
        process = self.running[role]
        try:
            servers = ("server0", "server1") if role == "dealer" else ("dealer",)
            await asyncio.gather(*(agree_seed(peers[name], "masks") for name in servers))
            process.session = await join(role, peers)
            await stopping.wait()
        finally:
            process.session = b""


@pytest.fixture
def town(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Town:
    made = Town(request.param, random.Random(1))
    listen_in(made, monkeypatch)
    return made


def listen_in(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens is known in town, instead of at a port."""

    async def open_here(rendezvous: Rendezvous, address: str, identity: Any, *others: object) -> None:
        town.running[identity.role()].rendezvous = rendezvous

    monkeypatch.setattr(Rendezvous, "open", open_here)


both = pytest.mark.parametrize("town", [ALL, HIDDEN_DEALER], ids=["all listen", "hidden dealer"], indirect=True)


# --- the tests ------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("order", list(permutations(ROLES)))
def test_three_parties_meet_in_any_order(town: Town, order: Collection[str]) -> None:
    async def main() -> None:
        for role in order:
            assert not any(process.session for process in town.running.values())
            town.start(role)
            await asyncio.sleep(200)
        await town.united()

    simulate(main())


@both
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("power", [True, False], ids=["killed", "power lost"])
def test_a_restart_makes_a_fresh_session_of_all_three(town: Town, role: str, power: bool) -> None:
    async def main() -> None:
        for name in ROLES:
            town.start(name)
        first = await town.united()
        await town.end(role, power=power)
        await asyncio.sleep(2 * TIMEOUT_S)
        assert not any(process.session for process in town.running.values())  # the others do not go on without it
        town.start(role)
        assert await town.united() != first

    simulate(main())


@both
@pytest.mark.parametrize("role", ROLES)
def test_a_party_that_is_back_before_its_death_is_noticed(town: Town, role: str) -> None:
    async def main() -> None:
        for name in ROLES:
            town.start(name)
        first = await town.united()
        await town.end(role, power=False)
        town.start(role)
        assert await town.united() != first

    simulate(main())


@both
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("absent", ROLES)
def test_one_restarts_while_another_waits_for_the_third(town: Town, role: str, absent: str) -> None:
    async def main() -> None:
        for name in {*ROLES} - {absent}:
            town.start(name)
        await asyncio.sleep(20)
        await town.end(role, power=True)
        await asyncio.sleep(20)
        for name in {role, absent}:
            town.start(name)
        await town.united()

    simulate(main())


@both
@pytest.mark.parametrize("role", ROLES)
def test_who_is_asked_to_stop_stops_and_the_others_wait(town: Town, role: str) -> None:
    async def main() -> None:
        for name in ROLES:
            town.start(name)
        await town.united()
        process = town.running.pop(role)
        process.stopping.set()
        await asyncio.wait_for(process.task, 10)
        await asyncio.sleep(5)
        assert not town.bugs and not any(other.session for other in town.running.values())

    simulate(main())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_any_schedule_of_deaths_ends_in_one_session(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    town = Town(chance.choice([ALL, HIDDEN_DEALER]), chance)
    listen_in(town, monkeypatch)

    async def main() -> None:
        for _ in range(chance.randrange(1, 25)):
            role, what = chance.choice(ROLES), chance.choice(["kill", "power", "cut"])
            if what == "cut" and role in town.running and town.running[role].lines:
                chance.choice(town.running[role].lines[-4:]).cut()
            elif what != "cut":
                await town.end(role, power=what == "kill")
                town.start(role)
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.01, 0.3, 3.0, 90.0]) * chance.random())
        for role in {*ROLES} - {*town.running}:
            town.start(role)
        await town.united()

    simulate(main())
