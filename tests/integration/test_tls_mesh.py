"""Listening, dialling, and the mesh of parties."""

import asyncio
from pathlib import Path

import pytest
from integration.sockets import Place, both_loops, close, receive_bytes, until

from mpcnet.errors import (
    ChannelBusy,
    ChannelTimeout,
    LocalConfigError,
    MpcError,
    RemoteAbort,
    RemoteMismatchError,
)
from mpcnet.mesh import Program, agree_seed, connect_mesh, handshake
from mpcnet.tls import dial, listen, parse_address

pytestmark = [pytest.mark.timeout(30), both_loops]


async def test_port_in_use(place: Place) -> None:
    with pytest.raises(ChannelBusy, match=r"cannot listen on 127\.0\.0\.1:\d+: the port is in use"):
        await listen(place.server.address, place.identity("server0"), place.roster, ["server1"], print)


async def test_dial_waits_for_the_listener_and_says_why(deployment: Path) -> None:
    place, waits = Place(deployment), []
    await place.start()
    address = place.server.address
    await place.server.close()

    async def late() -> None:
        await until(lambda: len(waits) >= 2)
        place.server = await listen(
            address, place.identity("server0"), place.roster, ["server1"], place.channels.put_nowait
        )

    identity = place.identity("server1")
    channel, _ = await asyncio.gather(
        dial(address, identity, place.roster, "server0", 10.0, on_wait=lambda *words: waits.append(words)), late()
    )
    assert waits[0] == ("server0", address, "Connection refused")
    await close(channel, await place.channels.get())
    await place.server.close()
    with pytest.raises(ChannelTimeout, match=r"waited 0.1 s for server0 at .*Connection refused; is it running\?"):
        await dial(address, identity, place.roster, "server0", 0.1)


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:x", "host:70000", "host:-1"])
def test_addresses(text: str) -> None:
    with pytest.raises(LocalConfigError):
        parse_address(text)


def test_address_with_brackets() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)


async def free_address() -> str:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


async def join(place: Place, role: str, addresses: dict[str, str], digest: bytes = bytes(32), **options):
    options = {"timeout_s": 5.0} | options
    return await connect_mesh(role, addresses, place.identity(role), place.roster, Program(digest), **options)


async def test_mesh_of_three_with_a_guest(deployment: Path) -> None:
    place, roles = Place(deployment), ("server0", "server1", "dealer")
    addresses = {role: await free_address() for role in roles}
    guests: dict[str, asyncio.Queue] = {role: asyncio.Queue() for role in roles}
    joining = (join(place, role, addresses, on_guest=guests[role].put_nowait) for role in roles)
    meshes = dict(zip(roles, await asyncio.gather(*joining), strict=True))
    for role, mesh in meshes.items():
        assert set(mesh.peers) == set(roles) - {role}
        for other, peer in mesh.peers.items():
            assert peer.session == meshes[other].peers[role].session
    ends = meshes["dealer"].peers["server0"], meshes["server0"].peers["dealer"]
    seeds = await asyncio.gather(*(agree_seed(peer, "masks") for peer in ends))
    assert seeds[0] == seeds[1]

    async def host(role: str):
        return await handshake(await guests[role].get(), role, Program(bytes(32)))

    client, *hosts = await asyncio.gather(join(place, "client", addresses), host("server0"), host("server1"))
    assert [peer.name for peer in hosts] == ["client", "client"]
    assert [peer.session for peer in hosts] == [client.peers[role].session for role in ("server0", "server1")]
    again = await dial(addresses["server0"], place.identity("server1"), place.roster, "server0", 5.0)
    with pytest.raises(RemoteAbort, match="no place for server1"):
        await receive_bytes(again)
    await asyncio.gather(*(mesh.close() for mesh in (*meshes.values(), client)), *(p.channel.close() for p in hosts))


async def test_mesh_with_another_program_fails_on_both_sides(deployment: Path) -> None:
    place = Place(deployment)
    addresses = {role: await free_address() for role in ("server0", "server1", "dealer")}
    results = await asyncio.gather(
        join(place, "server0", addresses, timeout_s=1.0),
        join(place, "server1", addresses, timeout_s=1.0, digest=b"\x01" * 32),
        join(place, "dealer", addresses, timeout_s=1.0),
        return_exceptions=True,
    )
    assert all(isinstance(result, MpcError) for result in results)
    assert isinstance(results[1], RemoteMismatchError)
    assert "program: ours 0101010101010101..., theirs 0000000000000000..." in str(results[1])


async def test_mesh_waits_for_who_is_to_dial(deployment: Path) -> None:
    place = Place(deployment)
    addresses = {"dealer": await free_address()}
    with pytest.raises(ChannelTimeout, match=r"waited 0.05 s for server0 to dial dealer"):
        await join(place, "dealer", addresses, timeout_s=0.05)
    with pytest.raises(LocalConfigError, match="our certificate says dealer"):
        await connect_mesh("server0", addresses, place.identity("dealer"), place.roster, Program(bytes(32)), 1.0)
