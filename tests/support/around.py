"""A channel around a channel, for tests that look on, delay or interfere."""

from typing import Any

from mpcnet.transport.channel import Channel


class Around:
    """The inner channel in all that is not defined anew."""

    def __init__(self, inner: Channel) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
