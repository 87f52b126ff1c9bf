"""The model owner at a server: who it is now, and the weights that it shares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import OTHERS, READY, WANT, WEIGHTS
from mpcnet.launch.party.node import Node
from mpcnet.models.families.config import Config
from mpcnet.models.private.parameters import parameters
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer


@dataclass(slots=True, repr=False)
class Weights:
    """What an owner uploads to server `party`: a seed, and shares of every other parameter.

    `others` is a digest of what the other server got, as the owner says.
    """

    config: Config
    party: int
    seed: Bytes
    explicit: deque[Bytes]
    others: bytes

    @property
    def pieces(self) -> list[Bytes]:
        """All that came."""
        return [self.seed, *self.explicit]

    def shares(self) -> Iterator[tuple[str, Shared]]:
        """The server's shares, each made when it is asked for. What came is used up."""
        wanted = parameters(self.config)
        given = (self.explicit.popleft() for _ in range(len(self.explicit)))  # each is dropped when it has been used
        shares = sharing.expand(sharing.weight_parts(wanted), self.party, self.seed.tobytes(), given, WEIGHTS)
        for q, share in zip(wanted, shares, strict=True):
            yield q.name, Shared(share, q.bits, q.frac, self.party)


def weight_pieces(config: Config, party: int) -> list[Part]:
    """The arrays of an owner's upload to a server."""
    return [sharing.SEED, *sharing.explicit_parts(sharing.weight_parts(parameters(config)), party)]


@dataclass(slots=True)
class OwnerSide:
    """The owner that connected last; one is enough."""

    node: Node
    _owner: Peer | None = None
    _here: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, peer: Peer) -> None:
        """As long as it is connected, this owner is asked for weights."""
        if self._owner is not None:
            self._owner.channel.abort("another owner has connected; one is enough")
        self._owner = peer
        self._here.set()
        await peer.channel.gone()
        if self._owner is peer:
            self._owner = None
            self._here.clear()

    async def weights(self, session: bytes) -> Weights:
        """The owner's upload for this session, as soon as there is an owner.

        :raises MpcError: the owner is gone in the midst, or sent something else.
        """
        while self._owner is None:  # one that came may have left before we are awake
            await self._here.wait()
        owner = self._owner
        await frames.send(owner, WANT, id=session)
        check = frames.exactly(owner, WEIGHTS, [sharing.SEED])
        header, (seed,) = await frames.receive(owner, WEIGHTS, check, patient=True)
        if header.fields.get("id") != session:
            raise RemoteProtocolError(f"{owner.name}: its weights are for another session")
        explicit, others = deque[Bytes](), frames.digest(owner, header, OTHERS)
        for part in weight_pieces(self.node.config, self.node.party)[1:]:
            check = frames.exactly(owner, f"{WEIGHTS} {part.label}", [part])
            _, (raw,) = await frames.receive(owner, WEIGHTS, check)
            explicit.append(raw)
        await frames.send(owner, READY)
        return Weights(self.node.config, self.node.party, seed, explicit, others)
