"""The first frame of a peer: a hello that is not as it should be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import msgpack

from mpcnet.errors import ChannelClosed, RemoteError
from mpcnet.transport.channel import Expect, abort_header
from mpcnet.transport.handshake import FORMAT_VERSION, handshake
from mpcnet.transport.wire import KEYS, PREFIX, FrameDecoder, Header, Stage, encode
from tests.cluster import model
from tests.fuzz.mutate import changed_bytes, changed_value

NOW_S = 1.9e9


class Greeting:
    """The two agree, or the peer is refused with a `RemoteError`. They agree only if nothing but the nonce and the time
    is other than expected.
    """

    name = "greeting"

    def __init__(self) -> None:
        self._agreement = model.agreed()
        settings = {f"config.{name}": value for name, value in self._agreement.settings.items()}
        self._fields: dict[str, Any] = {
            "version": FORMAT_VERSION, "role": "server1", "program": self._agreement.digest, "nonce": bytes(range(32)),
            "time": NOW_S, **settings,
        }  # fmt: skip
        self._loop = asyncio.new_event_loop()

    def cases(self, draw: random.Random, count: int) -> Iterator[bytes]:
        for _ in range(count):
            how = draw.random()
            values = {
                "kind": "control",
                "session": bytes(16),
                "stream": 0,
                "sequence": 0,
                "label": "hello",
                "chain": bytes(8),
            }
            values |= {"parts": [], "fields": dict(sorted(self._fields.items()))}
            if how < 0.85:
                changed = changed_value(draw, self._fields)
                names = sorted(changed) if isinstance(changed, dict) else changed
                values["fields"] = {name: changed[name] for name in names} if isinstance(changed, dict) else changed
            elif how < 0.95:
                values = changed_value(draw, values)
            elif how < 0.96:
                yield encode(abort_header("another reason"))
                continue
            packed = msgpack.packb(values, use_bin_type=True, default=str)
            packed = PREFIX.pack(b"MPCN", 1, 0, len(packed), 0) + packed
            yield packed if draw.random() < 0.9 else changed_bytes(draw, packed)

    def check(self, case: bytes) -> str:
        channel = _Channel(case)
        try:
            peer = self._loop.run_until_complete(handshake(channel, "server0", self._agreement, lambda: NOW_S))
        except (RemoteError, ChannelClosed) as error:
            assert str(error) and "\n" not in str(error)
            return type(error).__name__
        assert peer.name == "server1" and len(peer.session) == 16 and peer.session != bytes(16)
        [hello] = channel.received
        mine, theirs = dict(self._fields), dict(hello.fields)
        for name in ("nonce", "time"):
            del mine[name], theirs[name]
        assert mine == theirs, (mine, theirs)
        return "agreed"


class _Channel:
    """The peer has sent these bytes, and takes whatever it gets."""

    peer = "server1"

    def __init__(self, sent: bytes) -> None:
        self._sent = memoryview(sent)
        self.received: list[Header] = []

    async def send(self, header: Header, *payload: memoryview, patient: bool = False) -> None:
        encode(header)

    async def receive(self, expect: Expect, *, patient: bool = False) -> Header:
        decoder = FrameDecoder(self.peer)
        while decoder.stage is not Stage.OFFERED:
            view = decoder.get_buffer()
            count = min(len(view), len(self._sent))
            if not count:
                raise ChannelClosed("server1: the connection ended")
            view[:count] = self._sent[:count]
            self._sent = self._sent[count:]
            decoder.advance(count)
        assert decoder.header is not None and set(KEYS)
        decoder.accept(expect(decoder.header))
        self.received.append(decoder.header)
        return decoder.header
