"""The client: tokenises its text, shares it between the servers, and puts the answer together."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from launch import frames, sharing
from launch.node import Node, end
from launch.wire_names import QUEUED, READY, REQUEST, RESULT
from models.numbers import LOGIT_FRAC
from models.parameters import encode_tokens
from models.prepare import tokenizer_source
from models.program import Size
from models.reference import check_tokens
from models.text import Text, Tokens, encode
from mpcnet import ring
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.mesh import Peer
from mpcnet.ring import Bytes
from mpcnet.rounds import Part
from mpcnet.wire import Header, Value
from protocols.share import Shared

Table: TypeAlias = Mapping[str, Tensor] | None
REPORT_LIMIT = 1 << 22  # bytes of a server's public cost report


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The result in the clear, and what it cost: one public report by each server.

    The upload ends when both servers have queued the request; waiting for other requests is no part of offline.
    """

    values: Tensor
    outside: list[bool] | None  # of an audited request, by sentence: a value left its range, the answer may be wrong
    reports: tuple[dict[str, Any], dict[str, Any]]
    seconds_upload: float
    seconds_queued: float
    seconds_offline: float
    seconds_online: float


def tokenise(node: Node, model: str, texts: Sequence[Text]) -> Tokens:
    """Texts as token batches of this program's model.

    :raises LocalInputError: a text is empty or longer than the model allows.
    """
    return encode(tokenizer_source(model), texts, node.config.numbers.longest)


async def ask(node: Node, tokens: Tokens, table: Table = None, audit: bool = False) -> Answer:
    """One request over fresh connections: [B, n] tokens to [B, d] embeddings or [B, labels] logits.

    `table` is the model's public embedding, for programs in which the client looks its tokens up itself. With `audit`
    the servers look whether a value leaves its calibrated range, which they do not learn.

    :raises LocalInputError: the tokens are none of this model's.
    :raises MpcError: a server is gone, refused, or the two disagree.
    """
    check_tokens(node.config.shape, tokens.ids, tokens.types, tokens.mask)
    if tokens.ids.shape[1] > node.config.numbers.longest:
        raise LocalInputError(
            f"texts: the program was calibrated for up to {node.config.numbers.longest} tokens, got "
            f"{tokens.ids.shape[1]}; shorten them, or make a program with --length"
        )
    peers = await asyncio.gather(node.dial("server0"), node.dial("server1"))
    try:
        answer = await _converse(node, peers, tokens, table, audit)
    except BaseException as error:
        await end(peers, node.role, error)
        raise
    await asyncio.gather(*(peer.channel.close() for peer in peers))
    return answer


async def _converse(node: Node, peers: Sequence[Peer], tokens: Tokens, table: Table, audit: bool) -> Answer:
    config, (batch, length) = node.config, tokens.ids.shape
    size = Size(batch, length, audit)
    start = time.perf_counter()
    parts = sharing.token_parts(config, size)
    halves = torch.split(encode_tokens(config, tokens, table), [part.shape[1] for part in parts], 1)
    split = sharing.split(list(zip(parts, halves, strict=True)), REQUEST)
    mask = (Part(1, tuple(tokens.mask.shape)), ring.pack(ring.pack_bits(tokens.mask), 1))
    name = secrets.token_bytes(16)
    fields: dict[str, Value] = {"id": name, "audit": audit}
    await asyncio.gather(*(_request(node, peer, fields, mask, split, party) for party, peer in enumerate(peers)))
    queued = time.perf_counter()
    await asyncio.gather(*(frames.receive_bare(peer, READY, patient=True) for peer in peers))
    ready = time.perf_counter()
    (one, two) = await asyncio.gather(*(_result(peer, node, size) for peer in peers))
    done = time.perf_counter()
    first, second = one.values, two.values
    if (first.bits, first.shape) != (second.bits, second.shape):
        raise RemoteProtocolError(f"the servers' results are no shares of one value: {first.bits}, {second.bits} bits")
    values = ring.decode(first.value + second.value, first.frac, first.bits)
    outside = None
    if one.outside is not None and two.outside is not None:
        outside = ring.unpack_bits(one.outside ^ two.outside, (size.batch,)).bool().tolist()
    reports = one.report, two.report
    waited_s = min(_seconds(one.report, "seconds_queued"), ready - queued)
    return Answer(values, outside, reports, queued - start, waited_s, ready - queued - waited_s, done - ready)


async def _request(
    node: Node, peer: Peer, fields: Mapping[str, Value], mask: tuple[Part, Bytes], split: sharing.Split, party: int
) -> None:
    """The whole request at once, so that the servers never wait for us later. If one cannot serve yet, we say why."""
    seed = (sharing.SEED, np.frombuffer(split.seeds[party], np.uint8))
    await frames.send(peer, REQUEST, [mask, seed, *split.explicit[party]], **fields)
    waits = (await frames.receive_bare(peer, QUEUED)).fields.get("waits")
    if isinstance(waits, str) and waits:
        node.waiting(peer.name, f"it has our request, and waits {waits}")


def _seconds(report: Mapping[str, Any], name: str) -> float:
    value = report.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class _Result:
    """One server's share of the result and of the audit's bits, and its report."""

    values: Shared
    outside: Tensor | None
    report: dict[str, Any]


async def _result(peer: Peer, node: Node, size: Size) -> _Result:
    shape = node.config.shape
    columns = shape.labels if shape.head == "classification" else shape.hidden
    bits = [Part(1, (size.batch,))] if size.audit else []

    def check(header: Header) -> None:
        sizes = [part.shape for part in header.parts]
        wanted = [(size.batch, columns), *(part.shape for part in bits)]
        if (
            len(sizes) != len(wanted) + 1
            or sizes[:-1] != wanted
            or any(part.bits != 1 for part in header.parts[1:-1])
            or header.parts[-1].nbytes > REPORT_LIMIT
        ):
            raise RemoteProtocolError(f"{peer.name}, result: want {wanted} and a report, got {sizes}")

    header, (raw, *flags, text) = await frames.receive(peer, RESULT, check, patient=True)
    try:
        report = json.loads(text.tobytes())
    except ValueError as error:
        raise RemoteProtocolError(f"{peer.name}: its report is not JSON") from error
    part = header.parts[0]
    outside = ring.unpack(flags[0], bits[0]) if bits else None
    return _Result(Shared(ring.unpack(raw, part), part.bits, LOGIT_FRAC, 0), outside, report)
