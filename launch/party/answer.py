"""A client's answer: what both servers send of it, checked, and put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import RemoteProtocolError
from mpcnet.launch.party import frames
from mpcnet.launch.party.control_frames import RESULT, TAG
from mpcnet.launch.party.node import Node
from mpcnet.launch.party.outputs import check_tag
from mpcnet.launch.reporting.report import read as read_report
from mpcnet.models.families.config import Config
from mpcnet.models.formats.fixed_point import LOGIT_FRAC
from mpcnet.models.private.program import Size, answer_shape
from mpcnet.models.texts.tokens import Tokens, first_said
from mpcnet.protocols.audit import HASH_BITS
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Part
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import SERVERS
from mpcnet.transport.wire import Header

REPORT_LIMIT = 1 << 22  # bytes of a server's public cost report


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The result in the clear (of a label its one-hot row), and what it cost: one public report by each server.

    out_of_range of an audited request says, by sentence, whether a value left its range: the answer may be wrong.
    An embedding has length 1 if the model's folder asks for that.

    The upload ends when both servers have queued the request; waiting for other requests is no part of offline.
    """

    values: Tensor
    out_of_range: list[bool] | None
    reports: tuple[dict[str, Any], dict[str, Any]]
    seconds_upload: float
    seconds_queued: float
    seconds_offline: float
    seconds_online: float


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """One server's share of the result and of the audit's bits, and its report.

    `tag` is that of the other server's share, b"" if no replica looks at that server.
    """

    values: Shared
    out_of_range: Tensor | None
    report: dict[str, Any]
    arrays: Sequence[Bytes]
    tag: bytes


async def receive_result(peer: Peer, node: Node, size: Size) -> Result:
    """What a server sends of an answer, checked before it is believed.

    :raises RemoteProtocolError: it is no share of such an answer.
    :raises MpcError: the server is gone, or refused.
    """
    of_answer = answer_shape(node.config.shape, size)
    audited = [Part(1, (size.batch, HASH_BITS))] if size.audit else []

    def check(header: Header) -> None:
        sizes, wanted = (
            [part.shape for part in header.parts],
            [of_answer, *(x.shape for x in audited)],
        )
        if sizes[:-1] != wanted or header.parts[-1].nbytes > REPORT_LIMIT:
            raise RemoteProtocolError(f"{peer.name}, result: want {wanted} and a report, got {sizes}")
        if any(part.bits != 1 for part in header.parts[1:-1]):
            raise RemoteProtocolError(f"{peer.name}, result: want an audit of single bits, got wider ones")
        if (header.parts[0].bits == 1) != (size.answer == "label"):
            raise RemoteProtocolError(
                f"{peer.name}, result: want {size.answer}, got {header.parts[0].bits} bits a value"
            )

    header, (raw, *flags, text) = await frames.receive(peer, RESULT, check, patient=True)
    try:
        report = read_report(text.tobytes())
    except ValueError as error:
        raise RemoteProtocolError(f"{peer.name}: want a report of the cost, got {error}") from error
    part, arrays, tag = header.parts[0], [raw, *flags], b""
    if TAG in header.fields:
        tag = frames.digest(peer, header, TAG)
    value = ring.unpack(raw, part)
    out_of_range = ring.unpack(flags[0], audited[0]) if audited else None
    if part.bits == 1:
        value = ring.unpack_bits(value, part.shape)
    share = Shared(value, part.bits, 0 if part.bits == 1 else LOGIT_FRAC, 0)
    return Result(share, out_of_range, report, arrays, tag)


def joined(
    config: Config, tokens: Tokens, size: Size, seeds: Sequence[bytes], results: tuple[Result, Result], *, accept: bool
) -> tuple[Tensor, list[bool] | None]:
    """The values, and of an audited request which sentences are out of range: NaN, unless `accept`.

    seeds: what the client gave each server, by which a replica's tag is checked.

    :raises RemoteProtocolError: the two are no shares of one answer, or a replica computed another one.
    """
    one, two = results
    for server, seed, mine, other in zip(SERVERS, seeds, results, reversed(results), strict=True):
        check_tag(server, seed, mine.arrays, other.tag)
    first, second = one.values, two.values
    if (first.bits, first.shape) != (second.bits, second.shape):
        raise RemoteProtocolError(f"the servers' results are no shares of one value: {first.bits}, {second.bits} bits")
    values = ring.decode(first.value + second.value, first.frac, first.bits)
    if size.answer == "label":
        values = values.abs()  # 1 reads as -1 in a ring of one bit
        each = tokens.mask if config.shape.tells_tokens else 1
        if not bool((values.sum(-1) == each).all()):
            raise RemoteProtocolError("the servers' results are no shares of one label for each sentence or token")
    elif tokens.places is not None:
        values = values * first_said(tokens.places)[..., None]
    elif config.preprocessing is not None and config.shape.head == "embedding":
        values = config.preprocessing.finished(values)
    if one.out_of_range is None or two.out_of_range is None:
        return values, None
    found = ring.unpack_bits(one.out_of_range ^ two.out_of_range, (size.batch, HASH_BITS))
    out_of_range = found.bool().any(1).tolist()
    if not accept:
        values[torch.tensor(out_of_range)] = torch.nan
    return values, out_of_range
