"""Agree with a peer that it runs the same program: the handshake on a fresh channel.

It is one frame each way: format version, role, program digest, nonce, clock, public settings. The session id is a hash
of both frames, so it is fresh if either side is, and it binds what was agreed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from mpcnet.errors import LocalConfigError, RemoteIdentityError, RemoteMismatchError, RemoteProtocolError
from mpcnet.rounds import Part
from mpcnet.transport.channel import CONTROL, NO_SESSION, Channel, check_control, receive_control
from mpcnet.transport.wire import Header, Scalar, Value, encode

FORMAT_VERSION = 6
"""Of all that parties of one deployment must do alike. Peers exchange it, program.json holds it, and releases with the
same one work together, whatever their own versions are. It is raised by whatever makes another release

* send, expect or refuse another frame: handshake, control frames, order, labels and sizes of rounds and corrections;
* compute another number for the same inputs: formats, public factors and tables, how keystreams are cut into masks;
* read or write another program.json.

Not by what one party does alone: speed, logs, settings in party.toml, files that it keeps for itself.
`tests/models/private/test_format.py` fails where plans, opened values or program.json change and this number does not.
"""
SAME_PROGRAM = "give both the same program.json"
COMPUTES = "what its protocols compute"  # a setting: the digest of a known answer
SAME_CODE = "install one release at both, unchanged"
UPGRADE = "install releases of mpcnet with one format version at both"
HELLO = "hello"
SEED = "seed"
SETTING = "config."  # public settings travel as fields with this prefix
NONCE_BYTES = DIGEST_BYTES = SEED_BYTES = 32


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
    own_role: str
    session: bytes
    nonces: tuple[bytes, bytes]  # ours, theirs
    skew_s: float = 0.0  # how far the peer's clock is ahead of ours; up to a round trip of that is the way

    @property
    def name(self) -> str:
        """The peer's role."""
        return self.channel.peer


@dataclass(frozen=True, slots=True)
class Look:
    """What a listener says of itself."""

    version: int
    digest: bytes
    settings: Mapping[str, Scalar]
    time_s: float  # of its clock, seconds since 1970


async def handshake(channel: Channel, role: str, program: Program, clock: Callable[[], float] = time.time) -> Peer:
    """Exchange hellos; both sides see the same mismatch.

    :raises RemoteMismatchError: another format version, program or setting.
    :raises RemoteIdentityError: the peer says another role than its certificate.
    :raises RemoteProtocolError: the frame is not a hello.
    """
    ours = _hello(role, program, secrets.token_bytes(NONCE_BYTES), clock())
    _, theirs = await asyncio.gather(channel.send(ours), receive_control(channel, HELLO))
    _check_hello(ours, theirs, channel.peer)
    first, second = sorted((ours, theirs), key=lambda hello: str(hello.fields["role"]))
    nonces = _bytes_of(ours, "nonce"), _bytes_of(theirs, "nonce")
    session = _hash(b"mpcnet-session", encode(first), encode(second), size=16)
    return Peer(channel, role, session, nonces, _time_of(theirs) - clock())


async def look(channel: Channel, role: str) -> Look:
    """What the peer says of itself in its hello, which it gets no answer to: it forgets the connection.

    :raises RemoteProtocolError: the frame is not a hello.
    """
    try:
        theirs = await receive_control(channel, HELLO)
    finally:
        channel.abort(f"a look by the doctor of {role}")
    settings = {name.removeprefix(SETTING): v for name, v in theirs.fields.items() if name.startswith(SETTING)}
    version = theirs.fields.get("version")
    return Look(
        version if isinstance(version, int) else 0,
        _bytes_of(theirs, "program"),
        {name: value for name, value in settings.items() if not isinstance(value, list)},
        _time_of(theirs),
    )


def _hello(role: str, program: Program, nonce: bytes, time_s: float) -> Header:
    if len(program.digest) != DIGEST_BYTES:
        raise LocalConfigError(f"the program's digest has {len(program.digest)} bytes, not {DIGEST_BYTES}")
    settings = {SETTING + name: value for name, value in program.settings.items()}
    fields: dict[str, Value] = {
        "version": FORMAT_VERSION,
        "role": role,
        "program": program.digest,
        "nonce": nonce,
        "time": time_s,
    }
    return Header(CONTROL, NO_SESSION, label=HELLO, fields={**fields, **settings})


def _check_hello(ours: Header, theirs: Header, peer: str) -> None:
    """:raises MpcError: as `handshake`."""
    fields = theirs.fields
    theirs_version = fields.get("version")
    if theirs_version != FORMAT_VERSION:
        what = f"format version: ours {FORMAT_VERSION}, theirs {_shown(theirs_version)}"
        raise RemoteMismatchError(f"{peer} runs another release: {what}; {UPGRADE}")
    fixed = {"version", "role", "program", "nonce", "time"}
    if not fixed <= set(fields) or not all(name in fixed or name.startswith(SETTING) for name in fields):
        raise RemoteProtocolError(f"{peer}: the hello has not the fields that it should")
    if len(_bytes_of(theirs, "nonce")) != NONCE_BYTES or len(_bytes_of(theirs, "program")) != DIGEST_BYTES:
        raise RemoteProtocolError(f"{peer}: the hello's nonce or digest has the wrong type or size")
    if _time_of(theirs) == inf:
        raise RemoteProtocolError(f"{peer}: the hello's time is no number")
    if fields["role"] != peer:
        raise RemoteIdentityError(f"{peer}: its certificate says {peer}, its hello {_shown(fields['role'])}")
    if fields["role"] == ours.fields["role"] or fields["nonce"] == ours.fields["nonce"]:
        raise RemoteIdentityError(f"{peer}: we are talking to ourselves; two parties with one role?")
    if differences := _differences(ours, theirs):
        reasons, remedy = telling(differences)
        raise RemoteMismatchError(f"{peer} runs another program: {'; '.join(reasons)}; {remedy}")


def telling(differences: Mapping[str, str]) -> tuple[list[str], str]:
    """Of the settings in which two programs differ, those that say why, and what to do about it.

    Other programs compute other numbers, so that says something only where nothing else differs.
    """
    if set(differences) == {COMPUTES}:
        return list(differences.values()), SAME_CODE
    return [text for name, text in differences.items() if name != COMPUTES], SAME_PROGRAM


def _differences(ours: Header, theirs: Header) -> dict[str, str]:
    names = sorted((set(ours.fields) | set(theirs.fields)) - {"role", "nonce", "time"})
    found = {}
    for name in names:
        mine, other = ours.fields.get(name, "nothing"), theirs.fields.get(name, "nothing")
        if mine != other or type(mine) is not type(other):
            plain = name.removeprefix(SETTING)
            found[plain] = f"{plain}: ours {_shown(mine)}, theirs {_shown(other)}"
    return found


def _shown(value: object) -> str:
    text = value[:8].hex() + "..." if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _bytes_of(header: Header, name: str) -> bytes:
    value = header.fields.get(name)
    return value if isinstance(value, bytes) else b""


def _time_of(header: Header) -> float:
    value = header.fields.get("time")
    return value if isinstance(value, float) else inf


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
    pieces = (mine, bytes(theirs)) if peer.own_role < peer.name else (bytes(theirs), mine)
    return Seed(_hash(b"mpcnet-seed", peer.session, purpose.encode(), *pieces, size=SEED_BYTES))
