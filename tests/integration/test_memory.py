"""A server's memory: what it refuses for ever before it takes a byte of it, and what it gives back."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from limits import LIMIT_S
from parties import ALL, SERVERS, Parties, change, some_tokens
from uploads import announce, turned_away

from mpcnet.errors import RemoteAbort
from mpcnet.launch.api.session import Session
from mpcnet.launch.party import budget, upload
from mpcnet.launch.party.request import Shares
from mpcnet.models.private.program import Plans, Size


@pytest.fixture(autouse=True)
def narrow(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """server1 has memory for three sentences of 16 tokens; the others have more."""
    plans = Plans(parties.model.config())
    room = budget.run_bytes(plans.infer(Size(3, 16)))
    of_server = budget.of_server
    from mpcnet.launch.party import party

    def small(settings, known):
        return of_server(settings, known).within(room + (1 << 30) * (settings.role == "server0"))

    monkeypatch.setattr(party, "of_server", small)


async def test_what_never_fits_is_refused_at_once_and_for_ever(parties: Parties) -> None:
    """By both, as soon as they know each other's limits."""
    parties.serve()
    await parties.answered(some_tokens([4]))
    for role in SERVERS:
        peer = await parties.node("client").dial(role)
        await announce(peer, batch=200, length=16)
        with pytest.raises(RemoteAbort, match="got 200 x 16; ask for 3 or fewer at a time") as caught:
            await peer.channel.receive(lambda header: memoryview(b""), patient=True)
        assert (caught.value.final, caught.value.largest) == (True, 3)
    await parties.answered(some_tokens([16, 16, 16]))
    await parties.stop()
    assert parties.lost() == []


async def test_a_batch_is_cut_to_what_servers_take(parties: Parties) -> None:
    parties.serve()
    tokens = some_tokens([16, 9, 16, 16, 3, 16, 16])
    async with Session(parties.node("client")) as session, asyncio.timeout(LIMIT_S):
        answers = await session.ask_all(tokens, audit=False)
    assert [len(answer.values) for answer in answers] == [3, 3, 1]
    row = 0
    for answer in answers:
        part = some_tokens([16, 9, 16, 16, 3, 16, 16])
        plain = parties.model.plain(part)[row : row + len(answer.values)]
        assert (answer.values - plain).abs().max() < 0.005
        row += len(answer.values)
    await parties.stop()


async def test_requests_run_together_only_as_far_as_memory_goes(parties: Parties) -> None:
    for role in ALL:
        parties.start(role)
    asked = [parties.ask(some_tokens([16, 16], seed), name=f"client {seed}") for seed in range(4)]
    for role in SERVERS:
        await parties.said(role, "queued: 4")
    parties.start("owner")
    for seed, task in enumerate(asked):
        async with asyncio.timeout(LIMIT_S):
            parties.model.check(some_tokens([16, 16], seed), (await task).values)
    runs = [line for line in parties.logs["server0"].lines if "tokens, running" in line]
    assert len(runs) == 4 and all("1 request(s), 2 x 16" in line for line in runs)
    await parties.stop()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_what_a_client_uploads_is_given_back_when_its_run_ends(
    parties: Parties, monkeypatch: pytest.MonkeyPatch, without_collector: None
) -> None:
    """By reference counts: a collection of a large heap is rare, and shares are large."""
    held: list[weakref.ref[object]] = []
    taken = upload.shares

    async def watched(*given: object) -> Shares:
        found = await taken(*given)
        held.extend(weakref.ref(array.base) for array in found.explicit)
        return found

    monkeypatch.setattr(upload, "shares", watched)
    parties.serve()
    await parties.answered(some_tokens([5, 3]))
    peers = [await parties.node("client:alice").dial(role) for role in SERVERS]
    for peer in peers:  # and of one that is broken off
        await announce(peer, some_tokens([16]))
        peer.channel.abort("the test")
    await parties.answered(some_tokens([16]))
    await parties.stop()
    assert held and [ref() for ref in held if ref() is not None] == []


async def test_a_party_that_has_no_memory_for_any_request_says_so(parties: Parties) -> None:
    change(parties.made, "server0", memory_mib=100)
    parties.start("server0")
    assert "memory_mib: want" in await parties.fails("server0")


async def test_turned_away_lines_are_bounded(parties: Parties) -> None:
    """A client that breaks the protocol again and again fills no disk."""
    parties.serve()
    for _ in range(40):
        peer = await parties.node("client").dial("server0")
        await announce(peer, batch=0)
        await turned_away(peer)
    assert sum("turned away" in line for line in parties.logs["server0"].lines) == 20
    await parties.answered(some_tokens([4]))
    await parties.stop()
