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
from models.bert import AnswerKind
from models.numbers import LOGIT_FRAC
from models.parameters import encode_tokens
from models.prepare import tokenizer_source
from models.program import Size, wanted_answer
from models.reference import check_tokens
from models.text import Text, Tokens, encode
from mpcnet import ring
from mpcnet.errors import LocalInputError, RemoteProtocolError
from mpcnet.mesh import Peer
from mpcnet.ring import Bytes
from mpcnet.rounds import Part
from mpcnet.wire import Header
from protocols.share import Shared

Table: TypeAlias = Mapping[str, Tensor] | None
REPORT_LIMIT = 1 << 22  # bytes of a server's public cost report


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The result in the clear (of a label its one-hot row), and what it cost: one public report by each server.

    The upload ends when both servers have queued the request; waiting for other requests is no part of offline.
    """

    values: Tensor
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


async def ask(node: Node, tokens: Tokens, table: Table = None, answer: AnswerKind = "logits") -> Answer:
    """One request over fresh connections: [B, n] tokens to [B, d] embeddings or [B, labels] logits or one-hot labels.

    `table` is the model's public embedding, for programs in which the client looks its tokens up itself.

    :raises LocalInputError: the tokens are none of this model's, or it has no such answer.
    :raises MpcError: a server is gone, refused, or the two disagree.
    """
    check_tokens(node.config.shape, tokens.ids, tokens.types, tokens.mask)
    batch, length = tokens.ids.shape
    size = Size(batch, length, wanted_answer(node.config, answer))
    if length > node.config.numbers.longest:
        raise LocalInputError(
            f"texts: the program was calibrated for up to {node.config.numbers.longest} tokens, got "
            f"{length}; shorten them, or make a program with --length"
        )
    peers = await asyncio.gather(node.dial("server0"), node.dial("server1"))
    try:
        found = await _converse(node, peers, tokens, size, table)
    except BaseException as error:
        await end(peers, node.role, error)
        raise
    await asyncio.gather(*(peer.channel.close() for peer in peers))
    return found


async def _converse(node: Node, peers: Sequence[Peer], tokens: Tokens, size: Size, table: Table) -> Answer:
    config = node.config
    start = time.perf_counter()
    parts = sharing.token_parts(config, size)
    halves = torch.split(encode_tokens(config, tokens, table), [part.shape[1] for part in parts], 1)
    split = sharing.split(list(zip(parts, halves, strict=True)), REQUEST)
    mask = (Part(1, tuple(tokens.mask.shape)), ring.pack(ring.pack_bits(tokens.mask), 1))
    name = secrets.token_bytes(16)
    await asyncio.gather(
        *(_request(node, peer, name, size.answer, mask, split, party) for party, peer in enumerate(peers))
    )
    queued = time.perf_counter()
    await asyncio.gather(*(frames.receive_bare(peer, READY, patient=True) for peer in peers))
    ready = time.perf_counter()
    (first, one), (second, two) = await asyncio.gather(*(_result(peer, node, size) for peer in peers))
    done = time.perf_counter()
    if (first.bits, first.shape) != (second.bits, second.shape):
        raise RemoteProtocolError(f"the servers' results are no shares of one value: {first.bits}, {second.bits} bits")
    values = ring.decode(first.value + second.value, first.frac, first.bits)
    if size.answer == "label":
        values = values.abs()  # 1 reads as -1 in a ring of one bit
        if not bool((values.sum(1) == 1).all()):
            raise RemoteProtocolError("the servers' results are no shares of one label for each sentence")
    waited_s = min(_seconds(one, "seconds_queued"), ready - queued)
    return Answer(values, (one, two), queued - start, waited_s, ready - queued - waited_s, done - ready)


async def _request(
    node: Node, peer: Peer, name: bytes, answer: str, mask: tuple[Part, Bytes], split: sharing.Split, party: int
) -> None:
    """The whole request at once, so that the servers never wait for us later. If one cannot serve yet, we say why."""
    seed = (sharing.SEED, np.frombuffer(split.seeds[party], np.uint8))
    await frames.send(peer, REQUEST, [mask, seed, *split.explicit[party]], id=name, answer=answer)
    waits = (await frames.receive_bare(peer, QUEUED)).fields.get("waits")
    if isinstance(waits, str) and waits:
        node.waiting(peer.name, f"it has our request, and waits {waits}")


def _seconds(report: Mapping[str, Any], name: str) -> float:
    value = report.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


async def _result(peer: Peer, node: Node, size: Size) -> tuple[Shared, dict[str, Any]]:
    """One server's share of the result, and its report."""
    shape = node.config.shape
    columns = shape.labels if shape.head == "classification" else shape.hidden

    def check(header: Header) -> None:
        sizes = [part.shape for part in header.parts]
        if len(sizes) != 2 or sizes[0] != (size.batch, columns) or header.parts[1].nbytes > REPORT_LIMIT:
            raise RemoteProtocolError(f"{peer.name}, result: want [{size.batch}, {columns}] and a report, got {sizes}")
        if (header.parts[0].bits == 1) != (size.answer == "label"):
            raise RemoteProtocolError(
                f"{peer.name}, result: want {size.answer}, got {header.parts[0].bits} bits a value"
            )

    header, (raw, text) = await frames.receive(peer, RESULT, check, patient=True)
    try:
        report = json.loads(text.tobytes())
    except ValueError as error:
        raise RemoteProtocolError(f"{peer.name}: its report is not JSON") from error
    part = header.parts[0]
    value = ring.unpack(raw, part)
    if part.bits == 1:
        return Shared(ring.unpack_bits(value, part.shape), 1, 0, 0), report
    return Shared(value, part.bits, LOGIT_FRAC, 0), report
