"""What a server tells the other server's replica at the end of a run, and what it hears: whether to let the answer out.

The replica computes from what its own server passes on. Each of these things has a second way to it that the server
cannot change, as a digest, and that way is this one: uploads (clients and the owner tell each server a digest of what
the other one gets), corrections (so does the dealer), the seed of refreshing words, our own frames, and the frames
that the other server has sent us.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpcnet.errors import ChannelTimeout, RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import CONFIRM, WITNESS
from mpcnet.launch.party.outputs import TAG_BYTES
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer, Seed
from mpcnet.transport.wire import Header, Scalar


@dataclass(frozen=True, slots=True)
class Seen:
    """What we saw of the other server's run, or of its loading if there are no sizes.

    `table` has the digests of all frames, `uploads` those of what it was given, `sums` those of its corrections.
    """

    number: int
    sizes: Sequence[Size]
    ids: Sequence[bytes]
    table: Sequence[bytes]
    uploads: Sequence[bytes]
    sums: Sequence[bytes]


@dataclass(slots=True)
class Witness:
    """To the other server's replica. `session` is the servers' own, `refresh` the seed in common with that server."""

    replica: Peer
    session: bytes
    refresh: Seed
    timeout_s: float
    room: int = 0  # bytes that the replica has for a run, since it confirmed the loading

    async def confirmed(self, seen: Seen, ran_s: float) -> list[bytes]:
        """Tell it, and wait until it has computed the same; returns the tags of the other server's shares.

        The replica began with its server, so it gets as long as the run took, and `timeout_s`.

        :raises RemoteProtocolError: it has not, and says why.
        :raises ChannelTimeout: it does not answer in time.
        """
        names: list[Scalar] = list(seen.ids)
        answer, audit, extent = seen.sizes[0].kind if seen.sizes else (None, False, 0)
        rows = [np.frombuffer(row, np.uint8) for row in seen.table]
        await frames.send(
            self.replica, WITNESS, [(Part(8, (row.nbytes,)), row) for row in rows], stream=seen.number, ids=names,
            sizes=[n for size in seen.sizes for n in (size.batch, size.length)], answer=answer, audit=audit,
            extent=extent, session=self.session, refresh=refresh_digest(self.refresh.reveal()),
            uploads=list(seen.uploads), sums=list(seen.sums),
        )  # fmt: skip
        wait_s = ran_s + self.timeout_s
        try:
            async with asyncio.timeout(wait_s):
                header, tags = await frames.receive(self.replica, CONFIRM, self._check(seen), patient=True)
        except TimeoutError:
            raise ChannelTimeout(
                f"waited {wait_s:.1f} s for {self.replica.name} to confirm run {seen.number}"
            ) from None
        if reason := header.fields.get("reason"):
            raise RemoteProtocolError(f"{self.replica.name}: run {seen.number}: {str(reason)[:300]}")
        self.room = frames.room(header)
        raw = tags[0].tobytes()
        return [raw[at : at + TAG_BYTES] for at in range(0, len(raw), TAG_BYTES)]

    def _check(self, seen: Seen) -> frames.Check:
        """All tags, or a reason and none."""

        def check(header: Header) -> None:
            count = 0 if header.fields.get("reason") else TAG_BYTES * len(seen.ids)
            frames.exactly(self.replica, CONFIRM, [Part(8, (count,))])(header)
            if header.fields.get("stream") != seen.number:
                raise RemoteProtocolError(f"{self.replica.name}: want word of run {seen.number}, got that of another")

        return check


def refresh_digest(seed: bytes) -> bytes:
    """Of the servers' common seed: 32 random bytes, so it hides what it is of."""
    return hashlib.sha256(b"mpcnet refresh 1" + seed).digest()
