"""A slower wire than the one at hand: round-trip time, bandwidth and jitter, for measurements on one machine.

`Link.arrival` is pure: given one direction's past and a frame, it says when the frame's last byte arrives. Frames of
a direction are serialised one after the other at the bandwidth; their flights of rtt/2 overlap; none overtakes.

`ShapedChannel` stamps a frame with the time it is sent and delivers it no sooner than it would arrive. The frame
itself travels at once, so the sender is never held up and the time the real wire takes is not added on top. The stamp
is read against the receiver's clock: both ends must be on one machine, whose monotonic clock they share, and both
must be shaped with the same link. What TLS, TCP and IP add to a frame (about 3 %) is not modelled.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from math import inf, isfinite

from mpcnet.errors import LocalConfigError, MpcError, RemoteProtocolError, describe
from mpcnet.transport.channel import Channel, Expect
from mpcnet.transport.wire import Header

STAMP = "sent_s"
STAMP_BYTES = 16  # on the wire: the name (1 + 6), a msgpack float (9); left out of all counts
SPIN_S = 0.002  # loops round timers up to whole milliseconds: sleep short of the mark, then yield until it
CLOCK_SLACK_S = 0.001  # a frame from the future is a clock that is not shared


@dataclass(frozen=True, slots=True)
class Lane:
    """One direction's past."""

    free_s: float = -inf  # the serialiser is busy until then
    arrival_s: float = -inf  # of the last frame
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """Both directions alike."""

    rtt_s: float = 0.0
    bandwidth_bps: float = inf
    jitter_s: float = 0.0  # each frame is late by 0..jitter_s, uniformly
    seed: int = 0

    @property
    def ideal(self) -> bool:
        """True if this link delays nothing."""
        return self.rtt_s == 0 and self.bandwidth_bps == inf and self.jitter_s == 0

    def arrival(self, lane: Lane, now_s: float, nbytes: int) -> Lane:
        """The lane after a frame of `nbytes` was sent at `now_s`; its `arrival_s` is when the last byte is there."""
        free_s = max(now_s, lane.free_s) + 8 * nbytes / self.bandwidth_bps
        late_s = self.jitter_s * _uniform(self.seed, lane.frames) if self.jitter_s else 0.0
        return Lane(free_s, max(lane.arrival_s, free_s + self.rtt_s / 2 + late_s), lane.frames + 1)


