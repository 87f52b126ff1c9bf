"""Who is cancelled in a greeting leaves no connection."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mpcnet.launch.party import node as node_module
from mpcnet.launch.party.node import Node


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
