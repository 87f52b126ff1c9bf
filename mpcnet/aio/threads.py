"""Work that is too long for the event loop, in a thread that is never left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mpcnet.aio.tasks import to_its_end

T = TypeVar("T")
P = ParamSpec("P")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in a thread. Who is cancelled here, be it twice, waits for its end first: its work is over then."""
    return await to_its_end(asyncio.to_thread(call, *args, **kwargs))
