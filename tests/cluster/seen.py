"""Every keystream that is opened, and every frame that is sent or accepted: what must hold of them, and what is done at
some of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from mpcnet.launch.party.control_frames import FETCH, REQUEST
from mpcnet.transport.wire import Header
from tests.cluster.loop import PROCESS, WORLD
from tests.cluster.roles import REPLICAS, SERVERS
from tests.cluster.tamper import Cut, Tamper
from tests.cluster.words import Words

if TYPE_CHECKING:
    from tests.cluster.world import World

LEAST_DRAWN = 16  # bytes of a payload that never comes twice
_TWINS = dict(zip(REPLICAS, SERVERS, strict=True))


class Seen:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.words = Words(world)
        self.asked: dict[bytes, bytes] = {}  # the request that a client asked last, by its channel's session
        self.halves: set[bytes] = set()  # requests that a server has ended because the other had not got them
        self.tampers: list[Tamper] = []
        self.cuts: list[Cut] = []
        self._after: list[tuple[int, asyncio.Future[None]]] = []  # who waits for how many frames in all
        self._frames = 0
        self._claimed: dict[bytes, set[str]] = {}
        self._payloads: set[bytes] = set()

    def claim(self, key: bytes, purpose: str) -> None:
        """A keystream is opened by the two that share its seed, once each; a replica has those of its server."""
        name = PROCESS.get()
        openers = self._claimed.setdefault(key, set())
        if name in openers or len({_TWINS.get(each, each) for each in (*openers, name)}) > 2:
            self._world.breaks(f"{name}: keystream {purpose!r} was opened before, by {sorted(openers)}")
        openers.add(name)

    def sent(self, peer: str, header: Header, payload: tuple[memoryview, ...]) -> list[Header]:
        """What is sent instead: the same, unless somebody tampers."""
        name, note = PROCESS.get(), self._world.note
        note("frame", name, peer, header.kind, header.label, header.stream, header.sequence)
        if header.kind in ("round", "deal") and header.payload_bytes >= LEAST_DRAWN:
            digest = hashlib.blake2b(b"".join((peer.encode(), *payload)), digest_size=16).digest()
            if digest in self._payloads:
                self._world.breaks(f"{name}: {header.kind} {header.label}: the same masked bytes were sent before")
            self._payloads.add(digest)
        if header.kind == "control" and header.label in (REQUEST, FETCH):
            self.asked[header.session] = header.fields["id"]  # type: ignore[assignment]
        if self.words.replicas and header.kind == "control":
            self.words.sent(name, header)
        self._frames += 1
        for number, waiter in self._after:
            if number <= self._frames and not waiter.done():
                waiter.set_result(None)
        for cut in self.cuts:
            if cut.matches(name, peer, header.label):
                self._world.spawn(WORLD, self._cut(cut))
        for each in self.tampers:
            if (instead := each.frames(name, peer, header)) is not None:
                note("tamper", name, peer, each.way)
                return instead
        return [header]

    def accepted(self, header: Header | None) -> None:
        """Somebody has seen this header, and wants its payload."""
        for each in self.tampers:
            if header is not None and (wrong := each.accepted(PROCESS.get(), header)):
                self._world.breaks(wrong)

    def after_frames(self, count: int) -> asyncio.Future[None]:
        """Done when so many more frames have been sent, by whomever."""
        waiter: asyncio.Future[None] = self._world.loop.create_future()
        if count:
            self._after.append((self._frames + count, waiter))
        else:
            waiter.set_result(None)
        return waiter

    async def _cut(self, cut: Cut) -> None:
        await asyncio.wait([self.after_frames(cut.frames)], timeout=5.0)
        network = self._world.network
        for server in SERVERS if cut.both else (cut.server,):
            self._world.note("cut", cut.client, server, round(cut.seconds, 3))
            if cut.seconds:
                network.break_line(cut.client, server, cut.seconds)
            else:
                network.reset(cut.client, server)
