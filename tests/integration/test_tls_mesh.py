"""Listening, dialling, and three parties that meet over TLS."""

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from limits import LIMIT_S, PATIENT_S
from sockets import Place, both_loops, close, until

import mpcnet.aio.backoff
import mpcnet.transport.tls
from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import ChannelBusy, ChannelTimeout, LocalConfigError, MpcError, RemoteMismatchError
from mpcnet.transport.channel import Channel
from mpcnet.transport.handshake import Peer, Program, agree_seed, handshake
from mpcnet.transport.rendezvous import SERVERS, VISITORS, Rendezvous, awaits, dials, join, meet
from mpcnet.transport.tls import dial, listen, parse_address

pytestmark = both_loops
ROLES = ("server0", "server1", "dealer")


async def test_port_in_use(place: Place) -> None:
    with pytest.raises(ChannelBusy, match=r"cannot listen on 127\.0\.0\.1:\d+: the port is in use"):
        await listen(place.server.address, place.identity("server0"), place.roster, ["server1"], print)


async def test_dial_waits_for_the_listener_and_says_why(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        dial(address, identity, place.roster, "server0", LIMIT_S, on_wait=lambda *words: waits.append(words)), late()
    )
    assert waits[0] == ("server0", address, "Connection refused")
    await close(channel, await place.channels.get())
    await place.server.close()
    monkeypatch.setattr(mpcnet.transport.tls, "FIRST_S", LIMIT_S)  # the next attempt would be too late
    with pytest.raises(ChannelTimeout, match=r"waited 60 s for server0 at .*Connection refused; is it running\?"):
        await dial(address, identity, place.roster, "server0", PATIENT_S)


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:x", "host:70000", "host:-1"])
def test_addresses(text: str) -> None:
    with pytest.raises(LocalConfigError):
        parse_address(text)


def test_address_with_brackets() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)


