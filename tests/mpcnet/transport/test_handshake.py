"""Handshake and seeds over memory channels."""

import asyncio
import pickle
from math import inf

import pytest

from mpcnet.errors import (
    LocalConfigError,
    RemoteAbort,
    RemoteIdentityError,
    RemoteMismatchError,
    RemoteProtocolError,
)
from mpcnet.rounds import Part
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.handshake import FORMAT_VERSION, Look, Peer, Program, Seed, agree_seed, handshake, look
from mpcnet.transport.wire import Header

DIGEST = bytes(range(32))
PROGRAM = Program(DIGEST, {"frac": 12, "model": "tiny", "exact": True})


async def shake(a=PROGRAM, b=PROGRAM, roles=("server0", "server1")) -> list:
    ends = memory_pair("server0", "server1")
    pairs = zip(ends, roles, (a, b), strict=True)
    return await asyncio.gather(*(handshake(*pair) for pair in pairs), return_exceptions=True)


async def test_both_sides_agree_on_a_fresh_session() -> None:
    a, b = await shake()
    assert isinstance(a, Peer) and isinstance(b, Peer)
    assert a.session == b.session and len(a.session) == 16
    assert a.nonces == b.nonces[::-1]
    assert (a.name, b.name) == ("server1", "server0")
    again, _ = await shake()
    assert again.session != a.session


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Program(bytes(32), PROGRAM.settings), "program: ours 0001020304050607..., theirs 0000000000000000..."),
        (Program(DIGEST, {"frac": 13, "model": "tiny", "exact": True}), "frac: ours 12, theirs 13"),
        (Program(DIGEST, {"frac": 12, "model": "tiny"}), "exact: ours True, theirs nothing"),
        (Program(DIGEST, {"frac": 12, "model": "tiny", "exact": 1}), "exact: ours True, theirs 1"),
    ],
)
async def test_a_mismatch_is_shown_key_by_key_on_both_sides(other: Program, words: str) -> None:
    a, b = await shake(b=other)
    assert isinstance(a, RemoteMismatchError) and isinstance(b, RemoteMismatchError)
    assert str(a) == f"server1 runs another program: {words}; give both the same program.json"
    assert "model" not in str(a) and "role" not in str(a) and "nonce" not in str(a)


async def test_all_differences_are_listed() -> None:
    a, _ = await shake(b=Program(DIGEST, {"frac": 13, "model": "base", "exact": True}))
    assert "frac: ours 12, theirs 13; model: ours tiny, theirs base" in str(a)


async def test_the_certificate_has_the_last_word() -> None:
    a, b = await shake(roles=("server0", "dealer"))
    assert isinstance(a, RemoteIdentityError) and "its certificate says server1, its hello dealer" in str(a)
    assert isinstance(b, Peer)  # the liar sees nothing wrong; the honest side is gone


async def test_reflection_is_noticed() -> None:
    near, far = memory_pair("server0", "server0")

    async def mirror() -> None:
        header = await far.receive(lambda header: memoryview(b""))
        await far.send(header)

    with pytest.raises(RemoteIdentityError, match="ourselves"):
        await asyncio.gather(handshake(near, "server0", PROGRAM), mirror())


def hello(**change: object) -> Header:
    fields = {"version": FORMAT_VERSION, "role": "server1", "program": DIGEST, "nonce": bytes(32), "time": 0.0} | change
    return Header("control", bytes(16), label="hello", fields=fields)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"version": FORMAT_VERSION + 1},
            RemoteMismatchError,
            f"^server1 runs another release: format version: ours {FORMAT_VERSION}, theirs {FORMAT_VERSION + 1}; "
            "install releases of mpcnet with one format version at both$",
        ),
        ({"version": None}, RemoteMismatchError, "version"),
        ({"version": True}, RemoteMismatchError, "version"),
        ({"nonce": bytes(31)}, RemoteProtocolError, "wrong type or size"),
        ({"program": "x" * 32}, RemoteProtocolError, "wrong type or size"),
        ({"surprise": 1}, RemoteProtocolError, "fields"),
        ({"time": 7}, RemoteProtocolError, "time is no number"),
        ({"time": "noon"}, RemoteProtocolError, "time is no number"),
        ({"role": None}, RemoteIdentityError, "server1"),
    ],
)
async def test_hostile_hellos(change: dict, error: type[Exception], words: str) -> None:
    near, far = memory_pair("server0", "server1")
    await far.send(hello(**change))
    with pytest.raises(error, match=words):
        await handshake(near, "server0", Program(DIGEST))


