"""The frame decoder: any bytes at all, in pieces of any size."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgpack

from mpcnet.errors import RemoteProtocolError
from mpcnet.rounds import Part
from mpcnet.transport.wire import KEYS, MAX_HEADER, PREFIX, FrameDecoder, Header, Stage, encode
from tests.fuzz.mutate import INTERESTING, changed_bytes, changed_value

PAYLOAD = 4096  # bytes that a receiver of this test accepts; more is left unread, as a plan's receiver would

HEADERS = (
    Header("round", bytes(range(16)), 3, 17, "layer0/attention/scores", bytes(range(8)), (Part(48, (1, 2, 4)), Part(1, (7,)))),
    Header("deal", bytes(range(16)), 1, 0, "embedding", bytes(8), (Part(64, (3, 5)), Part(13, (2, 2)), Part(8, (32,)))),
    Header("control", bytes(16), label="hello", fields={
        "version": 5, "role": "server0", "program": bytes(32), "nonce": bytes(range(32)), "time": 1.9e9, "config.suite": "fast",
        "config.model.layers": 6, "config.model.multi_label": False,
    }),
    Header("control", bytes(range(16)), label="order", fields={
        "what": "ask", "stream": 5, "ids": [bytes(16), bytes(range(16))], "sizes": [1, 8, 2, 5], "answers": ["logits", "label"],
        "audits": [True, False], "room": 1 << 31,
    }),
    Header("control", bytes(range(16)), label="request", fields={
        "id": bytes(16), "batch": 1, "length": 4, "answer": "logits", "audit": True, "wait_s": 600.0,
    }),
    Header("control", bytes(range(16)), label="shares", parts=(Part(1, (1, 4)), Part(8, (32,)), Part(15, (1, 2)))),
    Header("control", bytes(range(16)), label="have", fields={"ask": 3, "found": [True, False], "failed": [7], "room": 1 << 31}),
    Header("control", bytes(range(16)), label="done", fields={"frames": bytes(32)}),
    Header("control", bytes(16), label="ping"),
    Header("control", bytes(16), label="abort", fields={"reason": "server1: was stopped"}),
    Header("control", bytes(range(16)), label="result", parts=(Part(37, (1, 4)), Part(1, (1, 40)), Part(8, (300,)))),
)  # fmt: skip


class Decoder:
    """Each frame is accepted as it was meant, or refused with a `RemoteProtocolError`."""

    name = "decoder"

    def __init__(self) -> None:
        self._valid = [(encode(header), header.payload_bytes, _values(header)) for header in HEADERS]

    def cases(self, draw: random.Random, count: int) -> Iterator[bytes]:
        for _ in range(count):
            head, payload_bytes, values = self._valid[int(draw.random() * len(self._valid))]
            how = draw.random()
            if how < 0.6:
                yield _with_bytes(draw, head)
            elif how < 0.85:
                yield _with_length(
                    draw,
                    msgpack.packb(
                        changed_value(draw, values), use_bin_type=draw.random() < 0.9, default=str, strict_types=False
                    ),
                    payload_bytes,
                )
            elif how < 0.9:
                yield changed_bytes(draw, head)
            elif how < 0.95:
                yield head + bytes(payload_bytes) + changed_bytes(draw, head)
            else:
                yield head + bytes(payload_bytes)

    def check(self, case: bytes) -> str:
        decoder, rest, frames = FrameDecoder("peer"), memoryview(case), 0
        piece = (
            1 + case[-1] % 8 if case and case[0] % 32 == 13 and len(case) % 16 == 0 else 1 << 20
        )  # a few in small pieces
        try:
            while True:
                view = decoder.get_buffer()
                count = min(len(view), len(rest), piece)
                if count == 0 and len(view):
                    return "cut" if frames == 0 else "frame, then cut"
                view[:count] = rest[:count]
                rest = rest[count:]
                stage = decoder.advance(count)
                if stage is Stage.OFFERED:
                    assert decoder.header is not None
                    _lawful(decoder.header, case)
                    if decoder.header.payload_bytes > PAYLOAD:
                        return "too large for its receiver"
                    stage = decoder.accept(memoryview(bytearray(decoder.header.payload_bytes)))
                if stage is Stage.COMPLETE:
                    frames += 1
                    decoder.restart()
        except RemoteProtocolError as error:
            text = str(error)
            assert text.startswith("peer") and "\n" not in text and len(text) < 1100, text
            return "refused" if frames == 0 else "frame, then refused"


def _lawful(header: Header, case: bytes) -> None:
    """What was accepted is what would have been sent."""
    assert encode(header) in case, "a header is accepted that has another encoding"
    assert repr(header)


def _with_bytes(draw: random.Random, head: bytes) -> bytes:
    """One to three bytes of a valid head are other ones."""
    found = bytearray(head)
    for _ in range(1 + int(3 * draw.random())):
        found[int(draw.random() * len(found))] = int(draw.random() * 256)
    return bytes(found)


def _with_length(draw: random.Random, packed: bytes, payload_bytes: int) -> bytes:
    length, payload = len(packed), payload_bytes
    if draw.random() < 0.1:
        length = draw.choice((0, length + 1, MAX_HEADER, MAX_HEADER + 1, 2**32 - 1))
    if draw.random() < 0.1:
        payload = draw.choice(INTERESTING) % 2**64
    return PREFIX.pack(b"MPCN", 1, 0, length, payload) + packed


def _values(header: Header) -> dict[str, Any]:
    values = {key: getattr(header, key) for key in KEYS}
    values["parts"] = [[part.bits, list(part.shape)] for part in header.parts]
    return values | {"fields": dict(sorted(header.fields.items()))}
