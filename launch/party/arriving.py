"""What a server passes on of one run, as its replica holds it until a thread computes with it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalStateError, MpcError, RemoteProtocolError, describe
from mpcnet.launch.party import upload
from mpcnet.launch.party.again import party_of, requests_of
from mpcnet.launch.party.budget import HELD_BYTES
from mpcnet.launch.party.owner_side import weight_pieces
from mpcnet.models.families.config import Config
from mpcnet.rounds import Part
from mpcnet.runtime.dealt_sum import DealtSum
from mpcnet.runtime.record import DEALT, INPUT, RECEIVED, digest
from mpcnet.runtime.stream import Stream, nbytes

Place = tuple[bytes, int, int]  # kind, index, sequence


class Arriving:
    """Entries of one run. What is taken is also hashed, for the comparison with what the other server says.

    Each is wanted once, with the length that the plans give it. `changed` is called, in the loop, when more is wanted.
    """

    def __init__(
        self, facts: Mapping[str, Any], config: Config, streams: Sequence[Stream], changed: Callable[[], None]
    ) -> None:
        self.facts, self.streams = facts, streams
        self.received: dict[tuple[int, int], bytes] = {}  # digests of the other server's frames
        self.sent: dict[tuple[int, int], bytes] = {}  # and of those that we compute
        self.seeds: list[bytes] = []  # that the clients gave our server
        party = party_of(facts)
        self.sums = [DealtSum(facts["masks"], facts["dealer"], stream.number) for stream in streams]
        self._uploads = [hashlib.sha256() for _ in (facts["requests"] or [None])]
        self._wanted = _wanted(facts, config, streams, party)
        self._there: dict[Place, Bytes] = {}
        self._nbytes = 0
        self._awaited: set[Place] = set()  # by threads
        self._failure: MpcError | None = None
        self._changed = threading.Condition()
        self._loop, self._tell = asyncio.get_running_loop(), changed

    # --- for the loop -------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """No more is to be read now: much is held, and no thread waits for what is behind it."""
        with self._changed:
            return self._nbytes > HELD_BYTES and self._awaited <= self._there.keys()

    def check(self, place: Place, nbytes: int) -> None:
        """:raises RemoteProtocolError: such an entry is not wanted, or not any more."""
        if self._wanted.get(place) != nbytes:
            kind, index, sequence = place
            where = f"{self.facts['role']}, run {self.facts['number']}, entry {kind.decode()} {index}/{sequence}"
            raise RemoteProtocolError(describe(where, f"{self._wanted.get(place, 'no')} bytes", nbytes))

    def put(self, place: Place, payload: Bytes) -> None:
        """An entry that was checked is here."""
        del self._wanted[place]
        with self._changed:
            self._there[place] = payload
            self._nbytes += payload.nbytes
            self._changed.notify_all()

    def fail(self, error: MpcError) -> None:
        """No more comes: threads that wait, or will, raise this."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    # --- for threads --------------------------------------------------------------------------------------------

    def take(self, kind: bytes, index: int, sequence: int) -> Bytes:
        """See :class:`mpcnet.launch.party.again.Given`. Waits."""
        payload = self._take((kind, index, sequence))
        if kind == RECEIVED:
            self.received[index, sequence] = digest([payload])
        elif kind == DEALT:
            self.sums[index].add([payload])
        else:
            self._uploads[index].update(payload.data)
            if self.facts["requests"] and sequence == 1:
                self.seeds.append(payload.tobytes())
        return payload

    def compare(self, index: int, stream: Stream, sequence: int, found: bytes) -> None:
        """A frame that we computed: see :class:`mpcnet.launch.party.again.Again`. It is compared at the end."""
        self.sent[index, sequence] = found

    @property
    def uploads(self) -> list[bytes]:
        """Digests of what clients, or the owner, gave our server."""
        return [state.digest() for state in self._uploads]

    def _take(self, place: Place) -> Bytes:
        def settled() -> bool:
            return place in self._there or self._failure is not None

        with self._changed:
            if not settled():
                self._awaited.add(place)
                self._loop.call_soon_threadsafe(self._tell)
                self._changed.wait_for(settled)
                self._awaited.discard(place)
            if place not in self._there:
                raise self._failure or LocalStateError(f"entry {place}: taken twice")
            payload = self._there.pop(place)
            self._nbytes -= payload.nbytes
        self._loop.call_soon_threadsafe(self._tell)
        return payload


def _wanted(facts: Mapping[str, Any], config: Config, streams: Sequence[Stream], party: int) -> dict[Place, int]:
    """All entries of a run, and their lengths."""
    uploads: list[list[Part]] = [weight_pieces(config, party)]
    if facts["requests"]:
        uploads = [upload.parts(config, size, party) for size in requests_of(facts)]
    places: dict[Place, int] = defaultdict(int)
    for index, parts in enumerate(uploads):
        places |= {(INPUT, index, place): part.nbytes for place, part in enumerate(parts)}
    for index, stream in enumerate(streams):
        for sequence, segment in enumerate(stream.plan.segments):
            if parts := list(segment.dealt[party]):
                places[DEALT, index, sequence] = nbytes(parts)
            if segment.exchange:
                places[RECEIVED, index, sequence] = nbytes(segment.exchange)
    return dict(places)
