"""A client's requests by hand, frame by frame, for tests of what servers make of them."""

import secrets
from typing import Any

import numpy as np
import pytest
import torch
from parties import SERVERS, Parties, some_tokens

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import ChannelTimeout, RemoteAbort
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.client import Connection, size_of
from mpcnet.launch.party.control_frames import OTHERS, QUEUED, REQUEST, SHARES
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.program import Size
from mpcnet.models.texts.tokens import Tokens
from mpcnet.rounds import Part
from mpcnet.runtime.record import digest
from mpcnet.transport.handshake import Peer

TOKENS = some_tokens([5])
Arrays = list[tuple[Part, Bytes]]


def mask_of(values: torch.Tensor) -> tuple[Part, Bytes]:
    return Part(1, tuple(values.shape)), ring.pack(ring.pack_bits(values), 1)


def request(parties: Parties, party: int, tokens: Tokens = TOKENS) -> Arrays:
    """What a client uploads to a server."""
    return uploads(parties, tokens)[party]


def uploads(parties: Parties, tokens: Tokens = TOKENS) -> tuple[Arrays, Arrays]:
    """What a client uploads to both."""
    config = parties.node("client").config
    split = sharing.split_tokens(config, Size(*tokens.mask.shape), encode_tokens(config, tokens), sharing.TOKENS)
    seeds = [(sharing.SEED, np.frombuffer(seed, np.uint8)) for seed in split.seeds]
    one, two = ([mask_of(tokens.mask), seed, *more] for seed, more in zip(seeds, split.explicit, strict=True))
    return one, two


def others(upload: Arrays) -> dict[str, bytes]:
    """What the other server is told of an upload."""
    return {OTHERS: digest([raw for _, raw in upload])}


async def announce(peer: Peer, tokens: Tokens = TOKENS, **changes: Any) -> None:
    """The first frame of a request, with other fields if they are given."""
    batch, length = tokens.mask.shape
    usual = {
        "id": secrets.token_bytes(16),
        "batch": batch,
        "length": length,
        "answer": "logits",
        "audit": False,
        "extent": 0,
    }
    await frames.send(peer, REQUEST, **{**usual, "wait_s": 600.0, **changes})


async def upload(
    parties: Parties, name: bytes, *roles: str, tokens: Tokens = TOKENS, client: str = "client", **changes: Any
) -> list[Peer]:
    """A client that has a request queued at these servers."""
    peers, both = [], uploads(parties, tokens)
    for role in roles:
        party = SERVERS.index(role)
        peer = await parties.node(client).dial(role)
        await announce(peer, tokens, id=name, **changes)
        await frames.send(peer, SHARES, both[party], **others(both[1 - party]))
        await frames.receive_bare(peer, QUEUED)
        peers.append(peer)
    return peers


async def asks_in_vain(parties: Parties, tokens: Tokens = TOKENS) -> None:
    """A client waits for an answer, and gives up when both servers have its request. On a busy machine they may not
    have it in so short a time: then it waits for longer."""
    node = parties.node("client")
    for wait_s in (0.3, 3.0, 30.0):
        connection = await Connection.open(node)
        with pytest.raises(
            ChannelTimeout, match=f"waited {wait_s:g} s for the servers' answer, the request is "
        ) as vain:
            await connection.ask(tokens, size_of(node, tokens, "logits", False), wait_s=wait_s)
        if "is in their queues; give it more time" in str(vain.value):
            return
    raise AssertionError(vain.value)


async def turned_away(peer: Peer) -> str:
    """Why a server parts from this client."""
    with pytest.raises(RemoteAbort) as caught:
        await frames.receive_bare(peer, "nothing that is ever sent", patient=True)
    return caught.value.reason
