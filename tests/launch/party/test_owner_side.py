"""An owner that comes and goes, as a server sees it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mpcnet.launch.party import frames, owner_side
from mpcnet.launch.party.owner_side import OwnerSide


class Left(Exception):
    """The server has asked this owner."""


def owner() -> Any:
    gone = asyncio.Event()
    return SimpleNamespace(channel=SimpleNamespace(gone=gone.wait), leave=gone.set)


async def test_an_owner_that_leaves_at_once_is_waited_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server wakes when it came, and it is gone already: the next one is asked."""
    asked: list[Any] = []

    async def send(peer: Any, *arguments: Any, **fields: Any) -> None:
        asked.append(peer)
        raise Left

    monkeypatch.setattr(frames, "send", send)
    monkeypatch.setattr(owner_side, "parameters", lambda config: [])
    side = OwnerSide(SimpleNamespace(config=None, party=0))  # type: ignore[arg-type]
    wanted = asyncio.ensure_future(side.weights(b"session"))
    await asyncio.sleep(0)
    first, second = owner(), owner()
    first.leave()
    await side.serve(first)  # nothing else ran meanwhile
    for _ in range(3):
        await asyncio.sleep(0)
    assert not wanted.done()
    serving = asyncio.ensure_future(side.serve(second))
    with pytest.raises(Left):
        await wanted
    assert asked == [second]
    second.leave()
    await serving
