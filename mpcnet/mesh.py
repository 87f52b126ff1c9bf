"""Connect the parties, and agree with each that it runs the same program.

::

    dealer  <--  server0  <--  server1          an arrow points at who listens
       ^------------------------'
    server0, server1  <--  owner, client        guests: they come and go

The handshake on a fresh channel is one frame each way: version, role, program digest, nonce, public settings. The
session id is a hash of both frames, so it is fresh if either side is, and it binds what was agreed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpcnet.channel import (
    CONTROL,
    NO_SESSION,
    Channel,
    check_control,
    receive_control,
)
from mpcnet.errors import (
    ChannelTimeout,
    LocalConfigError,
    MpcError,
    RemoteIdentityError,
    RemoteMismatchError,
    RemoteProtocolError,
)
from mpcnet.rounds import Part
from mpcnet.tls import Identity, OnRefused, OnWait, Roster, Server, dial, listen
from mpcnet.wire import Header, Scalar, encode

T = TypeVar("T")
VERSION = 1  # of the handshake and of everything above frames
HELLO = "hello"
SEED = "seed"
SETTING = "config."  # public settings travel as fields with this prefix
NONCE_BYTES = DIGEST_BYTES = SEED_BYTES = 32

DIALS = {
    "server0": ("dealer",),
    "server1": ("dealer", "server0"),
    "dealer": (),
    "owner": ("server0", "server1"),
    "client": ("server0", "server1"),
}
AWAITS = {"server0": ("server1",), "dealer": ("server0", "server1")}
GUESTS = {"server0": ("owner", "client"), "server1": ("owner", "client")}


class Seed:
    """A secret that shows itself only when asked."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Seed(...)"

    def __reduce__(self) -> str:
        raise TypeError("a seed is not serialised")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seed) and hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]

    def reveal(self) -> bytes:
        """The 32 secret bytes."""
        return self._secret


@dataclass(frozen=True, slots=True)
class Program:
    """What both sides must agree on. Settings are public and flat; those of one role only do not belong here."""

    digest: bytes
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A channel whose other end is known to run the same program."""

    channel: Channel
    role: str  # ours
    session: bytes
    nonces: tuple[bytes, bytes]  # ours, theirs

    @property
    def name(self) -> str:
        """The peer's role."""
        return self.channel.peer


async def handshake(channel: Channel, role: str, program: Program) -> Peer:
    """Exchange hellos; both sides see the same mismatch.

    :raises RemoteMismatchError: another version, program or setting.
    :raises RemoteIdentityError: the peer says another role than its certificate.
    :raises RemoteProtocolError: the frame is not a hello.
    """
    ours = _hello(role, program, secrets.token_bytes(NONCE_BYTES))
    _, theirs = await asyncio.gather(channel.send(ours), receive_control(channel, HELLO))
    _check_hello(ours, theirs, channel.peer)
    first, second = sorted((ours, theirs), key=lambda hello: str(hello.fields["role"]))
    nonces = _bytes_of(ours, "nonce"), _bytes_of(theirs, "nonce")
    return Peer(channel, role, _hash(b"mpcnet-session", encode(first), encode(second), size=16), nonces)


def _hello(role: str, program: Program, nonce: bytes) -> Header:
    if len(program.digest) != DIGEST_BYTES:
        raise LocalConfigError(f"the program's digest has {len(program.digest)} bytes, not {DIGEST_BYTES}")
    settings = {SETTING + name: value for name, value in program.settings.items()}
    fields = {"version": VERSION, "role": role, "program": program.digest, "nonce": nonce, **settings}
    return Header(CONTROL, NO_SESSION, label=HELLO, fields=fields)


def _check_hello(ours: Header, theirs: Header, peer: str) -> None:
    """:raises MpcError: as `handshake`."""
    fields = theirs.fields
    if fields.get("version") != VERSION:
        raise RemoteMismatchError(f"{peer}: version: ours {VERSION}, theirs {_shown(fields.get('version'))}")
    fixed = {"version", "role", "program", "nonce"}
    if not fixed <= set(fields) or not all(name in fixed or name.startswith(SETTING) for name in fields):
        raise RemoteProtocolError(f"{peer}: the hello has not the fields that it should")
    if len(_bytes_of(theirs, "nonce")) != NONCE_BYTES or len(_bytes_of(theirs, "program")) != DIGEST_BYTES:
        raise RemoteProtocolError(f"{peer}: the hello's nonce or digest has the wrong type or size")
    if fields["role"] != peer:
        raise RemoteIdentityError(f"{peer}: its certificate says {peer}, its hello {_shown(fields['role'])}")
    if fields["role"] == ours.fields["role"] or fields["nonce"] == ours.fields["nonce"]:
        raise RemoteIdentityError(f"{peer}: we are talking to ourselves; two parties with one role?")
    if differences := _differences(ours, theirs):
        raise RemoteMismatchError(f"{peer} runs another program: {'; '.join(differences)}")


def _differences(ours: Header, theirs: Header) -> list[str]:
    names = sorted((set(ours.fields) | set(theirs.fields)) - {"role", "nonce"})
    found = []
    for name in names:
        mine, other = ours.fields.get(name, "nothing"), theirs.fields.get(name, "nothing")
        if mine != other or type(mine) is not type(other):
            found.append(f"{name.removeprefix(SETTING)}: ours {_shown(mine)}, theirs {_shown(other)}")
    return found


