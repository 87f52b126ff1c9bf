"""The model owner at a server: who it is now, and the weights that it shares."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from mpcnet.arrays.ring import Bytes
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import READY, WANT, WEIGHTS
from mpcnet.launch.party.node import Node
from mpcnet.models.private.parameters import parameters
from mpcnet.protocols.share import Shared
from mpcnet.transport.handshake import Peer


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

    async def weights(self, session: bytes) -> Iterator[tuple[str, Shared]]:
        """The owner's shares for this session, as soon as there is an owner; each is made when it is asked for.

        :raises MpcError: the owner is gone in the midst, or sent something else.
        """
        while self._owner is None:  # one that came may have left before we are awake
            await self._here.wait()
        owner, wanted, party = self._owner, parameters(self.node.config), self.node.party
        await frames.send(owner, WANT, id=session)
        parts = sharing.weight_parts(wanted)
        check = frames.exactly(owner, WEIGHTS, [sharing.SEED])
        header, (seed,) = await frames.receive(owner, WEIGHTS, check, patient=True)
        if header.fields.get("id") != session:
            raise RemoteProtocolError(f"{owner.name}: its weights are for another session")
        explicit: deque[Bytes] = deque()
        for part in sharing.explicit_parts(parts, party):
            check = frames.exactly(owner, f"{WEIGHTS} {part.label}", [part])
            _, (raw,) = await frames.receive(owner, WEIGHTS, check)
            explicit.append(raw)
        await frames.send(owner, READY)
        given = (explicit.popleft() for _ in range(len(explicit)))  # so that each is dropped when it has been used
        shares = sharing.expand(parts, party, seed.tobytes(), given, WEIGHTS)
        return ((q.name, Shared(share, q.bits, q.frac, party)) for q, share in zip(wanted, shares, strict=True))
