"""The processes of one virtual cluster, and what of the real world is replaced for them.

Replaced are the clock, the operating system's randomness, TCP, TLS, threads, and what costs time without a bearing on
what happens: plans and encoded weights are made once. All else is the parties' own code.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import hashlib
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any
from unittest import mock

from mpcnet.launch.deployment.settings import Settings
from mpcnet.launch.party import dealer, heap, owner, party
from mpcnet.launch.party import node as node_module
from mpcnet.launch.party.budget import of_dealer, of_server
from mpcnet.launch.party.edge import Edge
from mpcnet.launch.party.log import Log
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.refusals import Refusals
from mpcnet.launch.party.server import Server
from mpcnet.models.private import program
from mpcnet.models.private.parameters import encode
from mpcnet.models.private.program import Plans, Size
from mpcnet.randomness.prg import Guard
from mpcnet.runtime import dealing, tape_folder
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.transport import tls, tls_channel
from mpcnet.transport.identity import Identity, Roster
from mpcnet.transport.roster_file import RosterFile
from mpcnet.transport.tls_engine import TlsEngine
from mpcnet.transport.wire import FrameDecoder, Header
from tests.cluster import model, plain
from tests.cluster.loop import PROCESS, WORLD, VirtualLoop
from tests.cluster.network import Network
from tests.cluster.tamper import Cut, Tamper

SERVERS = ("server0", "server1")
ALL = (*SERVERS, "dealer")
PARTIES = (*ALL, "owner")
EPOCH_S = 1_900_000_000.0  # of the virtual wall clock
TIMEOUT_S = 8.0
PING_S = 4.0
MEMORY_MIB = 2048
ROSTER = "roster.json"
CLIENTS = ("client:0", "client:1", "client:2", "client:3", "client:last", "client:evil")
LEAST_DRAWN = 16  # bytes of a payload that never comes twice


class Violation(AssertionError):
    """Something that must hold does not."""


class World:
    """One cluster, from one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.hostile: Any = None  # whoever sends frames that are not as they should be (tests.fuzz.live)
        self.secrets = random.Random(f"secrets {seed}")
        self.loop = VirtualLoop(random.Random(f"turns {seed}"))
        self.network = self.loop.network = Network(self.loop, random.Random(f"network {seed}"), self.note)
        self.loop.waiting_calls = (dealing._make,)
        self.trace: list[tuple[Any, ...]] = []
        self.broken: list[str] = []  # what must hold, and did not
        self.full_disks: set[str] = set()
        self.tampers: list[Tamper] = []
        self.cuts: list[Cut] = []
        self.gentle = False
        self.revoked: dict[str, float] = {}  # since when
        self.short_of_memory = ""
        self._after: list[tuple[int, asyncio.Future[None]]] = []  # who waits for how many frames in all
        self._frames = 0
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.edges: dict[str, Edge] = {}
        self.receivers: dict[str, CorrectionReceiver] = {}
        self.servers: dict[str, Server] = {}  # of the present session
        self.settings: dict[str, Any] = {}
        self.roster = roster()
        folder.mkdir(parents=True, exist_ok=True)
        self.write_roster()
        self._claimed: dict[bytes, set[str]] = {}
        self._payloads: set[bytes] = set()

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

    # --- processes ----------------------------------------------------------------------------------------------

    def node(self, role: str) -> Node:
        settings = Settings(
            folder=self.folder / role,
            role=role,
            timeout_s=TIMEOUT_S,
            threads=1,
            memory_mib=MEMORY_MIB // 2 if role == self.short_of_memory else MEMORY_MIB,
            **{"addresses": self.addresses} | self.settings,
        )
        metrics = Metrics(role, clock=self.wall_s) if role in PARTIES else _visitors_metrics()
        log = _Log(role, self)
        refusals = Refusals(self.loop.time)
        return Node(
            settings, model.config(), identity(role), RosterFile(self.folder / ROSTER), log, metrics,
            clock=self.wall_s, refusals=refusals,
        )  # fmt: skip

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
        """How many sentences of such a request are taken once all three parties have met."""
        plans = model.plans()
        budgets = [
            (of_dealer if role == "dealer" else of_server)(self.node(role).settings, plans).run_bytes for role in ALL
        ]
        return of_server(self.node("server0").settings, plans).within(min(budgets)).largest(plans, size)

    @property
    def addresses(self) -> dict[str, str]:
        return {role: f"{role}:4100" for role in ALL}

    def now_s(self) -> float:
        return self.loop.time()

    def wall_s(self) -> float:
        return EPOCH_S + self.loop.time()

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

    def after_frames(self, count: int) -> asyncio.Future[None]:
        """Done when so many more frames have been sent, by whomever."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        if count:
            self._after.append((self._frames + count, waiter))
        else:
            waiter.set_result(None)
        return waiter

    # --- what is asked by the patched functions -----------------------------------------------------------------

    def claim(self, key: bytes, purpose: str) -> None:
        """A keystream is opened by the two that share its seed, once each."""
        name = PROCESS.get()
        openers = self._claimed.setdefault(key, set())
        if name in openers or len(openers) == 2:
            self.breaks(f"{name}: keystream {purpose!r} was opened before, by {sorted(openers)}")
        openers.add(name)

    def sent(self, peer: str, header: Header, payload: tuple[memoryview, ...]) -> list[Header]:
        """What is sent instead: the same, unless somebody tampers."""
        self.note("frame", PROCESS.get(), peer, header.kind, header.label, header.stream, header.sequence)
        if header.kind in ("round", "deal") and header.payload_bytes >= LEAST_DRAWN:
            digest = hashlib.blake2b(b"".join((peer.encode(), *payload)), digest_size=16).digest()
            if digest in self._payloads:
                self.breaks(f"{PROCESS.get()}: {header.kind} {header.label}: the same masked bytes were sent before")
            self._payloads.add(digest)
        self._frames += 1
        for number, waiter in self._after:
            if number <= self._frames and not waiter.done():
                waiter.set_result(None)
        for cut in self.cuts:
            if cut.matches(PROCESS.get(), peer, header.label):
                self.spawn(WORLD, self._cut(cut))
        for each in self.tampers:
            if (instead := each.frames(PROCESS.get(), peer, header)) is not None:
                self.note("tamper", PROCESS.get(), peer, each.way)
                return instead
        return [header]

    async def _cut(self, cut: Cut) -> None:
        await asyncio.wait([self.after_frames(cut.frames)], timeout=5.0)
        for server in SERVERS if cut.both else (cut.server,):
            self.note("cut", cut.client, server, round(cut.seconds, 3))
            if cut.seconds:
                self.network.break_line(cut.client, server, cut.seconds)
            else:
                self.network.reset(cut.client, server)

    def accepted(self, header: Header | None) -> None:
        """Somebody has seen this header, and wants its payload."""
        for each in self.tampers:
            if header is not None and (wrong := each.accepted(PROCESS.get(), header)):
                self.breaks(wrong)


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
def base() -> Path:
    """For identities and tapes; gone with this process."""
    shm = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="mpcnet-cluster-", dir=shm if shm.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _visitors_metrics() -> Metrics:
    return Metrics("client")  # nobody looks at a client's


@cache
def roster() -> Roster:
    return plain.roster(*PARTIES, *CLIENTS)


@cache
def identity(role: str) -> Identity:
    return plain.write_identity(base() / role.replace(":", "-"), role)


# --- what is replaced -------------------------------------------------------------------------------------------

_world: World | None = None


def current() -> World:
    assert _world is not None
    return _world


@contextlib.contextmanager
def alive(world: World) -> Iterator[None]:
    """The patched functions ask this one."""
    global _world
    before, _world = _world, world
    try:
        yield
    finally:
        _world = before


class _FullDisk(FileIO):
    """A file on a disk that may be full."""

    owner = ""

    def write(self, data: Any) -> int:
        if self.owner in current().full_disks:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def _create(original: Callable[..., FileIO]) -> Callable[..., FileIO]:
    def create(self: Any, name: str) -> FileIO:
        with original(self, name) as made:
            descriptor = os.dup(made.fileno())
        file = _FullDisk(descriptor, "wb")
        file.owner = PROCESS.get()
        return file

    return create


def _clock(real: Callable[[], float], virtual: Callable[[World], float]) -> Callable[[], float]:
    """Between two worlds it is the real one."""
    return lambda: real() if _world is None else virtual(_world)


def everywhere(original: Any, instead: Any) -> list[Any]:
    """Patches of every name in our modules that means `original`."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "mpcnet" and module is not None:
            found += [
                mock.patch.object(module, key, instead)
                for key, value in list(vars(module).items())
                if value is original
            ]
    assert found, original
    return found


