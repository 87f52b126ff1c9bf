"""A client that comes back for its answer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mpcnet.errors import ChannelClosed, MpcError, RemoteAbort
from mpcnet.launch.party import client
from mpcnet.launch.party.client import Connection

FAILED = "the session ended; ask again"


class Line:
    """A channel that is said to end, or not."""

    def __init__(self) -> None:
        self.ended = False
        self.told: MpcError | None = None  # by its peer, at the end

    async def gone(self) -> MpcError:
        if self.told is None:
            await asyncio.Event().wait()
        return self.told

    def abort(self, reason: str, **_: object) -> None:
        assert reason in ("client has come back over another connection", FAILED)
        self.ended = True

    async def close(self) -> None: ...


def peers() -> Any:
    return tuple(SimpleNamespace(name=name, channel=Line()) for name in ("server0", "server1"))


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("refused", [False, True])
async def test_former_connections_end(monkeypatch: pytest.MonkeyPatch, lost: int, refused: bool) -> None:
    """Those too over which it could not fetch the answer. A host that is lost would never part from them."""
    node: Any = SimpleNamespace(role="client", say=lambda *_: None, settings=SimpleNamespace(timeout_s=8.0))
    made = [peers() for _ in range(lost + 2)]
    opened, left = iter(made[1:]), lost

    async def opening(node: Any, timeout_s: float) -> Connection:
        return Connection(node, next(opened))

    async def queued(self: Connection, *, patient: bool = False) -> None:
        nonlocal left
        left -= 1
        if left == 1:
            raise ChannelClosed("server0: the connection ended without a goodbye")
        if left == 0:
            raise RemoteAbort("server0", "waited 8 s for a frame")  # which says nothing of the request
        if refused:
            raise RemoteAbort("server0", "want a request that is here, got an id of none", lost=True)

    async def sent(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(Connection, "open", opening)
    monkeypatch.setattr(Connection, "_queue", queued)
    monkeypatch.setattr(client.frames, "send", sent)
    monkeypatch.setattr(client.Backoff, "take", sent)
    connection = Connection(node, made[0])
    error: MpcError = ChannelClosed("server1: the connection ended without a goodbye")
    if refused:
        with pytest.raises(RemoteAbort):
            await connection._come_back(bytes(16), float("inf"), error)
    else:
        await connection._come_back(bytes(16), float("inf"), error)
    assert connection.peers == made[-1]
    ended = [[peer.channel.ended for peer in each] for each in made]
    assert ended == [*[[True, True]] * (lost + 1), [False, False]]


@pytest.mark.parametrize("lost", [False, True])
async def test_who_is_left_says_whether_there_is_an_answer_to_come(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """server0's host is gone. The client need not reach it to hear from server1 that the request has failed."""
    node: Any = SimpleNamespace(role="client", say=lambda *_: None, settings=SimpleNamespace(timeout_s=8.0))
    former, new = peers(), peers()
    former[0].channel.told = ChannelClosed("server0: the connection ended without a goodbye")
    former[1].channel.told = RemoteAbort("server1", FAILED, lost=lost)

    async def opening(node: Any, timeout_s: float) -> Connection:
        if lost:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return Connection(node, new)

    async def done(*_: object, **__: object) -> None: ...

    monkeypatch.setattr(Connection, "open", opening)
    monkeypatch.setattr(Connection, "_queue", done)
    monkeypatch.setattr(client.frames, "send", done)
    connection = Connection(node, former)
    error: MpcError = ChannelClosed("server0: the connection ended without a goodbye")
    if lost:
        with pytest.raises(RemoteAbort, match=FAILED):
            await connection._come_back(bytes(16), float("inf"), error)
    else:
        await connection._come_back(bytes(16), float("inf"), error)
        assert connection.peers == new


async def test_connections_that_open_as_the_request_is_said_to_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them stays open."""
    node: Any = SimpleNamespace(role="client", say=lambda *_: None, settings=SimpleNamespace(timeout_s=8.0))
    former, new = peers(), peers()
    former[1].channel.told = RemoteAbort("server1", FAILED, lost=True)

    async def opening(node: Any, timeout_s: float) -> Connection:
        return Connection(node, new)

    monkeypatch.setattr(Connection, "open", opening)
    error = ChannelClosed("server0: the connection ended without a goodbye")
    with pytest.raises(RemoteAbort, match=FAILED):
        await Connection(node, former)._come_back(bytes(16), float("inf"), error)
    assert all(peer.channel.ended for peer in new)