def _uniform(seed: int, index: int) -> float:
    """A number of [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b(struct.pack(">QQ", seed, index), digest_size=8, person=b"mpcnet-jitter").digest()
    return int.from_bytes(digest, "big") / 2**64


PRESETS = {
    "none": Link(),
    "lan": Link(rtt_s=0.001, bandwidth_bps=1e9),  # one data centre: 1 ms, 1 Gbit/s
    "wan": Link(rtt_s=0.040, bandwidth_bps=1e8),  # one continent: 40 ms, 100 Mbit/s
}
TIME_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
RATE_UNITS = {"bps": 1.0, "kbps": 1e3, "mbps": 1e6, "gbps": 1e9}


def parse_link(text: str) -> Link:
    """`none`, `lan`, `wan`, or `rtt=40ms,bw=100mbps,jitter=2ms,seed=7`; what is left out is ideal.

    :raises LocalConfigError: it is none of these.
    """
    if text in PRESETS:
        return PRESETS[text]
    link, seen = Link(), set()
    for item in text.split(","):
        name, _, value = item.partition("=")
        if name in seen:
            raise LocalConfigError(f"link {text!r}: {name} is given twice")
        seen.add(name)
        if name == "rtt":
            link = replace(link, rtt_s=_quantity(value, TIME_UNITS, text))
        elif name == "jitter":
            link = replace(link, jitter_s=_quantity(value, TIME_UNITS, text))
        elif name == "bw" and _quantity(value, RATE_UNITS, text) > 0:
            link = replace(link, bandwidth_bps=_quantity(value, RATE_UNITS, text))
        elif name == "seed" and re.fullmatch("[0-9]{1,18}", value):
            link = replace(link, seed=int(value))
        else:
            raise LocalConfigError(
                describe(f"link {text!r}", "none, lan, wan or rtt=40ms,bw=100mbps[,jitter=2ms]", item)
            )
    return link


def _quantity(text: str, units: dict[str, float], whole: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([a-z]+)", text)
    if match is None or match[2] not in units:
        raise LocalConfigError(describe(f"link {whole!r}", f"a number and one of {', '.join(units)}", repr(text)))
    return float(match[1]) * units[match[2]]


class ShapedChannel:
    """Any channel, as if over `link`. Both ends wrap theirs, best right after the handshake."""

    def __init__(
        self,
        inner: Channel,
        link: Link,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner, self._link, self._clock, self._sleep = inner, link, clock, sleep
        self._lane = Lane()
        self._stamps_sent = self._stamps_received = 0

    @property
    def peer(self) -> str:
        """See :class:`mpcnet.transport.channel.Channel`."""
        return self._inner.peer

    @property
    def pins(self) -> tuple[str, ...]:
        """See :class:`mpcnet.transport.channel.Channel`."""
        return self._inner.pins

    @property
    def sent_bytes(self) -> int:
        """As over the inner channel without stamps."""
        return self._inner.sent_bytes - STAMP_BYTES * self._stamps_sent

    @property
    def received_bytes(self) -> int:
        """As over the inner channel without stamps."""
        return self._inner.received_bytes - STAMP_BYTES * self._stamps_received

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        """See :class:`mpcnet.transport.channel.Channel`."""
        stamped = replace(header, fields={**header.fields, STAMP: self._clock()})
        await self._inner.send(stamped, *payload, patient=patient)
        self._stamps_sent += 1

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        """See :class:`mpcnet.transport.channel.Channel`."""
        sent_s, bare = 0.0, Header("", b"")
        before = self._inner.received_bytes

        def unstamp(header: Header) -> memoryview:
            nonlocal sent_s, bare
            sent_s, bare = self._split(header)
            return expect(bare)

        await self._inner.receive(unstamp, patient=patient)
        self._stamps_received += 1
        nbytes = self._inner.received_bytes - before - STAMP_BYTES
        self._lane = self._link.arrival(self._lane, sent_s, nbytes)
        await self._until(self._lane.arrival_s)
        return bare

    async def gone(self) -> MpcError:
        """See :class:`mpcnet.transport.channel.Channel`."""
        return await self._inner.gone()

    async def close(self) -> None:
        """See :class:`mpcnet.transport.channel.Channel`."""
        await self._inner.close()

    def abort(self, reason: str, **advice: int) -> None:
        """See :class:`mpcnet.transport.channel.Channel`."""
        self._inner.abort(reason, **advice)

    def _split(self, header: Header) -> tuple[float, Header]:
        """The stamp, and the header as its sender wrote it."""
        fields = dict(header.fields)
        sent_s = fields.pop(STAMP, None)
        if not isinstance(sent_s, float) or not isfinite(sent_s):
            raise RemoteProtocolError(f"{self.peer}: its frame has no stamp: both ends need the same link")
        if sent_s > self._clock() + CLOCK_SLACK_S:
            raise RemoteProtocolError(f"{self.peer}: its clock is not ours: a shaped link needs one machine")
        return sent_s, replace(header, fields=fields)

    async def _until(self, when_s: float) -> None:
        remaining_s = when_s - self._clock()
        if remaining_s > SPIN_S:
            await self._sleep(remaining_s - SPIN_S)
        while self._clock() < when_s:
            await self._sleep(0)


def shaped(channel: Channel, link: Link) -> Channel:
    """`channel` over `link`; itself if the link is ideal."""
    return channel if link.ideal else ShapedChannel(channel, link)