async def test_a_hello_without_a_time_is_refused() -> None:
    near, far = memory_pair("server0", "server1")
    fields = {name: value for name, value in hello().fields.items() if name != "time"}
    await far.send(Header("control", bytes(16), label="hello", fields=fields))
    with pytest.raises(RemoteProtocolError, match="fields"):
        await handshake(near, "server0", Program(DIGEST))


async def test_the_skew_of_the_clocks_is_seen_from_both_sides() -> None:
    ends = memory_pair("server0", "server1")
    a, b = await asyncio.gather(
        handshake(ends[0], "server0", PROGRAM, lambda: 1000.0), handshake(ends[1], "server1", PROGRAM, lambda: 1075.5)
    )
    assert (a.skew_s, b.skew_s) == (75.5, -75.5)
    assert a.session == b.session  # clocks that differ are told, not refused


async def test_a_look_shows_what_the_listener_says_and_leaves() -> None:
    near, far = memory_pair("server0", "server1")
    looking = asyncio.create_task(look(near, "server0"))
    with pytest.raises(RemoteAbort, match="a look by the doctor of server0"):
        await handshake(far, "server1", PROGRAM, lambda: 12.5)
    assert await looking == Look(FORMAT_VERSION, DIGEST, PROGRAM.settings, 12.5)


async def test_a_look_at_another_program_is_no_error() -> None:
    near, far = memory_pair("server0", "server1")
    await far.send(hello(version="old", program=7, time="noon", **{"config.frac": [1], "config.model": "base"}))
    assert await look(near, "server0") == Look(0, b"", {"model": "base"}, inf)


async def test_a_look_at_something_else_is_refused_and_ends() -> None:
    near, far = memory_pair("server0", "server1")
    await far.send(Header("control", bytes(16), label="result"))
    with pytest.raises(RemoteProtocolError, match="want control frame 'hello'"):
        await look(near, "server0")
    assert isinstance(await far.gone(), RemoteAbort)


async def test_digest_has_32_bytes() -> None:
    near, _ = memory_pair("server0", "server1")
    with pytest.raises(LocalConfigError):
        await handshake(near, "server0", Program(b"short"))


async def test_seed_is_shared_bound_and_hidden() -> None:
    a, b = await shake()
    first = await asyncio.gather(agree_seed(a, "masks"), agree_seed(b, "masks"))
    second = await asyncio.gather(agree_seed(a, "masks"), agree_seed(b, "masks"))
    assert first[0] == first[1] and second[0] == second[1]
    assert first[0] != second[0]
    assert len(first[0].reveal()) == 32
    assert first[0].reveal().hex() not in repr(first[0]) and repr(first[0]) == str(first[0]) == "Seed(...)"
    with pytest.raises(TypeError):
        pickle.dumps(first[0])
    with pytest.raises(TypeError):
        hash(first[0])
    assert Seed(bytes(32)) != bytes(32)


async def test_seed_for_another_purpose_is_refused() -> None:
    a, b = await shake()
    results = await asyncio.gather(agree_seed(a, "masks"), agree_seed(b, "bits"), return_exceptions=True)
    assert all(isinstance(result, RemoteProtocolError) for result in results)


async def test_seed_of_another_size_is_refused() -> None:
    a, b = await shake()
    header = Header("control", a.session, label="seed", parts=(Part(8, (31,)),), fields={"purpose": "masks"})
    await b.channel.send(header, memoryview(bytes(31)))
    with pytest.raises(RemoteProtocolError):
        await agree_seed(a, "masks")