def _shown(value: object) -> str:
    text = value[:8].hex() + "..." if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _bytes_of(header: Header, name: str) -> bytes:
    value = header.fields.get(name)
    return value if isinstance(value, bytes) else b""


def _hash(domain: bytes, *pieces: bytes, size: int) -> bytes:
    """BLAKE2b over the pieces, each preceded by its length."""
    state = hashlib.blake2b(digest_size=size, person=domain)
    for piece in pieces:
        state.update(len(piece).to_bytes(8, "big") + piece)
    return state.digest()


async def agree_seed(peer: Peer, purpose: str) -> Seed:
    """A secret that both ends of the channel know, bound to the session and to `purpose`: each gives 32 random bytes.

    :raises RemoteProtocolError: the peer sent something else.
    """
    mine, theirs = secrets.token_bytes(SEED_BYTES), bytearray(SEED_BYTES)
    header = Header(CONTROL, peer.session, label=SEED, parts=(Part(8, (SEED_BYTES,)),), fields={"purpose": purpose})

    def expect(got: Header) -> memoryview:
        check_control(got, SEED, peer.session, peer.name)
        if got.parts != header.parts or got.fields != header.fields:
            raise RemoteProtocolError(f"{peer.name}: its seed is for another purpose than {purpose!r}")
        return memoryview(theirs)

    await asyncio.gather(peer.channel.send(header, memoryview(mine)), peer.channel.receive(expect))
    pieces = (mine, bytes(theirs)) if peer.role < peer.name else (bytes(theirs), mine)
    return Seed(_hash(b"mpcnet-seed", peer.session, purpose.encode(), *pieces, size=SEED_BYTES))


@dataclass(frozen=True, slots=True)
class Mesh:
    """Our peers by role; `server` goes on accepting guests, if our role has any."""

    peers: Mapping[str, Peer]
    server: Server | None

    async def stop_listening(self) -> None:
        """No guests any more."""
        if self.server is not None:
            await self.server.close()

    async def close(self) -> None:
        """Stop listening, then close every channel in order."""
        await self.stop_listening()
        await asyncio.gather(*(peer.channel.close() for peer in self.peers.values()))


async def connect_mesh(
    role: str,
    addresses: Mapping[str, str],
    identity: Identity,
    roster: Roster,
    program: Program,
    timeout_s: float,
    *,
    on_guest: Callable[[Channel], None] | None = None,
    on_wait: OnWait | None = None,
    on_refused: OnRefused | None = None,
) -> Mesh:
    """Connect `role` with the parties of its row in the picture above and shake hands with each.

    `timeout_s` is how long to wait for a party, now and for every frame. `addresses` are those of the listeners.
    Guests are handed to `on_guest` as they come, before any handshake.

    :raises MpcError: a party could not be reached, is not who it should be, or runs something else.
    """
    kind = role.partition(":")[0]
    if kind not in DIALS or identity.role() != role:
        raise LocalConfigError(f"we are to be {role}, our certificate says {identity.role()}")
    arrivals = {name: asyncio.get_running_loop().create_future() for name in AWAITS.get(kind, ())}
    opened: list[Channel] = []

    def arrived(channel: Channel) -> None:
        slot = arrivals.get(channel.peer)
        if slot is not None and not slot.done():
            opened.append(channel)
            slot.set_result(channel)
        elif slot is None and on_guest is not None:
            on_guest(channel)
        else:
            channel.abort(f"{role} has no place for {channel.peer} now")

    async def dialled(name: str) -> Peer:
        address = _address(addresses, name)
        channel = await dial(address, identity, roster, name, timeout_s, channel_timeout_s=timeout_s, on_wait=on_wait)
        opened.append(channel)
        return await _shake(channel, role, program)

    async def awaited(name: str) -> Peer:
        try:
            async with asyncio.timeout(timeout_s):
                channel = await arrivals[name]
        except TimeoutError:
            raise ChannelTimeout(f"waited {timeout_s:g} s for {name} to dial {role}; is it running?") from None
        return await _shake(channel, role, program)

    accept = (*AWAITS.get(kind, ()), *GUESTS.get(kind, ()))
    server = None
    if accept:
        address = _address(addresses, role)
        server = await listen(
            address, identity, roster, accept, arrived, channel_timeout_s=timeout_s, on_refused=on_refused
        )
    try:
        found = await _all([*map(dialled, DIALS[kind]), *map(awaited, arrivals)])
    except BaseException as error:
        reason = f": {error}" if isinstance(error, MpcError) else ""
        for channel in opened:
            channel.abort(f"{role} could not connect to all parties{reason}")
        if server is not None:
            await server.close()
        raise
    return Mesh({peer.name: peer for peer in found}, server)


async def _shake(channel: Channel, role: str, program: Program) -> Peer:
    try:
        return await handshake(channel, role, program)
    except MpcError as error:
        await channel.close()  # in order, so that the peer still gets our hello and sees the same difference
        raise error


async def _all(branches: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, or the first failure after the others have been cancelled."""
    tasks = [asyncio.ensure_future(branch) for branch in branches]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _address(addresses: Mapping[str, str], role: str) -> str:
    if role not in addresses:
        raise LocalConfigError(f"the address of {role} is missing")
    return addresses[role]
