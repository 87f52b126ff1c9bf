"""Who dials whom, the place where connections wait, and meeting: over memory channels."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from limits import LIMIT_S

import mpcnet.aio.backoff
from mpcnet.aio.tasks import end_tasks
from mpcnet.errors import (
    ChannelTimeout,
    LocalConfigError,
    MpcError,
    RemoteAbort,
    RemoteError,
)
from mpcnet.transport.channel import Channel, memory_pair, receive_control, send_control
from mpcnet.transport.handshake import Peer, Program, handshake
from mpcnet.transport.rendezvous import Rendezvous, awaits, dials, meet

ROLES = ("server0", "server1", "dealer")
ALL = dict.fromkeys(ROLES, "host:1")
HIDDEN_DEALER = dict.fromkeys(("server0", "server1"), "host:1")
PROGRAM = Program(bytes(32))


# --- who dials whom -------------------------------------------------------------------------------------------------


def test_each_pair_has_one_who_dials() -> None:
    assert {role: dials(role, ALL) for role in ROLES} == {
        "server0": ("dealer",),
        "server1": ("dealer", "server0"),
        "dealer": (),
    }
    for addresses in (ALL, HIDDEN_DEALER):
        for role in ROLES:
            assert {*dials(role, addresses), *awaits(role, addresses)} == {*ROLES} - {role}
            assert all(role in awaits(other, addresses) for other in dials(role, addresses))


def test_a_dealer_without_an_address_dials_both_servers_and_nobody_dials_it() -> None:
    assert dials("dealer", HIDDEN_DEALER) == ("server0", "server1") and awaits("dealer", HIDDEN_DEALER) == ()
    assert all("dealer" not in dials(role, HIDDEN_DEALER) for role in (*ROLES, "owner", "client"))


@pytest.mark.parametrize("role", ["owner", "client", "client:alice"])
def test_visitors_dial_the_servers_and_nobody_awaits_them(role: str) -> None:
    assert dials(role, ALL) == ("server0", "server1")
    assert all(role not in awaits(party, ALL) for party in ROLES)


@pytest.mark.parametrize("role", [*ROLES, "owner", "client:alice"])
def test_servers_need_addresses(role: str) -> None:
    with pytest.raises(LocalConfigError, match="want one for server1, whom owner and clients dial"):
        dials(role, {"server0": "host:1", "dealer": "host:1"})
    with pytest.raises(LocalConfigError, match="want one for server0 and server1"):
        dials(role, {})


# --- who listens, without a network ---------------------------------------------------------------------------------


class Town:
    """Lobbies, and those who dial them."""

    def __init__(self) -> None:
        self.rendezvous_of: dict[str, Rendezvous] = {}
        self.failures: list[tuple[str, str]] = []

    def rendezvous(self, role: str, on_visitor: Callable[[Channel], None] = lambda channel: None) -> Rendezvous:
        self.rendezvous_of[role] = Rendezvous(
            awaits(role, ALL), lambda channel: handshake(channel, role, PROGRAM), on_visitor
        )
        return self.rendezvous_of[role]

    async def dial(self, role: str, other: str) -> Peer:
        if other not in self.rendezvous_of:
            raise ChannelTimeout(f"{other}: nobody listens")
        ours, theirs = memory_pair(role, other)
        self.rendezvous_of[other].arrive(theirs)
        return await handshake(ours, role, PROGRAM)

    async def meet(self, role: str) -> dict[str, Peer]:
        def failed(other: str, error: MpcError) -> None:
            self.failures.append((other, str(error)))

        return await meet(
            dials(role, ALL), awaits(role, ALL), lambda other: self.dial(role, other), self.rendezvous_of[role], failed
        )


async def met(peer: Peer) -> None:
    """As one who has dialled and holds all its connections."""
    await receive_control(peer.channel, "met", peer.session)
    await send_control(peer.channel, peer.session, "met")


async def held_by_the_dealer(town: Town) -> tuple[Rendezvous, asyncio.Task[dict[str, Peer]], Peer]:
    """server0 meets, has dialled the dealer, and waits for server1: the dealer's place, the meeting, their connection."""
    town.rendezvous("server0")
    dealer = town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("server0"))
    return dealer, meeting, await dealer.take("server0")


