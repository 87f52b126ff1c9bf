"""Three connections become one session, and the session ends with the first of them."""

import asyncio

import pytest

from mpcnet.errors import ChannelClosed, MpcError, RemoteAbort, RemoteProtocolError
from mpcnet.transport.channel import memory_pair
from mpcnet.transport.handshake import Peer, Program, handshake
from mpcnet.transport.rendezvous import SERVERS, Rendezvous, join, watch
from mpcnet.transport.wire import Header

ROLES = ("server0", "server1", "dealer")
PROGRAM = Program(bytes(32))


def rendezvous(role: str, *awaited: str) -> Rendezvous:
    return Rendezvous(awaited, lambda channel: handshake(channel, role, PROGRAM), lambda channel: None)


async def turns(count: int) -> None:
    """Let everybody do what can be done without waiting."""
    for _ in range(count):
        await asyncio.sleep(0)


async def two_ends(role: str, other: str) -> tuple[Peer, Peer]:
    a, b = memory_pair(role, other)
    return await asyncio.gather(handshake(a, role, PROGRAM), handshake(b, other, PROGRAM))


class Triangle:
    """Each party's peers, over connections of one moment."""

    def __init__(self, ends: dict[tuple[str, str], tuple[Peer, Peer]]) -> None:
        self.peers: dict[str, dict[str, Peer]] = {role: {} for role in ROLES}
        for (a, b), (at_a, at_b) in ends.items():
            self.peers[a][b], self.peers[b][a] = at_a, at_b

    @classmethod
    async def make(cls) -> "Triangle":
        pairs = [("server0", "server1"), ("server0", "dealer"), ("server1", "dealer")]
        return cls({pair: await two_ends(*pair) for pair in pairs})

    async def join(self) -> list[bytes | BaseException]:
        async def one(role: str) -> bytes:
            try:
                return await join(role, self.peers[role])
            except MpcError as error:
                for peer in self.peers[role].values():
                    peer.channel.abort(str(error))
                raise

        return await asyncio.gather(*(one(role) for role in ROLES), return_exceptions=True)


async def test_join_names_the_session_of_the_servers() -> None:
    triangle = await Triangle.make()
    assert await triangle.join() == [triangle.peers["server0"]["server1"].session] * 3


async def test_join_refuses_servers_in_different_sessions() -> None:
    triangle = await Triangle.make()
    triangle.peers["server1"]["server0"], _ = await two_ends("server1", "server0")
    found = await triangle.join()
    assert isinstance(found[2], RemoteProtocolError) and "server0 and server1 are in different sessions" in str(
        found[2]
    )
    assert all(isinstance(result, RemoteAbort) and "in different sessions" in str(result) for result in found[:2])


async def test_a_server_refuses_a_dealer_in_another_session() -> None:
    triangle = await Triangle.make()

    async def dealer() -> None:
        peers = triangle.peers["dealer"]
        await peers["server0"].channel.send(
            Header("control", peers["server0"].session, label="join", fields={"id": bytes(16)})
        )

    with pytest.raises(RemoteProtocolError, match="dealer: its session is not ours"):
        await asyncio.gather(join("server0", triangle.peers["server0"]), dealer())


@pytest.mark.parametrize("value", [None, "x" * 16, bytes(15), bytes(17), 7])
async def test_join_refuses_what_is_no_session_id(value: object) -> None:
    triangle = await Triangle.make()
    header = Header("control", triangle.peers["server0"]["dealer"].session, label="join", fields={"id": value})
    await triangle.peers["server0"]["dealer"].channel.send(header)
    with pytest.raises(RemoteProtocolError, match="server0: want a session id of 16 bytes to join"):
        await join("dealer", triangle.peers["dealer"])


@pytest.mark.parametrize("dying", ["server0", "server1"])
async def test_watch_ends_when_a_peer_is_gone_and_says_why(dying: str) -> None:
    triangle = await Triangle.make()
    watching = asyncio.create_task(watch(rendezvous("dealer", *SERVERS), triangle.peers["dealer"], SERVERS))
    await turns(20)
    assert not watching.done()
    triangle.peers[dying]["dealer"].channel.abort("out of memory")
    with pytest.raises(RemoteAbort, match=f"{dying} aborted: out of memory"):
        await watching


async def test_watch_ends_when_a_peer_has_come_anew() -> None:
    triangle, ours = await Triangle.make(), rendezvous("dealer", *SERVERS)
    watching = asyncio.create_task(watch(ours, triangle.peers["dealer"], SERVERS))
    await turns(20)
    here, there = memory_pair("server1", "dealer")
    ours.arrive(there)
    peer = await handshake(here, "server1", PROGRAM)
    with pytest.raises(ChannelClosed, match="server1 has connected anew"):
        await watching
    assert (await ours.take("server1")).session == peer.session  # it is there for the next session


async def test_watch_of_one_who_only_dials() -> None:
    triangle = await Triangle.make()
    watching = asyncio.create_task(watch(rendezvous("server1"), triangle.peers["server1"], []))
    await turns(20)
    assert not watching.done()
    await triangle.peers["dealer"]["server1"].channel.close()
    with pytest.raises(ChannelClosed, match="dealer closed the channel"):
        await watching
