"""Time that passes for one channel, without anybody waiting for it: so that no test depends on a busy machine."""

from collections.abc import Sequence

from sockets import until

from mpcnet.transport.tls_channel import SILENT_S, TlsChannel
from mpcnet.transport.wire import Stage


def passes(channel: TlsChannel, seconds: float) -> None:
    """So long ago is the last frame that this end has had of its peer; its receiver looks at once whether that is too
    long. The last sign of life, at which it looks with its next beat, is nearly as long ago as may be.
    """
    channel._heard_s -= min(seconds, 0.6 * SILENT_S)
    channel._progress_s -= seconds
    channel._look_at_progress()


async def heard(*channels: TlsChannel) -> None:
    """Returns when each has had something of its peer, be it a sign of life, that comes from now on."""
    before = [channel._heard_s for channel in channels]
    await until(
        lambda: all(
            channel._heard_s != at or channel._failure is not None for channel, at in zip(channels, before, strict=True)
        )
    )


async def a_long_time(channels: Sequence[TlsChannel], timeout_s: float) -> None:
    """More than twice their timeout, with signs of life in between; none of them may have ended."""
    for _ in range(4):
        await heard(*channels)
        for channel in channels:
            passes(channel, 0.6 * timeout_s)
    assert [channel for channel in channels if channel._failure is not None] == []


async def too_long(channel: TlsChannel) -> None:
    """This end waits for a frame, or for the rest of one, for as long as it ever does; signs of life come meanwhile."""
    await until(lambda: waits(channel) or channel._failure is not None)
    channel._progress_s -= channel.timeout_s
    channel._look_at_progress()
    assert channel._failure is not None


def waits(channel: TlsChannel) -> bool:
    """Somebody receives, and does not wait for as long as the peer lives."""
    inside = channel._decoder.stage is Stage.PAYLOAD
    return channel._delivery is not None and not channel._delivery.done() and (inside or not channel._patient)