def _edge(node: Node, *more: Any) -> Edge:
    made = current().edges[node.role] = Edge(node, *more)
    return made


def _receiver(dealer: Any, number: int, *more: Any, **named: Any) -> CorrectionReceiver:
    made = current().receivers[SERVERS[number]] = CorrectionReceiver(dealer, number, *more, **named)
    return made


def _server(node: Node, *more: Any, **named: Any) -> Server:
    made = current().servers[node.role] = Server(node, *more, **named)
    return made


async def _bind(address: str) -> Any:
    return current().network.listen(address)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Inside, parties live in the current world."""
    agreed = model.agreed()
    claim, send, accept = Guard.claim, tls_channel.TlsChannel.send, FrameDecoder.accept

    def claimed(self: Guard, key: bytes, domain: Any) -> None:
        claim(self, key, domain)
        current().claim(key, domain.purpose)

    async def sent(self: Any, header: Any, *payload: memoryview, patient: bool = False) -> None:
        world = current()
        sent = world.sent(self.peer, header, payload)
        hostile = world.hostile
        if hostile and (data := hostile.bytes_for(PROCESS.get(), self.peer, header, b"".join(payload))) is not None:
            self._tls.write(memoryview(data))
            self._flush()
            return
        for each in sent:
            await send(self, each, *payload, patient=patient)

    def accepted(self: FrameDecoder, buffer: memoryview) -> Any:
        current().accepted(self.header)
        return accept(self, buffer)

    def plans(config: Any, memory: Any = None) -> Plans:
        return model.plans()

    virtual_threading = types.SimpleNamespace(Condition=lambda: current().loop.condition())
    with contextlib.ExitStack() as stack:
        patches = [
            mock.patch.multiple(
                time,
                **{
                    name: _clock(getattr(time, name), World.now_s)
                    for name in ("monotonic", "perf_counter", "process_time")
                },
                time=_clock(time.time, World.wall_s),
            ),
            mock.patch.object(secrets, "token_bytes", lambda count: current().secrets.randbytes(count)),
            mock.patch.object(tls, "_bind", _bind),
            mock.patch.object(Identity, "context", plain.context),
            mock.patch.object(tls_channel, "PING_S", PING_S),
            mock.patch.object(tls_channel.TlsChannel, "send", sent),
            mock.patch.object(FrameDecoder, "accept", accepted),
            mock.patch.object(Guard, "claim", claimed),
            mock.patch.object(dealing, "threading", virtual_threading),
            mock.patch.object(tape_folder.TapeFolder, "create", _create(tape_folder.TapeFolder.create)),
            mock.patch.object(owner, "_encoded", lambda node, checkpoint: _words()),
            *everywhere(TlsEngine, plain.PlainEngine),
            *everywhere(Plans, plans),
            *everywhere(program.agreement, lambda config: agreed),
            *everywhere(Edge, _edge),
            *everywhere(CorrectionReceiver, _receiver),
            *everywhere(Server, _server),
            *everywhere(heap.loading, contextlib.nullcontext),
            *everywhere(heap.release_freed, lambda: None),
            *everywhere(node_module.peak_bytes, lambda: 1 << 20),
        ]
        for patch in patches:
            stack.enter_context(patch)
        yield


@cache
def _words() -> Any:
    return encode(model.config(), model.folded())