async def test_the_oldest_silent_one_gives_way_to_a_flood(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers that say nothing keep nobody out, however many they are, and cost a socket each."""
    monkeypatch.setattr(mpcnet.transport.tls, "SILENT", 2)
    where = parse_address(place.server.address)
    strangers = []
    for number in range(5):
        strangers.append(await asyncio.open_connection(*where))
        await until(lambda number=number: len(place.server._silent) == min(number + 1, 2))
    for reader, _ in strangers[:3]:
        with suppress(OSError):
            assert await reader.read() == b""  # dropped, the oldest first
    assert not any(reader.at_eof() for reader, _ in strangers[3:])
    assert not place.server._greetings
    await close(*await place.pair())  # a party gets in
    for _, writer in strangers:
        writer.close()


async def test_who_says_nothing_is_dropped_in_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcnet.transport.tls, "GREETING_S", 0.05)
    reader, writer = await asyncio.open_connection(*parse_address(place.server.address))
    with suppress(OSError):
        assert await reader.read() == b""
    assert "no greeting within 0.05 s" in str(await place.refused.get())
    writer.close()


async def test_greetings_are_bounded_when_many_come_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those who begin one and do not go on."""
    monkeypatch.setattr(mpcnet.transport.tls, "BACKLOG", 2)
    where = parse_address(place.server.address)
    strangers = await asyncio.gather(*(asyncio.open_connection(*where) for _ in range(20)))
    for _, writer in strangers:
        writer.write(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a ClientHello
    for reader, _ in strangers[:-2]:
        with suppress(OSError):
            assert await reader.read() == b""
    await until(lambda: len(place.server._greetings) <= 2)
    await close(*await place.pair())
    for _, writer in strangers:
        writer.close()


# --- the mesh -------------------------------------------------------------------------------------------------------


async def free_address() -> str:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


class Party:
    """One party's port, and its attempts to meet the others."""

    def __init__(self, place: Place, role: str, addresses: dict[str, str], digest: bytes = bytes(32)) -> None:
        self.place, self.role, self.addresses, self.program = place, role, addresses, Program(digest)
        self.visitors: asyncio.Queue[Channel] = asyncio.Queue()
        self.refused: asyncio.Queue[MpcError] = asyncio.Queue()
        self.failed: asyncio.Queue[MpcError] = asyncio.Queue()
        self.awaited = awaits(role, addresses)
        self.rendezvous = Rendezvous(self.awaited, self.greet, self.visitors.put_nowait)
        self.peers: dict[str, Peer] = {}
        self.greeted: set[str] = set()

    async def greet(self, channel: Channel) -> Peer:
        try:
            peer = await handshake(channel, self.role, self.program)
        except MpcError:
            await channel.close()
            raise
        self.greeted.add(peer.name)
        return peer

    async def dial(self, role: str) -> Peer:
        place = self.place
        channel = await dial(
            self.addresses[role],
            place.identity(self.role),
            place.roster,
            role,
            PATIENT_S,
            channel_timeout_s=PATIENT_S,
            linger_s=0.2,
        )
        return await self.greet(channel)

    async def meet(self) -> dict[str, Peer]:
        if self.role in self.addresses:
            accept = (*self.awaited, *(VISITORS if self.role in SERVERS else ()))
            await self.rendezvous.open(
                self.addresses[self.role], self.place.identity(self.role), self.place.roster, accept, PATIENT_S,
                lambda where, error: self.refused.put_nowait(error),
            )  # fmt: skip
        self.peers = await meet(
            dials(self.role, self.addresses), self.awaited, self.dial, self.rendezvous,
            lambda name, error: self.failed.put_nowait(error),
        )  # fmt: skip
        return self.peers

    async def close(self) -> None:
        await self.rendezvous.close()
        for peer in self.peers.values():
            peer.channel.abort("test is over")
        await asyncio.gather(*(peer.channel.close() for peer in self.peers.values()), return_exceptions=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpcnet.aio.backoff, "FIRST_S", 0.005)
    monkeypatch.setattr(mpcnet.aio.backoff, "LONGEST_S", 0.02)


@pytest.fixture(params=[ROLES, SERVERS], ids=["all listen", "hidden dealer"])
async def addresses(request: pytest.FixtureRequest) -> dict[str, str]:
    return {role: await free_address() for role in request.param}


async def test_three_meet_and_join_with_a_visitor(deployment: Path, addresses: dict[str, str]) -> None:
    place = Place(deployment)
    parties = {role: Party(place, role, addresses) for role in ROLES}
    await asyncio.gather(*(party.meet() for party in parties.values()))
    for role, party in parties.items():
        assert set(party.peers) == {*ROLES} - {role}
        for other, peer in party.peers.items():
            assert peer.session == parties[other].peers[role].session
    names = await asyncio.gather(*(join(role, party.peers) for role, party in parties.items()))
    assert names == [parties["server0"].peers["server1"].session] * 3
    ends = parties["dealer"].peers["server0"], parties["server0"].peers["dealer"]
    seeds = await asyncio.gather(*(agree_seed(peer, "masks") for peer in ends))
    assert seeds[0] == seeds[1]

    client = Party(place, "client", addresses)

    async def host(role: str) -> Peer:
        return await parties[role].greet(await parties[role].visitors.get())

    *hosts, a, b = await asyncio.gather(*map(host, SERVERS), *map(client.dial, dials("client", addresses)))
    assert [peer.name for peer in hosts] == ["client", "client"]
    assert [peer.session for peer in hosts] == [a.session, b.session]
    await close(*(peer.channel for peer in (*hosts, a, b)))
    await asyncio.gather(*(party.close() for party in parties.values()))


async def test_a_second_connection_of_a_role_replaces_the_first(deployment: Path) -> None:
    addresses = {role: await free_address() for role in ROLES}
    party = Party(Place(deployment), "server0", addresses)
    meeting = asyncio.create_task(party.meet())
    server1 = Party(party.place, "server1", addresses)
    older, newer = await server1.dial("server0"), await server1.dial("server0")
    assert "connected anew" in str(await older.channel.gone())
    await end_tasks(meeting)
    assert "server0 aborted: server0 gave up" in str(await newer.channel.gone())
    await asyncio.gather(party.close(), close(older.channel, newer.channel))


async def test_another_program_is_shown_on_both_sides_and_a_restart_with_the_right_one_is_let_in(
    deployment: Path,
) -> None:
    place, addresses = Place(deployment), {role: await free_address() for role in ROLES}
    right = {role: Party(place, role, addresses) for role in ROLES}
    wrong = Party(place, "server1", addresses, b"\x01" * 32)
    meetings = [asyncio.create_task(right[role].meet()) for role in ("server0", "dealer")]
    meeting = asyncio.create_task(wrong.meet())
    seen_here, seen_there = await wrong.failed.get(), await right["server0"].refused.get()
    assert isinstance(seen_here, RemoteMismatchError) and isinstance(seen_there, RemoteMismatchError)
    assert "program: ours 0101010101010101..., theirs 0000000000000000..." in str(seen_here)
    assert "program: ours 0000000000000000..., theirs 0101010101010101..." in str(seen_there)
    await end_tasks(meeting)
    await wrong.close()
    await asyncio.gather(right["server1"].meet(), *meetings)
    await asyncio.gather(*(party.close() for party in right.values()))


async def test_a_party_that_dies_at_the_meeting_and_comes_again(deployment: Path, addresses: dict[str, str]) -> None:
    place = Place(deployment)
    first = Party(place, "server1", addresses)
    others = [Party(place, role, addresses) for role in ("server0", "dealer")]
    meetings = [asyncio.create_task(others[0].meet()), asyncio.create_task(first.meet())]
    await until(lambda: "server1" in others[0].greeted)
    await end_tasks(meetings[1])
    await first.close()
    again = Party(place, "server1", addresses)
    await asyncio.gather(again.meet(), others[1].meet(), meetings[0])
    assert {peer.name for peer in again.peers.values()} == {"server0", "dealer"}
    await asyncio.gather(*map(partial(Party.close), (*others, again)))
