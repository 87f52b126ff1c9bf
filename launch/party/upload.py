"""A client's request as a server takes it: admitted by its public size, then whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import torch

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import OTHERS, SHARES
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.request import Request, Shares
from mpcnet.models.families.config import Config
from mpcnet.models.private.program import Size, least_length, wanted_answer, wanted_extent
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

MAX_BATCH = 256
LONGEST_WAIT_S = 86400.0


def announced(node: Node, peer: Peer, header: Header) -> Request:
    """What a client wants, before any of its shares.

    :raises RemoteProtocolError: it is none that we serve.
    """
    config, fields = node.config, header.fields
    positions = config.formats.longest
    batch = frames.whole_number(header, "batch", 1, MAX_BATCH)
    length = frames.whole_number(header, "length", least_length(config, 1), positions)
    try:
        answer = wanted_answer(config, fields.get("answer"))
        extent = wanted_extent(config, fields.get("extent"))
    except LocalInputError as error:
        raise RemoteProtocolError(f"{peer.name}, {error}") from error
    audit, wait_s = fields.get("audit"), fields.get("wait_s")
    if type(audit) is not bool:
        raise RemoteProtocolError(f"{peer.name}: want a request to say if it is audited, got one that does not")
    if type(wait_s) is not float or not 0 < wait_s <= LONGEST_WAIT_S:
        raise RemoteProtocolError(f"{peer.name}: want a request to say how long it waits, got one that does not")
    size = Size(batch, length, answer, audit, extent)
    now_s = asyncio.get_running_loop().time()
    nbytes = sum(part.nbytes for part in parts(config, size, node.party))
    return Request(request_id(peer, header), peer.name, size, nbytes, now_s, now_s + wait_s)


def request_id(peer: Peer, header: Header) -> bytes:
    """:raises RemoteProtocolError: there is none."""
    name = header.fields.get("id")
    if not isinstance(name, bytes) or len(name) != 16:
        raise RemoteProtocolError(f"{peer.name}: want a request id of 16 bytes, got another")
    return name


def parts(config: Config, size: Size, party: int) -> list[Part]:
    """The arrays of a client's shares for a server: the public padding mask, a seed, its explicit halves."""
    mine = sharing.explicit_parts(sharing.token_parts(config, size), party)
    return [Part(1, (size.batch, size.length)), sharing.SEED, *mine]


async def shares(node: Node, peer: Peer, size: Size) -> Shares:
    """Take them, for a request that was admitted.

    :raises RemoteProtocolError: they are none of this size.
    """
    wanted = parts(node.config, size, node.party)
    header, pieces = await frames.receive(peer, SHARES, frames.exactly(peer, SHARES, wanted))
    others = frames.digest(peer, header, OTHERS)
    return made(node.config, pieces, size, others, peer.name)


def made(config: Config, pieces: Sequence[Bytes], size: Size, others: bytes, where: str) -> Shares:
    """What came, in the order of :func:`parts`.

    :raises RemoteProtocolError: a sentence has no token, or an image not all of its rows.
    """
    mask, seed, *explicit = pieces
    part = Part(1, (size.batch, size.length))
    keep = ring.unpack_bits(ring.unpack(mask, part), part.shape).to(torch.int64)
    if not bool(keep.any(1).all()):
        raise RemoteProtocolError(f"{where}: want a token in every sentence, got a sentence without")
    if config.shape.image is not None and not bool(keep.all()):
        raise RemoteProtocolError(f"{where}: want images without padding, got some with")
    return Shares(keep, mask, seed.tobytes(), explicit, others)
