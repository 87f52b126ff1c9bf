"""server1, between server0's orders."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mpcnet.launch.party import follower


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


async def test_a_session_that_ends_while_server0_waits_for_a_request_leaves_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower.frames, "receive_bare", never)
    clients = SimpleNamespace(version=0, beyond=never, queue=SimpleNamespace(find=lambda name: None))
    server: Any = SimpleNamespace(edge=SimpleNamespace(clients=clients), other=None)
    model: Any = None
    asked = follower._Ask(1, [bytes(16)], [()], 0, asyncio.get_running_loop().time() + 1e6)
    task = asyncio.ensure_future(follower._Follower(server, model, asked=asked).order())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
