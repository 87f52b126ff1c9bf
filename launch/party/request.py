"""A client's request at a server: what is public of it, its shares, and what became of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mpcnet.arrays.ring import Bytes
from mpcnet.models.private.program import Size
from mpcnet.rounds import Part
from mpcnet.runtime.record import digest

PICKUP_S = 60.0  # an answer that its client has not taken is kept so long: a link that was cut is up again by then


@dataclass(frozen=True, slots=True, repr=False)
class Shares:
    """What a server's shares of the tokens are expanded from, and the public padding mask [B, n].

    `others` is a digest of what the other server got, as the client says: of a seed among it, so it tells nothing.
    """

    keep: Tensor
    mask: Bytes  # the same, as it came
    seed: bytes
    explicit: Sequence[Bytes]
    others: bytes

    @property
    def pieces(self) -> list[Bytes]:
        """All that came."""
        return [self.mask, np.frombuffer(self.seed, np.uint8), *self.explicit]

    @property
    def digest(self) -> bytes:
        """Of what this server got, as the client tells the other one."""
        return digest(self.pieces)


@dataclass(slots=True, repr=False, eq=False)
class Request:
    """A request of one client; `name` is its id, `end_s` when its client stops waiting, on the loop's clock.

    It outlives its client's connection: who comes back in time fetches the answer.
    """

    name: bytes
    client: str
    size: Size
    nbytes: int  # of its shares
    came_s: float
    end_s: float
    shares: Shares | None = None  # until they come, and after they were used
    result: Sequence[tuple[Part, Bytes]] = ()
    tag: bytes = b""  # of the other server's share of the answer, if its replica made one
    failure: str = ""  # why there is no result, a public line
    pinned: bool = False  # server1 has said that it has it: it is not forgotten before it runs
    left: bool = False  # its client wants no answer any more
    running: bool = False  # it has left the line; its material may still be on its way
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waits(self) -> bool:
        """It is whole, and stands in the line."""
        return self.shares is not None and not self.running and not self.ended.is_set()

    @property
    def held_bytes(self) -> int:
        """What it takes here now, at most."""
        return sum(raw.nbytes for _, raw in self.result) if self.ended.is_set() else self.nbytes

    @property
    def held(self) -> Shares:
        """Its shares, which are here."""
        assert self.shares is not None
        return self.shares

    def end(self, result: Sequence[tuple[Part, Bytes]] = (), failure: str = "") -> None:
        """There is an answer, or there will be none; what came of it first counts."""
        if not self.ended.is_set():
            self.result, self.failure, self.shares = result, failure, None
            self.ended.set()


def uploads_digest(shares: Shares, party: int) -> bytes:
    """Of what a client gave both servers, as server `party` sees it: the padding mask, and the digests of the uploads.
    Both servers must see the same.
    """
    both = (shares.digest, shares.others) if party == 0 else (shares.others, shares.digest)
    mask = shares.keep.to(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(b"".join((*both, mask)), digest_size=16, person=b"mpcnet upload 1").digest()