async def turns(count: int) -> None:
    """Let everybody do what can be done without waiting."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Town:
    monkeypatch.setattr(mpcnet.aio.backoff, "FIRST_S", 0)
    monkeypatch.setattr(mpcnet.aio.backoff, "LONGEST_S", 0)
    return Town()


# --- meeting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", range(60))
async def test_meet_goes_on_when_a_connection_dies_at_any_moment(town: Town, delay: int) -> None:
    """Also just as the last one comes, or while all tell each other that they are there."""
    town.rendezvous("dealer")
    lines: list[Peer] = []

    async def come(role: str) -> None:
        while True:
            peer = await town.dial(role, "dealer")
            lines.append(peer)
            with suppress(MpcError):
                await met(peer)
            await peer.channel.gone()

    meeting = asyncio.create_task(town.meet("dealer"))
    coming = [asyncio.create_task(come("server0"))]
    await turns(10)
    coming.append(asyncio.create_task(come("server1")))
    await turns(delay)
    lines[0].channel.abort("died")
    assert set(await meeting) == {"server0", "server1"}
    await end_tasks(*coming)


async def test_nobody_has_met_before_all_say_so(town: Town) -> None:
    town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("dealer"))
    peers = [await town.dial(role, "dealer") for role in ("server0", "server1")]
    await met(peers[0])
    await turns(30)
    assert not meeting.done()
    await met(peers[1])
    assert {name: peer.session for name, peer in (await meeting).items()} == {
        peer.own_role: peer.session for peer in peers
    }


async def test_nothing_is_sent_to_one_who_was_dialled_before_it_speaks(town: Town) -> None:
    """A frame that nobody reads yet would hide the end behind it."""
    town.rendezvous("server0"), town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("server0"))
    await town.dial("server1", "server0")
    dialled = await town.rendezvous_of["dealer"].take("server0")
    await turns(30)
    before = dialled.channel.received_bytes
    reading = asyncio.create_task(receive_control(dialled.channel, "met", dialled.session))
    await turns(30)
    assert not reading.done() and dialled.channel.received_bytes == before
    await send_control(dialled.channel, dialled.session, "met")
    await reading
    await end_tasks(meeting)


@pytest.mark.parametrize("what", ["gone", "anew"])
async def test_meeting_begins_again_if_one_is_lost_while_another_is_not_ready(town: Town, what: str) -> None:
    town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("dealer"))
    ready, lost = [await town.dial(role, "dealer") for role in ("server0", "server1")]
    await met(ready)
    if what == "gone":
        lost.channel.abort("died")
    newer = await town.dial("server1", "dealer")
    assert "dealer gave up before all were connected" in str(await ready.channel.gone())
    await asyncio.gather(met(newer), met(await town.dial("server0", "dealer")))
    assert (await meeting)["server1"].session == newer.session
    words = "died" if what == "gone" else "server1 has connected anew"
    assert len(town.failures) == 1 and town.failures[0][0] == "server0 and server1" and words in town.failures[0][1]


async def test_cancelled_meeting_tells_those_who_were_held(town: Town) -> None:
    town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("dealer"))
    peer = await town.dial("server0", "dealer")
    await turns(20)
    await end_tasks(meeting)
    assert "dealer gave up before all were connected" in str(await peer.channel.gone())


async def test_meet_reports_why_a_peer_cannot_be_reached_and_goes_on(town: Town) -> None:
    town.rendezvous("server0")
    meeting = asyncio.create_task(town.meet("server0"))
    await turns(30)
    assert len(town.failures) > 1 and set(town.failures) == {("dealer", "dealer: nobody listens")}
    town.rendezvous("dealer")
    server1 = await town.dial("server1", "server0")
    dealer = await town.rendezvous_of["dealer"].take("server0")
    await send_control(dealer.channel, dealer.session, "met")
    await met(server1)
    assert set(await meeting) == {"dealer", "server1"}


async def test_who_is_lost_while_a_third_is_awaited_is_dialled_again_at_once(town: Town) -> None:
    dealer, meeting, first = await held_by_the_dealer(town)
    first.channel.abort("restarting")
    assert (await dealer.take("server0")).session != first.session
    await end_tasks(meeting)


async def test_who_has_spoken_is_heard_while_a_third_is_awaited(town: Town) -> None:
    """An unread frame would hide that the connection has ended."""
    dealer, meeting, first = await held_by_the_dealer(town)
    await send_control(first.channel, first.session, "met")
    first.channel.abort("restarting")
    second = await asyncio.wait_for(dealer.take("server0"), LIMIT_S)
    await send_control(second.channel, second.session, "met")
    server1 = await town.dial("server1", "server0")
    joining = asyncio.create_task(met(server1))
    await asyncio.wait_for(receive_control(second.channel, "met", second.session), LIMIT_S)
    assert (await meeting)["dealer"].session == second.session
    await joining


async def test_who_says_something_else_is_no_reason_to_dial_again_at_once(town: Town) -> None:
    dealer, meeting, first = await held_by_the_dealer(town)
    await send_control(first.channel, first.session, "join")
    await asyncio.wait_for(dealer.take("server0"), LIMIT_S)
    [(who, why)] = town.failures
    assert who == "dealer" and "join" in why
    await end_tasks(meeting)


async def test_meet_does_not_hide_a_fault_of_ours(town: Town) -> None:
    async def dial(name: str) -> Peer:
        raise LocalConfigError("address: want host:port, got another")

    with pytest.raises(LocalConfigError, match="want host:port"):
        await meet(["dealer"], [], dial, town.rendezvous("server0"), lambda name, error: None)


# --- the rendezvous -------------------------------------------------------------------------------------------------


async def test_the_newest_connection_wins_and_the_older_ends_with_a_reason(town: Town) -> None:
    rendezvous = town.rendezvous("dealer")
    older, newer = await town.dial("server0", "dealer"), await town.dial("server0", "dealer")
    assert str(await older.channel.gone()) == "dealer aborted: server0 has connected anew"
    assert (await rendezvous.take("server0")).session == newer.session


async def test_a_held_connection_gives_way_to_a_newer_one(town: Town) -> None:
    town.rendezvous("dealer")
    meeting = asyncio.create_task(town.meet("dealer"))
    older = await town.dial("server0", "dealer")
    await turns(20)
    newer = await town.dial("server0", "dealer")
    assert "dealer has connected anew" in str(await older.channel.gone())
    await asyncio.gather(met(newer), met(await town.dial("server1", "dealer")))
    assert (await meeting)["server0"].session == newer.session


async def test_a_connection_is_taken_once(town: Town) -> None:
    rendezvous = town.rendezvous("dealer")
    await town.dial("server0", "dealer")
    await rendezvous.take("server0")
    again = asyncio.create_task(rendezvous.take("server0"))
    await town.dial("server1", "dealer")
    await turns(20)
    assert not again.done()
    peer = await town.dial("server0", "dealer")
    assert (await again).session == peer.session
    assert await rendezvous.returned(["server0", "server1"]) == "server1"


async def test_visitors_are_handed_on_as_they_come(town: Town) -> None:
    visitors: list[Channel] = []
    rendezvous = town.rendezvous("server0", visitors.append)
    ours, theirs = memory_pair("client:alice", "server0")
    rendezvous.arrive(theirs)
    assert visitors == [theirs]
    await ours.close()


async def test_who_breaks_the_handshake_is_told_and_the_rendezvous_goes_on(town: Town) -> None:
    rendezvous = town.rendezvous("dealer")
    ours, theirs = memory_pair("server0", "dealer")
    rendezvous.arrive(theirs)
    with pytest.raises(RemoteError, match="another program"):
        await handshake(ours, "server0", Program(bytes(31) + b"\x01"))
    assert "runs another program" in str(await ours.gone())
    peer = await town.dial("server0", "dealer")
    assert (await rendezvous.take("server0")).session == peer.session


async def test_a_closed_rendezvous_ends_what_nobody_took(town: Town) -> None:
    rendezvous = town.rendezvous("dealer")
    waiting = await town.dial("server0", "dealer")
    greeting, theirs = memory_pair("server1", "dealer")
    rendezvous.arrive(theirs)
    await turns(5)  # it never says hello
    await rendezvous.close()
    assert "dealer does not listen any more" in str(await waiting.channel.gone())
    await greeting.receive(lambda header: memoryview(b""))
    assert isinstance(await greeting.gone(), RemoteAbort)
