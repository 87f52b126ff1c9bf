"""What a server passes on to its replica: wanted once, of the planned length, and never waited for in vain."""

import asyncio
import threading

import numpy as np
import pytest
from parties import tiny

from mpcnet.errors import ChannelClosed, RemoteProtocolError
from mpcnet.launch.party import arriving
from mpcnet.launch.party.arriving import Arriving
from mpcnet.models.private.program import Plans, Size
from mpcnet.runtime.dealt_sum import DealtSum
from mpcnet.runtime.record import DEALT, INPUT, RECEIVED, digest
from mpcnet.runtime.stream import Stream, nbytes

CONFIG = tiny().config()
PLAN = Plans(CONFIG).infer(Size(1, 5))
FACTS = {
    "role": "server0", "number": 1, "sizes": [[1, 5, "logits", False]], "requests": [[1, 5]], "ids": [bytes(16)],
    "dealer": b"d" * 16, "other": b"o" * 16, "masks": b"m" * 32, "refresh": b"r" * 32,
}  # fmt: skip
DEALS = [number for number, segment in enumerate(PLAN.segments) if segment.dealt[0]]
ROUNDS = [number for number, segment in enumerate(PLAN.segments) if segment.exchange]


def run(changed: threading.Event | None = None) -> Arriving:
    return Arriving(FACTS, CONFIG, [Stream(1, PLAN)], (changed or threading.Event()).set)


def dealt(sequence: int) -> np.ndarray:
    return np.full(nbytes(PLAN.segments[sequence].dealt[0]), sequence, np.uint8)


async def test_an_entry_is_wanted_once_and_of_its_length() -> None:
    found, first = run(), DEALS[0]
    found.check((DEALT, 0, first), len(dealt(first)))
    found.put((DEALT, 0, first), dealt(first))
    where = f"server0, run 1, entry D 0/{first}"
    for place, size, words in (
        ((DEALT, 0, first), len(dealt(first)), f"{where}: want no bytes, got {len(dealt(first))}"),
        ((DEALT, 1, first), 5, "entry D 1/.*: want no bytes, got 5"),
        ((RECEIVED, 0, ROUNDS[0]), 0, r"entry R 0/\d+: want \d+ bytes, got 0"),
        ((RECEIVED, 0, len(PLAN.segments)), 8, "want no bytes, got 8"),
        ((INPUT, 0, 1), 31, "entry I 0/1: want 32 bytes, got 31"),
        ((INPUT, 1, 0), 1, "entry I 1/0: want no bytes, got 1"),
    ):
        with pytest.raises(RemoteProtocolError, match=words):
            found.check(place, size)


async def test_what_is_taken_is_hashed_in_the_order_of_segments() -> None:
    found, wanted = run(), DealtSum(FACTS["masks"], FACTS["dealer"], 1)
    for sequence in reversed(DEALS):
        found.put((DEALT, 0, sequence), dealt(sequence))
    for sequence in DEALS:
        assert (found.take(DEALT, 0, sequence) == dealt(sequence)).all()
        wanted.add([dealt(sequence)])
    assert found.sums[0].digest == wanted.digest
    pieces = [np.full(size, at, np.uint8) for at, size in enumerate((1, 32, 3, 2))]
    for place, piece in enumerate(pieces):
        found.put((INPUT, 0, place), piece) if place < 2 else None
    for place in range(2):
        found.take(INPUT, 0, place)
    assert found.uploads == [digest(pieces[:2])] and found.seeds == [pieces[1].tobytes()]


async def test_a_thread_that_waits_reads_on_and_learns_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "HELD_BYTES", 0)
    asked = asyncio.Event()
    found = Arriving(FACTS, CONFIG, [Stream(1, PLAN)], asked.set)
    found.put((DEALT, 0, DEALS[1]), dealt(DEALS[1]))
    assert found.full
    first = asyncio.ensure_future(asyncio.to_thread(found.take, DEALT, 0, DEALS[0]))
    await asked.wait()
    assert not found.full  # what it waits for is behind that which is held
    found.put((DEALT, 0, DEALS[0]), dealt(DEALS[0]))
    assert found.full  # though its thread may not have gone on yet
    assert (await first == dealt(DEALS[0])).all() and found.full
    asked.clear()
    second = asyncio.ensure_future(asyncio.to_thread(found.take, RECEIVED, 0, ROUNDS[0]))
    await asked.wait()
    found.fail(ChannelClosed("server0: the session has ended"))
    with pytest.raises(ChannelClosed, match="the session has ended"):
        await second
    assert (found.take(DEALT, 0, DEALS[1]) == dealt(DEALS[1])).all()  # what is here can be taken


def test_a_sum_says_seed_session_stream_and_contents() -> None:
    def digest_of(
        seed: bytes = b"m" * 32, session: bytes = b"d" * 16, stream: int = 1, payload: bytes = b"xy"
    ) -> bytes:
        found = DealtSum(seed, session, stream)
        for byte in payload:
            found.add([np.frombuffer(bytes([byte]), np.uint8)])
        return found.digest

    whole = DealtSum(b"m" * 32, b"d" * 16, 1)
    whole.add([np.frombuffer(b"x", np.uint8), np.frombuffer(b"y", np.uint8)])
    assert whole.digest == digest_of()
    others = [digest_of(seed=b"n" * 32), digest_of(session=b"e" * 16), digest_of(stream=2), digest_of(payload=b"yx")]
    assert len({digest_of(), *others}) == 5
