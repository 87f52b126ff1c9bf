"""Frames, sans-IO: a fixed prefix, a msgpack header, a raw payload that is read straight into its final array.

::

    offset  bytes  big-endian
    0       4      magic "MPCN"
    4       2      version, 1
    6       2      zero
    8       4      header length, at most 64 KiB
    12      8      payload length, equal to the sum of the header's parts
    20      ...    header: msgpack map {kind, session, stream, sequence, label, chain, parts, fields}, in this order
    ...     ...    payload: the packed parts, one after the other

There is one encoding of each header: whatever does not re-encode to the same bytes is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from typing import TypeAlias

import msgpack

from mpcnet.errors import LocalInputError, LocalStateError, RemoteProtocolError, describe
from mpcnet.rounds import Part

MAGIC = b"MPCN"
VERSION = 1
PREFIX = struct.Struct(">4sHHIQ")

MAX_HEADER = 64 * 1024  # 4096 parts of up to 15 bytes; checked before anything is allocated
MAX_PARTS = 4096  # a BERT layer's widest round merges a few dozen
MAX_RANK = 16
MAX_DIM = 2**40  # elements; far above any memory, far below what could overflow a 64-bit length
MAX_PAYLOAD = 2**48  # bytes, likewise
MAX_KIND = 32  # characters
MAX_TEXT = 4096  # bytes of any one string or byte string in a header
MAX_FIELDS = 256

Scalar: TypeAlias = "int | str | bytes | float | bool | None"
Value: TypeAlias = "Scalar | list[Scalar]"


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame says of itself. Labels of parts are not sent; `fields` stay out of the repr."""

    kind: str
    session: bytes
    stream: int = 0
    sequence: int = 0
    label: str = ""
    chain: bytes = bytes(8)
    parts: tuple[Part, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict, repr=False)

    @property
    def payload_bytes(self) -> int:
        """Length of the payload that follows."""
        return sum(part.nbytes for part in self.parts)


def encode(header: Header) -> bytes:
    """Prefix and header; the payload goes raw after it.

    :raises LocalInputError: the header breaks a rule of the format.
    """
    if flaw := _flaw(header):
        raise LocalInputError(f"frame to send: {flaw}")
    try:
        packed = _pack(header)
    except (ValueError, OverflowError) as error:  # lone surrogates, integers over 64 bits
        raise LocalInputError(f"frame to send: {type(error).__name__} in a header value") from None
    if len(packed) > MAX_HEADER:
        raise LocalInputError(describe("frame to send", f"a header of <= {MAX_HEADER} bytes", len(packed)))
    return PREFIX.pack(MAGIC, VERSION, 0, len(packed), header.payload_bytes) + packed


class Stage(Enum):
    """Where a decoder stands within a frame."""

    PREFIX = "prefix"
    HEADER = "header"
    OFFERED = "offered"  # the header is known; waiting for `accept`
    PAYLOAD = "payload"
    COMPLETE = "complete"  # waiting for `restart`


class FrameDecoder:
    """Reads one frame after the other out of whatever arrives.

    Read at most `len(get_buffer())` bytes into `get_buffer()`, then call `advance` with their number. At
    `OFFERED` look at `header` and supply the payload's memory with `accept`; at `COMPLETE` call `restart`.
    After a RemoteProtocolError the decoder is of no further use.
    """

    __slots__ = ("_lengths", "_peer", "_target", "_view", "header", "stage")

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._target: memoryview = memoryview(b"")
        self._view: memoryview = self._target  # what is left of it
        self.restart()

    def restart(self) -> None:
        """Begin the next frame."""
        self.stage = Stage.PREFIX
        self.header: Header | None = None
        self._lengths = (0, 0)  # header, payload
        self._expect(memoryview(bytearray(PREFIX.size)))

    @property
    def frame_bytes(self) -> int:
        """Size of the frame in hand: prefix, header and payload."""
        return PREFIX.size + sum(self._lengths)

    def get_buffer(self) -> memoryview:
        """Where the next bytes go; empty when none are wanted."""
        return self._view

    def advance(self, count: int) -> Stage:
        """Say that `count` bytes were put into the buffer.

        :raises RemoteProtocolError: the bytes are not a frame.
        """
        if not 0 <= count <= len(self._view):
            raise LocalStateError(describe("frame decoder", f"0..{len(self._view)} bytes", count))
        self._view = self._view[count:]
        if len(self._view) == 0:
            if self.stage is Stage.PREFIX:
                self._end_prefix()
            elif self.stage is Stage.HEADER:
                self.header = parse_header(bytes(self._target), self._lengths[1], self._peer)
                self.stage = Stage.OFFERED
            elif self.stage is Stage.PAYLOAD:
                self.stage = Stage.COMPLETE
        return self.stage

    def accept(self, buffer: memoryview) -> Stage:
        """Supply the payload's memory: writable, contiguous, of exactly the payload's size.

        :raises LocalInputError: it is not.
        """
        if self.stage is not Stage.OFFERED:
            raise LocalStateError(f"payload memory supplied at stage {self.stage.value}")
        usable = buffer.nbytes == 0 or (buffer.c_contiguous and not buffer.readonly)
        if not usable or buffer.nbytes != self._lengths[1]:
            raise LocalInputError(describe("payload memory", f"{self._lengths[1]} writable bytes", buffer.nbytes))
        self.stage = Stage.PAYLOAD
        self._expect(buffer.cast("B") if buffer.nbytes else memoryview(b""))
        return self.advance(0)

    def _expect(self, target: memoryview) -> None:
        self._target = self._view = target

    def _end_prefix(self) -> None:
        magic, version, zero, header_bytes, payload_bytes = PREFIX.unpack(self._target)
        if magic != MAGIC or zero != 0:
            raise RemoteProtocolError(f"{self._peer}: these bytes are not a frame (wrong magic)")
        if version != VERSION:
            raise RemoteProtocolError(describe(f"{self._peer}, frame version", VERSION, version))
        if not 0 < header_bytes <= MAX_HEADER:
            raise RemoteProtocolError(describe(f"{self._peer}, header length", f"1..{MAX_HEADER}", header_bytes))
        if payload_bytes > MAX_PAYLOAD:
            raise RemoteProtocolError(describe(f"{self._peer}, payload length", f"<= {MAX_PAYLOAD}", payload_bytes))
        self._lengths = (header_bytes, payload_bytes)
        self.stage = Stage.HEADER
        self._expect(memoryview(bytearray(header_bytes)))


