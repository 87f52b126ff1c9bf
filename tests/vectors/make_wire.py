"""Write wire.json: frames that must decode to a header, and bytes that must be refused with a reason.

Run from the repository root: python tests/vectors/make_wire.py
The bytes are built here with struct and msgpack, not with mpcnet.transport.wire, so that the two check each other.
"""

import json
import struct
from pathlib import Path
from typing import Any

import msgpack


def header_map(**changes: Any) -> dict[str, Any]:
    base = {
        "kind": "round",
        "session": bytes(range(16)),
        "stream": 1,
        "sequence": 7,
        "label": "layer 3 gelu",
        "chain": bytes(range(8)),
        "parts": [[64, [2, 3]], [1, [9]]],
        "fields": {},
    }
    return base | changes


def frame(header: Any, payload_bytes: int | None = None, **prefix: int | bytes) -> bytes:
    packed = header if isinstance(header, bytes) else msgpack.packb(header, use_bin_type=True)
    payload = 50 if payload_bytes is None else payload_bytes
    values = {"magic": b"MPCN", "version": 1, "zero": 0, "length": len(packed), "payload": payload} | prefix
    return struct.pack(">4sHHIQ", *values.values()) + packed


CONTROL = header_map(
    kind="control",
    label="hello",
    sequence=0,
    parts=[],
    fields={"a": [1, "x", None, True, 0.5, b"\x00"], "b": -(2**63), "c": 2**64 - 1},
)
POSITIVE = {
    "round of two parts": (header_map(), 50),
    "control without payload": (CONTROL, 0),
    "zero-dimensional and empty parts": (header_map(parts=[[17, []], [8, [0, 5]]]), 3),
    "largest stream and sequence": (header_map(stream=2**32 - 1, sequence=2**63 - 1), 50),
    "text beyond ASCII": (header_map(label="größe 重"), 50),
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in header_map().items() if key != name}


def reordered() -> dict[str, Any]:
    return dict(reversed(header_map().items()))


def wide_integer() -> bytes:
    """Stream 1 as a 32-bit integer: the same value, another encoding."""
    packed = msgpack.packb(header_map(), use_bin_type=True)
    mark = msgpack.packb("stream") + b"\x01"
    assert packed.count(mark) == 1
    return packed.replace(mark, msgpack.packb("stream") + b"\xce\x00\x00\x00\x01")


def duplicate_key() -> bytes:
    packed = msgpack.packb(CONTROL | {"fields": {"a": 1, "b": 2}})
    return packed.replace(b"\xa1b\x02", b"\xa1a\x02")


NEGATIVE = {
    "wrong magic": (frame(header_map(), magic=b"HTTP"), "magic"),
    "version 2": (frame(header_map(), version=2), "version"),
    "reserved bytes not zero": (frame(header_map(), zero=1), "magic"),
    "empty header": (frame(b""), "header length"),
    "header over the limit": (frame(header_map(), length=65537), "header length"),
    "payload over the limit": (frame(header_map(), 2**48 + 1), "payload length"),
    "payload shorter than the parts": (frame(header_map(), 49), "payload length"),
    "payload longer than the parts": (frame(header_map(), 51), "payload length"),
    "control frame with a payload of its own": (frame(CONTROL, 1), "payload length"),
    "not msgpack": (frame(b"\xc1\xc1"), "not msgpack"),
    "bytes after the map": (frame(msgpack.packb(header_map()) + b"\x00"), "not msgpack"),
    "not a map": (frame(["round"]), "not a map"),
    "missing key": (frame(without("chain")), "not a map"),
    "unknown key": (frame(header_map(extra=1)), "not a map"),
    "keys in another order": (frame(reordered()), "not a map"),
    "fields out of order": (frame(CONTROL | {"fields": {"b": 1, "a": 2}}, 0), "canonical"),
    "duplicate key in fields": (frame(duplicate_key(), 0), "canonical"),
    "wide integer": (frame(wide_integer()), "canonical"),
    "kind empty": (frame(header_map(kind="")), "kind"),
    "kind a number": (frame(header_map(kind=3)), "kind"),
    "label bytes": (frame(header_map(label=b"x")), "label"),
    "session of 15 bytes": (frame(header_map(session=bytes(15))), "session"),
    "chain text": (frame(header_map(chain="12345678")), "chain"),
    "stream negative": (frame(header_map(stream=-1)), "stream"),
    "stream a boolean": (frame(header_map(stream=True)), "stream"),
    "sequence a float": (frame(header_map(sequence=7.0)), "sequence"),
    "sequence too large": (frame(header_map(sequence=2**63)), "sequence"),
    "parts a map": (frame(header_map(parts={})), "parts"),
    "part of three": (frame(header_map(parts=[[64, [1], 0]])), "parts"),
    "bits 0": (frame(header_map(parts=[[0, [1]]])), "bits"),
    "bits 65": (frame(header_map(parts=[[65, [1]]])), "bits"),
    "bits a boolean": (frame(header_map(parts=[[True, [8]]]), 1), "bits"),
    "dimension negative": (frame(header_map(parts=[[64, [-1]]])), "dimension"),
    "dimension a float": (frame(header_map(parts=[[64, [1.0]]])), "dimension"),
    "dimension over 2^40": (frame(header_map(parts=[[1, [2**40 + 1]]])), "dimension"),
    "dimension a list": (frame(header_map(parts=[[64, [[1]]]])), "dimension"),
    "seventeen dimensions": (frame(header_map(parts=[[64, [1] * 17]]), 8), "dimensions"),
    "sum over the limit": (frame(header_map(parts=[[64, [2**40, 2**40]]])), "more than"),
    "too many parts": (frame(header_map(parts=[[1, []]] * 4097), 4097), "parts"),
    "fields a list": (frame(header_map(fields=[])), "fields"),
    "fields with a number as key": (frame(header_map(fields={1: 1})), "not msgpack"),
    "fields with an empty name": (frame(header_map(fields={"": 1})), "fields"),
    "fields nested twice": (frame(header_map(fields={"a": [[1]]})), "fields"),
    "fields with a map": (frame(header_map(fields={"a": {}})), "fields"),
    "fields with NaN": (frame(header_map(fields={"a": float("nan")})), "fields"),
    "fields with an extension": (frame(header_map(fields={"a": msgpack.ExtType(5, b"x")})), "not msgpack"),
    "text not UTF-8": (frame(msgpack.packb(header_map()).replace(b"gelu", b"\xff\xff\xff\xff")), "not msgpack"),
}


def main() -> None:
    positive = []
    for name, (values, payload_bytes) in POSITIVE.items():
        shown = values | {"session": values["session"].hex(), "chain": values["chain"].hex()}
        shown["fields"] = msgpack.packb(values["fields"], use_bin_type=True).hex()
        positive.append(
            {"name": name, "header": shown, "payload_bytes": payload_bytes, "frame": frame(values, payload_bytes).hex()}
        )
    negative = [{"name": name, "frame": raw.hex(), "reason": reason} for name, (raw, reason) in NEGATIVE.items()]
    text = json.dumps({"positive": positive, "negative": negative}, indent=1, ensure_ascii=True)
    Path(__file__).with_name("wire.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
