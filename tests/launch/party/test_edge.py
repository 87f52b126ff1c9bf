"""A server's edge ends when its channels have, however they end."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

from mpcnet.errors import ChannelTimeout, RemoteProtocolError
from mpcnet.launch.party.budget import Budget
from mpcnet.launch.party.edge import Edge


class Slow:
    """A channel whose peer does not take the last frames."""

    peer = "client:alice"

    def __init__(self) -> None:
        self.lingered, self.ended = asyncio.Event(), False

    def abort(self, reason: str, **_: object) -> None: ...

    async def close(self) -> None:
        await self.lingered.wait()
        self.ended = True
        raise ChannelTimeout(f"{self.peer} did not take our last frames within 2 s")


class Refusing(SimpleNamespace):
    async def greet(self, channel: Any) -> Any:
        raise RemoteProtocolError(f"{channel.peer}: want our protocol, got another")

    def turned_away(self, role: str, error: Exception) -> None: ...


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_end_waits_for_a_channel_that_ends_badly() -> None:
    lost = list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
    node: Any = Refusing(role="server0")
    plans: Any = None
    edge, channel = Edge(node, plans, Budget(1, 0, 0, 0)), Slow()
    given: Any = channel
    edge.arrive(given)
    await settle()
    end = asyncio.ensure_future(edge.close())
    await settle()
    assert not end.done()
    channel.lingered.set()
    await end
    assert channel.ended
    await settle()
    gc.collect()
    assert not lost