KEYS = ("kind", "session", "stream", "sequence", "label", "chain", "parts", "fields")


def parse_header(raw: bytes, payload_bytes: int, peer: str) -> Header:
    """Decode and check a header; `payload_bytes` is what the prefix announced.

    :raises RemoteProtocolError: anything else than the one encoding of a lawful header.
    """
    try:
        values = msgpack.unpackb(
            raw,
            raw=False,
            strict_map_key=True,
            unicode_errors="strict",
            max_str_len=MAX_TEXT,
            max_bin_len=MAX_TEXT,
            max_array_len=MAX_PARTS + 1,  # one more, so that our own check words the refusal
            max_map_len=MAX_FIELDS + 1,
            max_ext_len=0,
        )
    except Exception as error:  # whatever hostile bytes provoke in the decoder is the peer's fault
        raise RemoteProtocolError(f"{peer}: header is not msgpack ({type(error).__name__})") from None
    if type(values) is not dict or tuple(values) != KEYS:
        raise RemoteProtocolError(f"{peer}: header is not a map of {', '.join(KEYS)}")
    parts = values.pop("parts")
    if type(parts) is not list or not all(type(p) is list and len(p) == 2 and type(p[1]) is list for p in parts):
        raise RemoteProtocolError(f"{peer}: header's parts are not pairs of bits and shape")
    header = Header(parts=tuple(Part(bits, tuple(shape)) for bits, shape in parts), **values)
    if flaw := _flaw(header):
        raise RemoteProtocolError(f"{peer}: {flaw}")
    if _pack(header) != raw:
        raise RemoteProtocolError(f"{peer}: header is not in its one canonical encoding")
    if header.payload_bytes != payload_bytes:
        raise RemoteProtocolError(describe(f"{peer}, payload length", header.payload_bytes, payload_bytes))
    return header


def _pack(header: Header) -> bytes:
    values = {key: getattr(header, key) for key in KEYS}
    values["parts"] = [(part.bits, part.shape) for part in header.parts]
    values["fields"] = dict(sorted(header.fields.items()))
    packed: bytes = msgpack.packb(values, use_bin_type=True)
    return packed


def _flaw(header: Header) -> str:
    """The first rule that `header` breaks, in words that quote no value of `fields`; "" for none."""
    if type(header.kind) is not str or not 0 < len(header.kind) <= MAX_KIND:
        return f"kind is not a word of 1..{MAX_KIND} characters"
    if type(header.label) is not str or len(header.label) > MAX_TEXT // 4:  # a character takes up to 4 bytes
        return f"label is not a text of at most {MAX_TEXT // 4} characters"
    for name, value, size in (("session", header.session, 16), ("chain", header.chain, 8)):
        if type(value) is not bytes or len(value) != size:
            return f"{name} is not {size} bytes"
    for name, number, limit in (("stream", header.stream, 2**32), ("sequence", header.sequence, 2**63)):
        if type(number) is not int or not 0 <= number < limit:
            return f"{name} is not an integer of 0..{limit - 1}"
    return _flaw_of_parts(header.parts) or _flaw_of_fields(header.fields)


def _flaw_of_parts(parts: tuple[Part, ...]) -> str:
    if len(parts) > MAX_PARTS:
        return describe("parts", f"<= {MAX_PARTS}", len(parts))
    total = 0
    for index, part in enumerate(parts):
        if type(part.bits) is not int or not 1 <= part.bits <= 64:
            return f"part {index}: bits is not an integer of 1..64"
        if len(part.shape) > MAX_RANK:
            return describe(f"part {index}", f"<= {MAX_RANK} dimensions", len(part.shape))
        if not all(type(size) is int and 0 <= size <= MAX_DIM for size in part.shape):
            return f"part {index}: a dimension is not an integer of 0..2^40"
        total += part.nbytes
    return "" if total <= MAX_PAYLOAD else f"the parts are more than {MAX_PAYLOAD} bytes"


def _flaw_of_fields(fields: Mapping[str, Value]) -> str:
    if not isinstance(fields, Mapping) or len(fields) > MAX_FIELDS:
        return f"fields is not a map of at most {MAX_FIELDS} entries"
    if not all(type(key) is str and 0 < len(key) <= 256 for key in fields):
        return "a name in fields is not a text of 1..256 characters"
    for value in fields.values():
        items = value if type(value) is list else [value]
        if len(items) > MAX_PARTS or not all(map(_is_scalar, items)):
            return "a value in fields is neither a scalar within its limits nor a list of them"
    return ""


def _is_scalar(value: object) -> bool:
    if type(value) is float:
        return isfinite(value)  # NaN has many encodings
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) is str or type(value) is bytes:
        return len(value) * (4 if type(value) is str else 1) <= MAX_TEXT
    return value is None or type(value) is bool
