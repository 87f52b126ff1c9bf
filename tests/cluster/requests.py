"""A client's request, frame by frame, for those who do not ask as our client does."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import REQUEST, SHARES
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.program import Size
from mpcnet.models.texts.tokens import Tokens
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from tests.cluster import model

WAIT_S = 100.0  # that a request waits


async def upload(peer: Peer, name: bytes, tokens: Tokens, party: int, wait_s: float = WAIT_S) -> None:
    """A client's request to one server."""
    await frames.send(peer, REQUEST, **request_fields(tokens, name, wait_s))
    await frames.send(peer, SHARES, request_arrays(tokens, party), others=bytes(32))


def request_fields(tokens: Tokens, name: bytes, wait_s: float = WAIT_S, audit: bool = False) -> dict[str, Any]:
    """What is public of it."""
    batch, length = tokens.ids.shape
    return {"id": name, "batch": batch, "length": length, "answer": "logits", "audit": audit, "wait_s": wait_s}


def request_arrays(tokens: Tokens, party: int) -> list[tuple[Part, Bytes]]:
    """What follows it: the mask, a seed, and one of the halves."""
    config, size = model.config(), Size(*tokens.ids.shape)
    split = sharing.split_tokens(config, size, encode_tokens(config, tokens, None), sharing.TOKENS)
    mask = Part(1, tuple(tokens.mask.shape)), ring.pack(ring.pack_bits(tokens.mask), 1)
    seed = sharing.SEED, np.frombuffer(split.seeds[party], np.uint8)
    return [mask, seed, *split.explicit[party]]
