"""The frame codec: vectors, round trips, and hostile bytes in any chunking."""

import json
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcnet.errors import LocalInputError, LocalStateError, RemoteProtocolError
from mpcnet.rounds import Part
from mpcnet.transport.wire import MAX_HEADER, PREFIX, FrameDecoder, Header, Stage, encode

VECTORS = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((VECTORS / "wire.json").read_text())


def decode(data: bytes, chunk: int = 1 << 30, memory_limit: int = 1 << 20) -> list[tuple[Header, bytes]]:
    """All whole frames of `data`, fed in chunks; payloads over the limit end the reading, as a consumer would."""
    decoder, frames, memory, position = FrameDecoder("peer"), [], memoryview(b""), 0
    while True:
        buffer = decoder.get_buffer()
        count = min(len(buffer), chunk, len(data) - position)
        if len(buffer) and not count:
            return frames
        buffer[:count] = data[position : position + count]
        position += count
        if decoder.advance(count) is Stage.OFFERED:
            header = decoder.header
            assert header is not None
            if header.payload_bytes > memory_limit:
                return frames
            memory = memoryview(bytearray(header.payload_bytes))
            decoder.accept(memory)
        if decoder.stage is Stage.COMPLETE:
            frames.append((decoder.header, bytes(memory)))
            decoder.restart()


def header_of(vector: dict) -> Header:
    values = dict(vector["header"])
    for name in ("session", "chain"):
        values[name] = bytes.fromhex(values[name])
    values["fields"] = msgpack.unpackb(bytes.fromhex(values["fields"]))
    values["parts"] = tuple(Part(bits, tuple(shape)) for bits, shape in values["parts"])
    return Header(**values)


@pytest.mark.parametrize("vector", DOCUMENT["positive"], ids=lambda v: v["name"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 30])
def test_positive_vectors(vector: dict, chunk: int) -> None:
    raw, header = bytes.fromhex(vector["frame"]), header_of(vector)
    assert encode(header) == raw
    assert header.payload_bytes == vector["payload_bytes"]
    payload = bytes(i % 256 for i in range(header.payload_bytes))
    assert decode((raw + payload) * 2, chunk) == [(header, payload)] * 2


@pytest.mark.parametrize("vector", DOCUMENT["negative"], ids=lambda v: v["name"])
def test_negative_vectors(vector: dict) -> None:
    with pytest.raises(RemoteProtocolError, match=vector["reason"]) as caught:
        decode(bytes.fromhex(vector["frame"]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("peer")


def test_vectors_are_what_the_generator_writes(tmp_path: Path) -> None:
    copy = tmp_path / "make_wire.py"
    copy.write_text((VECTORS / "make_wire.py").read_text())
    subprocess.run([sys.executable, str(copy)], check=True)
    assert (tmp_path / "wire.json").read_text() == (VECTORS / "wire.json").read_text()


def test_labels_of_parts_are_not_sent() -> None:
    [(header, _)] = decode(encode(Header("round", bytes(16), parts=(Part(8, (0,), "secret name"),))))
    assert header.parts == (Part(8, (0,)),)


def test_fields_stay_out_of_the_repr() -> None:
    assert "hidden" not in repr(Header("control", bytes(16), fields={"x": "hidden"}))


@pytest.mark.parametrize(
    "header",
    [
        Header("", bytes(16)),
        Header("round", bytes(15)),
        Header("round", bytes(16), stream=-1),
        Header("round", bytes(16), parts=(Part(65, (1,)),)),
        Header("round", bytes(16), parts=(Part(8, (-1,)),)),
        Header("round", bytes(16), fields={"a": 2**64}),
        Header("round", bytes(16), fields={"a": "\ud800"}),
        Header("round", bytes(16), fields={"a": {}}),  # type: ignore[dict-item]
        Header("round", bytes(16), fields={str(i): "x" * 1000 for i in range(70)}),
    ],
)
def test_what_we_must_not_send(header: Header) -> None:
    with pytest.raises(LocalInputError):
        encode(header)


def test_prefix_is_checked_before_memory_is_allocated() -> None:
    decoder = FrameDecoder("peer")
    decoder.get_buffer()[:] = PREFIX.pack(b"MPCN", 1, 0, 2**32 - 1, 0)
    with pytest.raises(RemoteProtocolError, match=str(MAX_HEADER)):
        decoder.advance(PREFIX.size)


def test_payload_memory_must_fit() -> None:
    decoder, raw = FrameDecoder("peer"), encode(Header("round", bytes(16), parts=(Part(64, (2,)),)))
    with pytest.raises(LocalStateError):
        decoder.accept(memoryview(bytearray(16)))
    for piece in (raw[: PREFIX.size], raw[PREFIX.size :]):
        decoder.get_buffer()[:] = piece
        decoder.advance(len(piece))
    for wrong in (memoryview(bytearray(15)), memoryview(bytes(16)), memoryview(bytearray(32))[::2]):
        with pytest.raises(LocalInputError):
            decoder.accept(wrong)
    assert decoder.accept(memoryview(bytearray(16)).cast("Q")) is Stage.PAYLOAD


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
headers = st.builds(
    Header,
    kind=st.text(min_size=1, max_size=8),
    session=st.binary(min_size=16, max_size=16),
    stream=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**63 - 1),
    label=st.text(max_size=30),
    chain=st.binary(min_size=8, max_size=8),
    parts=st.lists(
        st.builds(Part, st.integers(1, 64), st.lists(st.integers(0, 4), max_size=3).map(tuple)), max_size=4
    ).map(tuple),
    fields=st.dictionaries(st.text(min_size=1, max_size=5), scalars | st.lists(scalars, max_size=3), max_size=4),
)


@given(headers, st.integers(1, 64))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_round_trip(header: Header, chunk: int) -> None:
    payload = bytes(header.payload_bytes)
    assert decode(encode(header) + payload, chunk) == [(header, payload)]


@given(st.binary(max_size=200), st.integers(1, 64))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_random_bytes(data: bytes, chunk: int) -> None:
    prefixed = PREFIX.pack(b"MPCN", 1, 0, max(len(data), 1), 0) + data
    for hostile in (data, prefixed):
        try:
            decode(hostile, chunk)
        except RemoteProtocolError as error:
            assert "\n" not in str(error)


@given(headers, st.data())
@settings(max_examples=250, deadline=None, derandomize=True)
def test_mutated_frames(header: Header, data: st.DataObject) -> None:
    raw = bytearray(encode(header) + bytes(header.payload_bytes))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        frames = decode(bytes(raw), data.draw(st.integers(1, 100)))
    except RemoteProtocolError:
        return
    for decoded, payload in frames:  # what got through is lawful, and has one encoding
        assert encode(decoded) + payload in bytes(raw)
