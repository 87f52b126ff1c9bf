"""One run of one program on the channels, and the frames that its plan demands.

The plan (mpcnet.randomness.meter) says what every frame must be before it comes: kind, stream, sequence number, running
transcript, parts. A frame that is lost, repeated, reordered, or of another program is refused when its header is seen,
before any memory is allocated for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from mpcnet.arrays import ring
from mpcnet.errors import ChannelError, RemoteProtocolError, describe
from mpcnet.randomness.meter import Plan
from mpcnet.rounds import Part
from mpcnet.transport.wire import Header

ROUND, DEAL = "round", "deal"  # kinds of frames
DEALT = "dealt"  # the control frame behind a bundle's last correction,
SUMS = "sums"  # and its field with digests of what the other server got, by stream
HEAVY_BYTES = 1 << 16  # more of them are moved by a task or a thread, so that the loop goes on moving other frames


@dataclass(frozen=True, slots=True)
class Stream:
    """One run of one program: its number on the channels, and its plan."""

    number: int
    plan: Plan

    def header(self, kind: str, session: bytes, sequence: int, parts: Sequence[Part]) -> Header:
        """The frame of this kind that segment `sequence` has."""
        segment = self.plan.segments[sequence]
        return Header(kind, session, self.number, sequence, segment.label, segment.chain, tuple(parts))

    @contextmanager
    def at(self, sequence: int) -> Iterator[None]:
        """An error of the wire or the peer says in which segment it happened."""
        try:
            yield
        except (ChannelError, RemoteProtocolError) as error:
            label = self.plan.segments[sequence].label
            raise type(error)(f"stream {self.number}, segment {sequence} ({label}): {error}") from error


def turns(streams: Sequence[Stream]) -> Iterator[tuple[int, int]]:
    """The order of dealing for a bundle, as pairs of a stream's index and a segment.

    Segment 0 of each stream, segment 1 of each, and so on; a shorter stream drops out.
    """
    for sequence in range(max((len(stream.plan.segments) for stream in streams), default=0)):
        for index, stream in enumerate(streams):
            if sequence < len(stream.plan.segments):
                yield index, sequence


def in_heap(nbytes: int) -> ring.Bytes:
    """Memory for a payload, from the heap."""
    return np.empty(nbytes, np.uint8)


@dataclass(slots=True, repr=False)
class Awaited:
    """An `Expect` for exactly the frame `want`: `make` makes the payload's memory when the header has been checked."""

    want: Header
    peer: str
    make: Callable[[int], ring.Bytes] = in_heap
    payload: ring.Bytes = field(default_factory=lambda: np.empty(0, np.uint8))

    def __call__(self, got: Header) -> memoryview:
        check(got, self.want, self.peer)
        self.payload = self.make(self.want.payload_bytes)
        return self.payload.data


def check(got: Header, want: Header, peer: str) -> None:
    """:raises RemoteProtocolError: the frame is not the one that the plan wants."""
    for name in ("kind", "session", "stream", "sequence", "label"):
        mine, theirs = getattr(want, name), getattr(got, name)
        if mine != theirs:
            shown = ("ours", "another") if name == "session" else (mine, theirs)
            raise RemoteProtocolError(describe(peer, f"{name} {shown[0]}", shown[1]))
    if sizes(got.parts) != sizes(want.parts):
        raise RemoteProtocolError(describe(peer, _shown(want.parts), _shown(got.parts)))
    if got.chain != want.chain:
        raise RemoteProtocolError(describe(peer, f"transcript {want.chain.hex()}", got.chain.hex()))


def sizes(parts: Sequence[Part]) -> list[tuple[int, tuple[int, ...]]]:
    """What of the parts is on the wire."""
    return [(part.bits, part.shape) for part in parts]


def nbytes(parts: Sequence[Part]) -> int:
    """The payload of a frame with these parts."""
    return sum(part.nbytes for part in parts)


def _shown(parts: Sequence[Part]) -> str:
    first = f"{parts[0].bits} bits x {list(parts[0].shape)}" if parts else "none"
    return f"{len(parts)} parts of {nbytes(parts)} bytes (first: {first})"
