"""A party's greeting, which leaves no connection if it is cancelled; and for whom it waits."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mpcnet.launch.party import node as node_module
from mpcnet.launch.party.monitor import Metrics
from mpcnet.launch.party.node import Node
from mpcnet.transport.handshake import Peer
from mpcnet.transport.latency import parse_link


async def never(*_: object) -> None:
    await asyncio.Event().wait()


async def test_a_greeting_that_is_cancelled_ends_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "handshake", never)
    monkeypatch.setattr(node_module.program, "agreement", lambda config: None)
    node: Any = SimpleNamespace(role="client", config=None, clock=None)
    reasons = list[str]()
    channel: Any = SimpleNamespace(abort=reasons.append)
    task = asyncio.ensure_future(Node.greet(node, channel))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reasons == ["client has left"]


async def test_everybody_who_is_waited_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the peer that was last said to be missing: it may be the first to come."""

    async def greeted(channel: Any, *_: object) -> Any:
        return Peer(channel, "server1", b"", (b"", b""))

    monkeypatch.setattr(node_module, "handshake", greeted)
    monkeypatch.setattr(node_module.program, "agreement", lambda config: None)
    said, metrics = list[str](), Metrics("server1")
    settings: Any = SimpleNamespace(role="server1", link=parse_link("none"))
    log: Any = SimpleNamespace(say=lambda text, **facts: said.append(text))
    nothing: Any = None
    node = Node(settings, nothing, nothing, nothing, log, metrics)
    for role in ("dealer", "server0", "dealer"):
        node.waiting(role, "Connection refused")
    assert metrics.waits_for == "for dealer: Connection refused; for server0: Connection refused"
    assert said == ["waiting for dealer: Connection refused", "waiting for server0: Connection refused"]
    server0: Any = SimpleNamespace(peer="server0")
    await node.greet(server0)
    assert metrics.waits_for == "for dealer: Connection refused"
    node.ready()
    assert metrics.waits_for is None
    node.waiting("dealer", "Connection refused")
    assert metrics.waits_for == "for dealer: Connection refused" and said[2:] == said[:1]
