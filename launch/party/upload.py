"""A client's request as a server takes it: whole, and only if it is one that the program serves."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from mpcnet.arrays import ring
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import REQUEST
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.queue import Request
from mpcnet.models.families.bert import AnswerKind
from mpcnet.models.private.program import Size, wanted_answer
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from mpcnet.transport.wire import Header

MAX_BATCH = 256


async def receive(node: Node, peer: Peer, begun: Callable[[], None], *, patient: bool = False) -> Request:
    """A whole request; `begun` is told when its first frame has come and is one. `patient`: it may be long in coming.

    :raises RemoteProtocolError: it is none that we serve. Nothing is allocated for it before its sizes are known to be.
    """

    def checked(header: Header) -> None:
        check(node, peer, header)
        _answer(node, peer, header)
        begun()

    header, (mask, seed, *explicit) = await frames.receive(peer, REQUEST, checked, patient=patient)
    name = header.fields.get("id")
    if not isinstance(name, bytes) or len(name) != 16:
        raise RemoteProtocolError(f"{peer.name}: want a request id of 16 bytes, got another")
    keep = ring.unpack_bits(ring.unpack(mask, part := header.parts[0]), part.shape).to(torch.int64)
    if not bool(keep.any(1).all()):
        raise RemoteProtocolError(f"{peer.name}: want a token in every sentence, got a sentence without")
    answer = _answer(node, peer, header)
    audit = header.fields.get("audit")
    if type(audit) is not bool:
        raise RemoteProtocolError(f"{peer.name}: want a request to say if it is audited, got one that does not")
    size = Size(part.shape[0], part.shape[1], answer, audit)
    return Request(name, peer, size, keep, seed.tobytes(), explicit, time.monotonic())


def _answer(node: Node, peer: Peer, header: Header) -> AnswerKind:
    """:raises RemoteProtocolError: the program has no such answer, or its owner does not allow it."""
    try:
        return wanted_answer(node.config, header.fields.get("answer"))
    except LocalInputError as error:
        raise RemoteProtocolError(f"{peer.name}, {error}") from error


def check(node: Node, peer: Peer, header: Header) -> None:
    """:raises RemoteProtocolError: the frame is not a mask of a size that we serve, and shares for it."""
    positions = node.config.formats.longest
    first = header.parts[0] if header.parts else Part(0, ())
    if first.bits != 1 or len(first.shape) != 2:
        raise RemoteProtocolError(f"{peer.name}: want a mask of [batch, length] first, got {len(header.parts)} parts")
    batch, length = first.shape
    if not 1 <= batch <= MAX_BATCH or not 1 <= length <= positions:
        raise RemoteProtocolError(
            f"{peer.name}: want up to {MAX_BATCH} sentences of {positions} tokens, got {batch} of {length}"
        )
    tokens = sharing.token_parts(node.config, Size(batch, length))
    mine = sharing.explicit_parts(tokens, node.party)
    frames.exactly(peer, REQUEST, [first, sharing.SEED, *mine])(header)
