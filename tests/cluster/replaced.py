"""What of the real world is another one in a virtual cluster.

Replaced are the clock, the operating system's randomness, TCP, TLS, threads, and what costs time without a bearing on
what happens: plans and encoded weights are made once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import cache
from io import FileIO
from typing import Any
from unittest import mock

from mpcnet.launch.party import arriving, heap, owner, replica
from mpcnet.launch.party import node as node_module
from mpcnet.launch.party.arriving import Arriving
from mpcnet.launch.party.clients import Clients
from mpcnet.launch.party.edge import Edge
from mpcnet.launch.party.forward import Forward
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.server import Server
from mpcnet.models.private import program
from mpcnet.models.private.parameters import encode
from mpcnet.models.private.program import Plans
from mpcnet.randomness.prg import Guard
from mpcnet.runtime import dealing, session, tape_folder
from mpcnet.runtime.correction_buffer import CorrectionReceiver
from mpcnet.transport import tls, tls_channel
from mpcnet.transport.identity import Identity
from mpcnet.transport.tls_engine import TlsEngine
from mpcnet.transport.wire import FrameDecoder
from tests.cluster import model, plain
from tests.cluster.loop import PROCESS
from tests.cluster.roles import SERVERS
from tests.cluster.world import World

PING_S = 4.0
_world: World | None = None


def current() -> World:
    assert _world is not None
    return _world


@contextlib.contextmanager
def alive(world: World) -> Iterator[None]:
    """What is replaced asks this one."""
    global _world
    before, _world = _world, world
    try:
        yield
    finally:
        _world = before


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Inside, parties live in the current world."""
    agreed = model.agreed()

    def plans(config: Any, memory: Any = None) -> Plans:
        return model.plans()

    with contextlib.ExitStack() as stack:
        patches = [
            *_clocks(),
            *_watched(),
            *_flipping(),
            *_replicas(),
            mock.patch.object(secrets, "token_bytes", lambda count: current().secrets.randbytes(count)),
            mock.patch.object(tls, "_bind", _bind),
            mock.patch.object(Identity, "context", plain.context),
            mock.patch.object(tls_channel, "PING_S", PING_S),
            mock.patch.object(dealing, "threading", _threading),
            mock.patch.object(arriving, "threading", _threading),
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


# --- time and threads -------------------------------------------------------------------------------------------


def _clocks() -> list[Any]:
    virtual = {name: _clock(getattr(time, name), World.now_s) for name in ("monotonic", "perf_counter", "process_time")}
    return [mock.patch.multiple(time, **virtual, time=_clock(time.time, World.wall_s))]


def _clock(real: Callable[[], float], virtual: Callable[[World], float]) -> Callable[[], float]:
    """Between two worlds it is the real one."""
    return lambda: real() if _world is None else virtual(_world)


_threading = types.SimpleNamespace(Condition=lambda: current().loop.condition())


# --- what the world looks at ------------------------------------------------------------------------------------


def _watched() -> list[Any]:
    """Keystreams and frames."""
    claim, send, accept = Guard.claim, tls_channel.TlsChannel.send, FrameDecoder.accept

    def claimed(self: Guard, key: bytes, domain: Any) -> None:
        claim(self, key, domain)
        current().seen.claim(key, domain.purpose)

    async def sent(self: Any, header: Any, *payload: memoryview, patient: bool = False) -> None:
        world = current()
        sent = world.seen.sent(self.peer, header, payload)
        hostile = world.hostile
        if hostile and (data := hostile.bytes_for(PROCESS.get(), self.peer, header, b"".join(payload))) is not None:
            self._tls.write(memoryview(data))
            self._flush()
            return
        for each in sent:
            await send(self, each, *payload, patient=patient)

    def accepted(self: FrameDecoder, buffer: memoryview) -> Any:
        current().seen.accepted(self.header)
        return accept(self, buffer)

    return [
        mock.patch.object(tls_channel.TlsChannel, "send", sent),
        mock.patch.object(FrameDecoder, "accept", accepted),
        mock.patch.object(Guard, "claim", claimed),
        mock.patch.object(Clients, "fail", _ended(Clients.fail)),
    ]


def _ended(original: Callable[..., None]) -> Callable[..., None]:
    def fail(self: Clients, requests: Any, reason: str) -> None:
        if "has not got this request" in reason:
            current().seen.halves.update(request.name for request in requests)
        original(self, requests, reason)

    return fail


def _flipping() -> list[Any]:
    """What servers compute, and may compute otherwise."""
    work, reply = session._Run.work, Clients.reply

    def worked(self: Any, segment: Any, clock: Any) -> Any:
        return current().seen.words.computed(self, segment, work(self, segment, clock))

    def replied(self: Clients, request: Any, result: Any, *more: Any) -> None:
        reply(self, request, current().seen.words.shared(request.name, result), *more)

    return [mock.patch.object(session._Run, "work", worked), mock.patch.object(Clients, "reply", replied)]


def _replicas() -> list[Any]:
    """Replicas, what is passed on to them, and how much of it is held."""
    put = Arriving.put

    def arrived(self: Arriving, place: Any, payload: Any) -> None:
        if self._nbytes > arriving.HELD_BYTES and self._awaited <= self._there.keys() and self._failure is None:
            current().breaks(f"{PROCESS.get()} reads on, and holds {self._nbytes} bytes already")
        put(self, place, payload)

    def kept(name: str, kind: Any) -> Any:
        def make(*given: Any) -> Any:
            made = current().passing[PROCESS.get(), name] = kind(*given)
            return made

        return make

    return [
        mock.patch.object(Arriving, "put", arrived),
        *everywhere(Forward, kept("passes on", Forward)),
        mock.patch.object(replica, "Arriving", kept("gets", Arriving)),
    ]


def _edge(node: Node, *more: Any) -> Edge:
    made = current().edges[node.role] = Edge(node, *more)
    return made


def _receiver(dealer: Any, number: int, *more: Any, **named: Any) -> CorrectionReceiver:
    made = current().receivers[SERVERS[number]] = CorrectionReceiver(dealer, number, *more, **named)
    return made


def _server(node: Node, *more: Any, **named: Any) -> Server:
    made = current().servers[node.role] = Server(node, *more, **named)
    return made


# --- the operating system ---------------------------------------------------------------------------------------


async def _bind(address: str) -> Any:
    return current().network.listen(address)


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


@cache
def _words() -> Any:
    """The owner's weights, encoded."""
    return encode(model.config(), model.folded())
