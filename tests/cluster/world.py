"""One virtual cluster: its processes, its clock, and all that has happened in it.

`replaced` says what of the real world is another one here, `seen` looks at keystreams and frames. All else is the
parties' own code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Coroutine
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any

from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.party import dealer, owner, party, replica
from mpcnet.launch.party.again import Again
from mpcnet.launch.party.budget import of_dealer, of_replica, of_server
from mpcnet.launch.party.edge import Edge
from mpcnet.launch.party.log import Log
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.refusals import Refusals
from mpcnet.launch.party.server import Server
from mpcnet.models.private.program import Size
from mpcnet.runtime import dealing
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.transport.roster_file import RosterFile
from tests.cluster import model
from tests.cluster.loop import PROCESS, WORLD, VirtualLoop
from tests.cluster.network import Network
from tests.cluster.roles import ALL, PARTIES, REPLICAS, SERVERS, identity, roster
from tests.cluster.seen import Seen

EPOCH_S = 1_900_000_000.0  # of the virtual wall clock
TIMEOUT_S = 8.0
MEMORY_MIB = 2048
ROSTER = "roster.json"


class World:
    """One cluster, from one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.hostile: Any = None  # whoever sends frames that are not as they should be (tests.fuzz.live)
        self.secrets = random.Random(f"secrets {seed}")
        self.loop = VirtualLoop(random.Random(f"turns {seed}"))
        self.network = self.loop.network = Network(self.loop, random.Random(f"network {seed}"), self.note)
        self.loop.waiting_calls = (dealing._make, Again.load, Again.inputs, Again.stream)
        self.trace: list[tuple[Any, ...]] = []
        self.broken: list[str] = []  # what must hold, and did not
        self.seen = Seen(self)
        self.full_disks: set[str] = set()
        self.gentle = False
        self.revoked: dict[str, float] = {}  # since when
        self.short_of_memory = ""
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.edges: dict[str, Edge] = {}
        self.receivers: dict[str, CorrectionReceiver] = {}
        self.servers: dict[str, Server] = {}  # of the present session
        self.passing: dict[tuple[str, str], Any] = {}  # what servers pass on to replicas, and replicas get
        self.settings: dict[str, Any] = {}
        self.roster = roster()
        folder.mkdir(parents=True, exist_ok=True)
        self.write_roster()

    def note(self, kind: str, *facts: Any) -> None:
        self.trace.append((round(self.loop.time(), 6), kind, *facts))

    def breaks(self, what: str) -> None:
        self.note("VIOLATION", what)
        self.broken.append(what)

    def digest(self) -> str:
        """Of all that happened."""
        state = hashlib.blake2b(digest_size=16)
        for event in self.trace:
            state.update(repr(event).encode())
        state.update(repr((self.loop.turns, self.loop.time())).encode())
        return state.hexdigest()

    def now_s(self) -> float:
        return self.loop.time()

    def wall_s(self) -> float:
        return EPOCH_S + self.loop.time()

    # --- what processes are started with ------------------------------------------------------------------------

    def node(self, role: str) -> Node:
        settings = Settings(
            folder=self.folder / role,
            role=role,
            timeout_s=TIMEOUT_S,
            threads=1,
            memory_mib=MEMORY_MIB // 2 if role == self.short_of_memory else MEMORY_MIB,
            **{"addresses": self.addresses} | self.settings,
        )
        metrics = Metrics(role, clock=self.wall_s) if role in (*PARTIES, *REPLICAS) else _visitors_metrics()
        log = _Log(role, self)
        refusals = Refusals(self.loop.time)
        return Node(
            settings, model.config(), identity(role), RosterFile(self.folder / ROSTER), log, metrics,
            clock=self.wall_s, refusals=refusals,
        )  # fmt: skip

    @property
    def parties(self) -> tuple[str, ...]:
        return (*PARTIES, *self.settings.get("replicas", ()))

    @property
    def addresses(self) -> dict[str, str]:
        return {role: f"{role}:4100" for role in ALL}

    def write_roster(self, *without: str) -> None:
        """All parties read it."""
        roles = {role: list(pins) for role, pins in self.roster.fingerprints.items() if role not in without}
        newer = self.folder / "newer"
        newer.write_text(json.dumps({"version": 2, "roles": roles}))
        newer.replace(self.folder / ROSTER)

    def revoke(self, name: str) -> None:
        """Every party learns of it when it looks at its roster next."""
        self.revoked[name] = self.loop.time()
        self.note("revoke", name)
        self.write_roster(*self.revoked)

    def largest(self, size: Size) -> int:
        """How many sentences of such a request are taken once all parties have met."""
        plans, made = model.plans(), {"dealer": of_dealer, **dict.fromkeys(REPLICAS, of_replica)}
        roles = [role for role in self.parties if role != "owner"]
        budgets = [made.get(role, of_server)(self.node(role).settings, plans).run_bytes for role in roles]
        return of_server(self.node("server0").settings, plans).within(min(budgets)).largest(plans, size)

    # --- processes ----------------------------------------------------------------------------------------------

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A process of its own."""
        context = copy_context()
        context.run(PROCESS.set, name)
        return self.loop.create_task(work, context=context)

    def stop_for(self, name: str, wait_s: float, seconds: float) -> None:
        """As SIGSTOP after a while, and SIGCONT after another."""
        context = copy_context()
        context.run(PROCESS.set, WORLD)
        self.loop.call_later(wait_s, self.loop.stop_process, name, context=context)
        self.loop.call_later(wait_s + seconds, self.loop.continue_process, name, context=context)

    def start(self, role: str) -> None:
        """A party, for the first time or again."""
        self.note("start", role)
        node = self.nodes[role] = self.node(role)
        main: Coroutine[Any, Any, int]
        if role in SERVERS:
            main = party.main(node)
        elif role in REPLICAS:
            main = replica.main(node)
        else:
            main = dealer.main(node) if role == "dealer" else owner.main(node, model.checkpoint(), once=False)
        self.tasks[role] = self.spawn(role, main)

    async def kill(self, role: str, *, told: bool) -> None:
        """As SIGKILL; without `told`, as when its host loses its power."""
        self.note("kill", role, told)
        self.network.kill(role, told=told)
        self.loop.release_process(role)
        task = self.tasks.pop(role)
        if task.done():
            self.ended(role, task)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            self.breaks(f"{role} was killed, and raised {task.exception()!r}")

    def ended(self, role: str, task: asyncio.Task[Any]) -> None:
        """A party ended that nobody stopped."""
        error = None if task.cancelled() else task.exception()
        self.breaks(f"{role} ended by itself: {error!r}")


class _Log(Log):
    """Lines go into the trace."""

    def __init__(self, role: str, world: World) -> None:
        self.role, self._world = role, world

    def say(self, text: str, *, level: Any = "info", **facts: Any) -> None:
        self._world.note("say", self.role, level, text)
        if "bug:" in text:
            self._world.breaks(f"{self.role}: {text}")

    def reopen(self) -> None: ...


@cache
def _visitors_metrics() -> Metrics:
    return Metrics("client")  # nobody looks at a client's
