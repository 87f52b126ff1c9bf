"""Control frames against live parties: somebody with a valid certificate sends frames that are not as they should be.

A case is a seed. From it comes a virtual cluster (:mod:`tests.cluster`), what the hostile party sends, and when. A
client sends many frames, over a connection each, and must not cost anybody else anything. A computing party or the
owner is honest but for a frame now and then; that may cost sessions and the answers that were under way, for as long as it is
there. When it is started anew the service is as good as new.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from mpcnet.errors import MpcError
from mpcnet.launch.party import client, frames
from mpcnet.launch.party.control_frames import FETCH, QUEUED, REQUEST, RESULT, SHARES, TAKEN
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part
from mpcnet.transport import tls
from mpcnet.transport.handshake import FORMAT_VERSION
from mpcnet.transport.wire import KEYS, PREFIX, Header, encode
from tests.cluster import model
from tests.cluster.requests import request_arrays, request_fields
from tests.cluster.rest import ending
from tests.cluster.roles import SERVERS, identity
from tests.cluster.run import Outcome, living, place_of
from tests.cluster.visitors import ask
from tests.cluster.world import World
from tests.fuzz.mutate import changed_bytes, changed_value, deep

EVIL = "client:evil"
CLIENT_FRAMES, PARTY_FRAMES = 32, 4  # of a case
MOST_ASKED = 12  # requests in which a frame is waited for; one that has not come by then never does
OPENING = ("welcome", "hello", "seed", "met", "join", "want", "weights")  # of a session
SENT = {  # by whom, besides signs of life
    "server0": (
        *OPENING[:6],
        "room",
        "order",
        "order",
        "order",
        "round",
        "done",
        "queued",
        "ready",
        "result",
        "result",
    ),
    "server1": (*OPENING[:6], "room", "have", "usable", "round", "done", "queued", "ready", "result", "result"),
    "dealer": ("welcome", "hello", "seed", "met", "join", "deal", "dealt"),
    "owner": ("hello", "weights"),
    "replica0": ("hello", "met", "confirm", "confirm", "confirm"),
}
WATCHED = {
    "server0": ("begin", "entry", "entry"),
    "server1": ("witness", "witness"),
}  # likewise, if server0 has a replica
HUGE = b'{"seconds_queued": 1' + b"0" * 400 + b"}"
STATES = ("greeting", "request", "request", "shares", "shares", "fetch", "queued", "kept")


def mutated(draw: random.Random, header: Header, payload: bytes, *, headers_only: bool = False) -> bytes:
    """A frame like this one, in all but a few places."""
    if draw.random() < 0.3:
        head = encode(header)
        return changed_bytes(draw, head) + payload if headers_only else changed_bytes(draw, head + payload)
    values: dict[str, Any] = {key: getattr(header, key) for key in KEYS}
    values["parts"] = [[part.bits, list(part.shape)] for part in header.parts]
    values["fields"] = dict(sorted(header.fields.items()))
    where = draw.choice(("fields", "fields", "parts", "all"))
    if where == "all":
        values = changed_value(draw, values)
    else:
        changed = changed_value(draw, values[where])
        values[where] = dict(sorted(changed.items())) if isinstance(changed, dict) else changed
    packed = msgpack.packb(values, use_bin_type=True, default=str, unicode_errors="surrogatepass")
    size = _payload_bytes(values) if draw.random() < 0.9 else len(payload)
    body = (payload + bytes(size))[:size] if size <= 1 << 20 else payload
    return PREFIX.pack(b"MPCN", 1, 0, len(packed), size) + packed + body


def _payload_bytes(values: Any) -> int:
    """Of the parts that it says to have, if they are parts."""
    try:
        return min(max(int(sum(Part(bits, tuple(shape)).nbytes for bits, shape in values["parts"])), 0), 2**60)
    except (TypeError, ValueError, KeyError, OverflowError):
        return 0


@dataclass
class Live:
    """`who` is hostile."""

    who: str
    frames_per_case: int = field(init=False)

    def __post_init__(self) -> None:
        self.frames_per_case = CLIENT_FRAMES if self.who == "client" else PARTY_FRAMES

    @property
    def name(self) -> str:
        return f"live-{self.who}"

    def cases(self, draw: random.Random, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield draw.randbytes(8)

    def check(self, case: bytes) -> str:
        found = self.run(case)
        if found.broken:
            sent = "".join(
                f"\n  {at_s:.6f} {' '.join(map(str, event))}" for at_s, *event in found.trace if event[0] == "hostile"
            )
            raise AssertionError("; ".join(found.broken) + sent)
        lost = sum(event[1] == "say" and "session ended" in event[4] for event in found.trace)
        return "sessions lost" if lost else "nothing lost"

    def run(self, case: bytes) -> Outcome:
        return living(int.from_bytes(case, "big"), self._live)

    async def _live(self, world: World) -> None:
        draw = random.Random(f"hostile {world.seed}")
        world.settings = {"batch_tokens": 4, "buffer_mib": 1, "queue_mib": 1}
        if draw.random() < 0.3:
            world.settings |= {"ahead_runs": 1, "ahead_sizes": (Size(1, 4),)}
        if self.who == "replica0" or (self.who in WATCHED and draw.random() < 0.5):
            world.settings |= {"replicas": ("replica0",)}
        world.seen.words.honest = False
        for role in world.parties:
            world.start(role)
        await _served(world, "before")
        if self.who == "client":
            for _ in range(CLIENT_FRAMES):
                work = world.spawn(EVIL, _hostile_client(world, draw))
                await asyncio.wait([work])
                if error := work.exception():
                    world.breaks(f"{EVIL}: {error!r} at {place_of(error)}")
            if lost := [event for event in world.trace if event[1] == "say" and "session ended" in event[4]]:
                world.breaks(f"a client has ended a session: {lost[0]}")
        else:
            for _ in range(PARTY_FRAMES):
                await _hostile_party(world, draw, self.who)
            await world.kill(self.who, told=True)  # by an operator who has had enough
            world.start(self.who)
        await _served(world, "after")
        await ending(world)


async def _served(world: World, when: str) -> None:
    for _ in range(20):
        asking = world.spawn("client:last", ask(world, "client:last", [world.seed % model.TEXTS]))
        await asyncio.wait([asking], timeout=60.0)
        if asking.done() and asking.result():
            return
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(1.0)
    world.breaks(f"nobody is served {when}: {world.loop.waiting()}")


# --- a client ---------------------------------------------------------------------------------------------------


async def _hostile_client(world: World, draw: random.Random) -> None:
    """One frame over a connection of its own."""
    party, state = draw.randrange(2), draw.choice(STATES)
    node, role = world.node(EVIL), SERVERS[party]
    try:
        if state == "kept":
            connection = await client.Connection.open(node)
            tokens = model.texts()[draw.randrange(model.TEXTS)]
            await connection.ask(tokens, client.size_of(node, tokens, "logits", False))
            header = draw.choice(_request(world, draw, connection.peers[party].session, party))[0]
            await _send(world, connection.peers[party].channel, state, mutated(draw, header, b""))
            connection.peers[1 - party].channel.abort("it has had enough")
            return
        channel = await tls.dial(node.settings.addresses[role], identity(EVIL), world.roster, role, 5.0)
        if state == "greeting":
            await _send(world, channel, state, mutated(draw, _hello(world), b""))
            return
        peer = await node.greet(channel)
        request, shares = _request(world, draw, peer.session, party)
        header, payload = request
        if state == "fetch":
            header = replace(header, label=FETCH, fields={"id": header.fields["id"]})
        if state in ("shares", "queued"):
            await peer.channel.send(header)
            header, payload = shares
        if state == "queued":
            await peer.channel.send(header, memoryview(payload))
            await frames.receive_bare(peer, QUEUED)
            if draw.random() < 0.5:
                names = (RESULT, TAKEN, FETCH, REQUEST, "ready", "abort", "ping", "order")
                header = Header("control", peer.session, label=draw.choice(names))
        await _send(world, channel, state, mutated(draw, header, payload))
    except MpcError as error:
        world.note("error", EVIL, state, str(error))


def _hello(world: World) -> Header:
    agreement = model.agreed()
    settings = {f"config.{name}": value for name, value in agreement.settings.items()}
    fields: dict[str, Any] = {"version": FORMAT_VERSION, "role": EVIL, "program": agreement.digest}
    fields |= {"nonce": world.secrets.randbytes(32), "time": world.wall_s(), **settings}
    return Header("control", bytes(16), label="hello", fields=fields)


def _request(world: World, draw: random.Random, session: bytes, party: int) -> list[tuple[Header, bytes]]:
    """Its two frames, with their payloads."""
    tokens = model.texts()[draw.randrange(model.TEXTS)]
    fields = request_fields(tokens, world.secrets.randbytes(16), wait_s=20.0, audit=draw.random() < 0.5)
    arrays = request_arrays(tokens, party)
    parts = tuple(part for part, _ in arrays)
    return [
        (Header("control", session, label=REQUEST, fields=fields), b""),
        (
            Header("control", session, label=SHARES, parts=parts, fields={"others": world.secrets.randbytes(32)}),
            b"".join(raw.tobytes() for _, raw in arrays),
        ),
    ]


async def _send(world: World, channel: Any, state: str, data: bytes) -> None:
    """Any bytes; then see for a second what comes of it, and leave."""
    world.note("hostile", EVIL, channel.peer, state, data.hex())
    channel._tls.write(memoryview(data))
    channel._flush()
    try:
        async with asyncio.timeout(1.0):
            error = await channel.gone()
            world.note("error", EVIL, state, str(error))
    except TimeoutError:
        pass
    channel.abort("it has had enough")


# --- everybody else ---------------------------------------------------------------------------------------------


@dataclass
class Hostile:
    """The next frame number `when` of some kind that `who` sends, to whomever, is not as it should be."""

    world: World
    draw: random.Random
    who: str
    when: int
    what: str  # the frame's kind or label; "" for any
    done: bool = False

    def bytes_for(self, sender: str, receiver: str, header: Header, payload: bytes) -> bytes | None:
        if self.done or sender != self.who or self.what not in ("", header.kind, header.label):
            return None
        self.when -= 1
        if self.when > 0:
            return None
        self.done = True
        if header.label == RESULT and self.draw.random() < 0.5:
            data = _other_report(self.draw, header, payload)
        else:
            data = mutated(self.draw, header, payload, headers_only=True)
        self.world.note("hostile", sender, receiver, header.label, data.hex()[:4000])
        return data


def _other_report(draw: random.Random, header: Header, payload: bytes) -> bytes:
    """A result whose public report is another: the only payload of a server that is not a share."""
    report = draw.choice(
        (b"", b"[]", b"1", b'"x"', b"null", b'{"seconds_queued": [1]}', b"\xff", HUGE, deep(draw, b"[", b"]"))
    )
    *shares, old = header.parts
    made = replace(header, parts=(*shares, Part(8, (len(report),))))
    return encode(made) + payload[: len(payload) - old.nbytes] + report


async def _hostile_party(world: World, draw: random.Random, who: str) -> None:
    """One frame; meanwhile clients ask, and a session may have to begin anew."""
    names = SENT[who] + (WATCHED.get(who, ()) if world.settings.get("replicas") else ())
    what = draw.choice(names) if draw.random() < 0.6 else ""
    hostile = Hostile(world, draw, who, 1 + draw.randrange(3 if what or who == "owner" else 40), what)
    world.hostile = hostile
    if what in OPENING or draw.random() < 0.3 or who == "owner":  # the first frames of a session too
        world.network.reset(*draw.choice((("server0", "server1"), ("server0", "dealer"))))
        if who == "owner" and draw.random() < 0.5:
            world.network.reset("owner", "server1")
    end_s = world.loop.time() + 30.0
    for _ in range(MOST_ASKED):
        if hostile.done or world.loop.time() >= end_s:
            break
        asking = world.spawn("client:0", ask(world, "client:0", [draw.randrange(model.TEXTS)], checked=False))
        await asyncio.wait([asking], timeout=30.0)
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            break  # a party can stop the service for as long as it likes
        elif error := asking.exception():
            world.breaks(f"client:0: {error!r} at {place_of(error)}")
        await asyncio.sleep(0.2)
    world.hostile = None
    await asyncio.sleep(1.0)
