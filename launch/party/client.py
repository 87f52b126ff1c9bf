"""The client: tokenises its text, shares it between the servers, and puts the answer together."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import end_tasks
from mpcnet.arrays import ring
from mpcnet.arrays.ring import Bytes
from mpcnet.errors import (
    ChannelError,
    ChannelTimeout,
    LocalConfigError,
    LocalInputError,
    MpcError,
    RemoteAbort,
    RemoteProtocolError,
)
from mpcnet.launch.deployment.deploy import TOKENIZER
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.control_frames import (
    FETCH,
    OTHERS,
    QUEUED,
    READY,
    REQUEST,
    RESULT,
    SHARES,
    TAG,
    TAKEN,
)
from mpcnet.launch.party.node import Node, end
from mpcnet.launch.party.outputs import check_tag
from mpcnet.launch.party.request import PICKUP_S
from mpcnet.launch.reporting.report import read as read_report
from mpcnet.models.checkpoints.folding import fold
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.float_model.inputs import check_tokens
from mpcnet.models.formats.fixed_point import LOGIT_FRAC
from mpcnet.models.images.reader import reader_of
from mpcnet.models.preprocessing import tokenizer_digest
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.prepare import checkpoint, tokenizer_source
from mpcnet.models.private.program import Size, answer_shape, wanted_answer, wanted_extent
from mpcnet.models.texts.tokens import Reader, Tokens, first_said
from mpcnet.protocols.audit import HASH_BITS
from mpcnet.protocols.share import Shared
from mpcnet.rounds import Part
from mpcnet.runtime.record import digest
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import SERVERS
from mpcnet.transport.wire import Header

Table: TypeAlias = Mapping[str, Tensor] | None
REPORT_LIMIT = 1 << 22  # bytes of a server's public cost report
WAIT_S = 600.0  # how long a request may take, if its caller does not say


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The result in the clear (of a label its one-hot row), and what it cost: one public report by each server.

    An embedding has length 1 if the model's folder asks for that.

    The upload ends when both servers have queued the request; waiting for other requests is no part of offline.
    """

    values: Tensor
    out_of_range: (
        list[bool] | None
    )  # of an audited request, by sentence: a value left its range, the answer may be wrong
    reports: tuple[dict[str, Any], dict[str, Any]]
    seconds_upload: float
    seconds_queued: float
    seconds_offline: float
    seconds_online: float


def reader(node: Node, model: str | None = None) -> Reader:
    """What makes tokens of texts for this program, or rows of pictures: the tokenizer or image processor beside our
    settings, or that of `model`.

    :raises LocalConfigError: there is none, or it is another than the one that the program was made with.
    """
    how = node.config.preprocessing
    if how is None:
        raise LocalConfigError("texts: want a program of a model with a tokenizer, got one of random weights")
    folder = node.settings.folder / TOKENIZER
    kind = "tokenizer" if node.config.shape.image is None else "image processor"
    if model is None and not folder.is_dir():
        raise LocalConfigError(
            f"{folder}: want the {kind} that mpcnet init puts there, got none; copy it from where the deployment "
            "was made, or name the model's directory with --model"
        )
    source = folder if model is None else Path(tokenizer_source(model))
    found = tokenizer_digest(source)
    if found != how.tokenizer_sha256:
        raise LocalConfigError(
            f"{source}: want the {kind} of the program, sha256 {how.tokenizer_sha256[:12]}..., got {found[:12]}...; "
            "leave out --model, name the directory of the model that the program was made with, or copy "
            f"{TOKENIZER}/ from the deployment's client again"
        )
    return reader_of(source, node.config.formats.longest, how, node.config.shape)


def public_table(node: Node, model: str | None) -> Table:
    """The public embedding table, if the program leaves the lookup to its clients.

    :raises LocalConfigError: it does, and there is no model, or another than the program's.
    """
    if node.config.embedding != "client":
        return None
    if model is None:
        raise LocalConfigError("infer: want --model, whose embedding table this program leaves to the client, got none")
    found = checkpoint(model)
    if found.shape != node.config.shape:
        raise LocalConfigError(f"{model}: want a model of the program's shape, got another; name the owner's model")
    return fold(found)


async def ask(
    node: Node,
    tokens: Tokens,
    table: Table = None,
    answer: AnswerKind = "logits",
    audit: bool = True,
    *,
    accept: bool = False,
) -> Answer:
    """One request over connections of its own; see :meth:`Connection.ask`."""
    size = size_of(node, tokens, answer, audit)
    connection = await Connection.open(node)
    found = await connection.ask(tokens, size, table, accept=accept)
    await connection.close()
    return found


def size_of(node: Node, tokens: Tokens, answer: AnswerKind, audit: bool, extent: int = 0) -> Size:
    """What is public of such a request, which the servers will take.

    :raises LocalInputError: the tokens are none of this model's, or it has no such answer.
    """
    check_tokens(node.config.shape, tokens.ids, tokens.types, tokens.mask)
    batch, length = tokens.mask.shape
    if tokens.places is not None:
        extent = tokens.places.shape[1] if tokens.places.shape[1] > 1 else 0  # as what is dealt ahead
    if length > node.config.formats.longest:
        raise LocalInputError(
            f"texts: the program was calibrated for up to {node.config.formats.longest} tokens, got "
            f"{length}; shorten them, or make a program with --length"
        )
    return Size(batch, length, wanted_answer(node.config, answer), audit, wanted_extent(node.config, extent))


@dataclass(slots=True, eq=False)
class Connection:
    """Channels to both servers. They stay open from one request to the next; there is one at a time.

    Whatever goes wrong with a request, a cancellation too, ends both channels, so that the servers forget it.
    """

    node: Node
    peers: tuple[Peer, Peer]
    queued: bool = False  # both servers have the request that is asked now, or that was asked last

    @classmethod
    async def open(cls, node: Node, timeout_s: float | None = None) -> Connection:
        """Dial both, for as long as the settings say, or `timeout_s`.

        :raises MpcError: a server cannot be reached in time, or refuses.
        """
        dialling = [asyncio.ensure_future(node.dial(name, timeout_s)) for name in SERVERS]
        try:
            one, two = await asyncio.gather(*dialling)
        except BaseException as error:
            await end_tasks(*dialling)
            met = [task.result() for task in dialling if not task.cancelled() and task.exception() is None]
            await end(met, node.role, error)
            raise
        return cls(node, (one, two))

    async def alive(self) -> bool:
        """False as soon as one of the servers has parted from us."""
        for peer in self.peers:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await peer.channel.gone()
                    return False
        return True

    async def ask(
        self, tokens: Tokens, size: Size, table: Table = None, *, accept: bool = False, wait_s: float = WAIT_S
    ) -> Answer:
        """[B, n] tokens to [B, d] embeddings or [B, labels] logits or one-hot labels, within `wait_s`.

        `table` is the model's public embedding, for programs in which the client looks its tokens up itself. In an
        audited request the servers look whether a value leaves its range, which they do not learn: the values of such
        a sentence are no answer, and NaN, unless `accept`.

        :raises ChannelTimeout: there is no answer in time.
        :raises MpcError: a server is gone, refused, or the two disagree.
        """
        self.queued = False
        try:
            try:
                async with asyncio.timeout(wait_s):
                    return await self._converse(tokens, size, table, accept, wait_s)
            except TimeoutError:
                where = "in their queues" if self.queued else "on its way"
                raise ChannelTimeout(
                    f"waited {wait_s:g} s for the servers' answer, the request is {where}; give it more time"
                ) from None
        except BaseException as error:
            await end(self.peers, self.node.role, error)
            raise

    async def close(self) -> None:
        """In order, if the servers are still there."""
        await asyncio.gather(*(peer.channel.close() for peer in self.peers), return_exceptions=True)

    async def _queue(self, *, patient: bool = False) -> None:
        """Both servers have the request; if one cannot serve yet, we say why."""
        waiting = (frames.receive_bare(peer, QUEUED, patient=patient) for peer in self.peers)
        for peer, header in zip(self.peers, await asyncio.gather(*waiting), strict=True):
            waits = header.fields.get("waits")
            if isinstance(waits, str) and waits:
                self.node.waiting(peer.name, f"it has our request, and waits {waits}")

    async def _come_back(self, name: bytes, end_s: float, error: MpcError) -> None:
        """A connection is lost, but not the request: fetch it over new connections, again if those are lost too.

        :raises MpcError: there is no more time for that, or a server has not got it any more.
        """
        self.node.say(f"{error}; coming back for the answer", "warning")
        former = list[Peer]()
        try:
            await self._fetch(name, end_s, error, former)
        finally:  # the servers part from these when they hear us; not one whose host is lost
            for peer in former:
                peer.channel.abort(f"{self.node.role} has come back over another connection")

    async def _fetch(self, name: bytes, end_s: float, error: MpcError, former: list[Peer]) -> None:
        """See :meth:`_come_back`; `former` gets the connections that we leave."""
        backoff, end_s = Backoff(), min(end_s, time.perf_counter() + max(self.node.settings.timeout_s, PICKUP_S))
        while (left_s := end_s - time.perf_counter()) > 0:
            try:
                opened = await Connection.open(self.node, left_s)
                former += self.peers
                self.peers = opened.peers
                # Of both, whatever becomes of one: a server that hears it ends the connection before.
                await asyncio.gather(*(frames.send(peer, FETCH, id=name) for peer in self.peers))
                await self._queue(patient=True)  # one that gave up would tell the server to forget the answer
                return
            except ChannelError as another:
                error = another
            except RemoteAbort as refusal:
                if refusal.lost or refusal.final:
                    raise
                error = refusal  # it has no room for us now, or has not heard us for too long
            await backoff.take()
        raise error

    async def _converse(self, tokens: Tokens, size: Size, table: Table, accept: bool, wait_s: float) -> Answer:
        config, start = self.node.config, time.perf_counter()
        name = secrets.token_bytes(16)
        mask, split = (
            (Part(1, tuple(tokens.mask.shape)), ring.pack(ring.pack_bits(tokens.mask), 1)),
            sharing.split_tokens(config, size, encode_tokens(config, tokens, table), sharing.TOKENS),
        )
        uploads = [
            [mask, (sharing.SEED, np.frombuffer(seed, np.uint8)), *explicit]
            for seed, explicit in zip(split.seeds, split.explicit, strict=True)
        ]
        digests = [digest([raw for _, raw in upload]) for upload in uploads]
        for peer, upload, others in zip(self.peers, uploads, reversed(digests), strict=True):
            await frames.send(
                peer, REQUEST, id=name, wait_s=wait_s, batch=size.batch, length=size.length, answer=size.answer,
                audit=size.audit, extent=size.extent,
            )  # fmt: skip
            await frames.send(peer, SHARES, upload, **{OTHERS: others})
        await self._queue()
        self.queued, queued = True, time.perf_counter()
        while True:
            try:
                await asyncio.gather(*(frames.receive_bare(peer, READY, patient=True) for peer in self.peers))
                ready = time.perf_counter()
                one, two = await asyncio.gather(*(_result(peer, self.node, size) for peer in self.peers))
                break
            except ChannelError as error:
                await self._come_back(name, start + wait_s, error)
        for peer in self.peers:
            with suppress(MpcError):  # we have the answer; a server that does not hear it forgets it in a while
                await frames.send(peer, TAKEN)
        done = time.perf_counter()
        for server, seed, mine, other in zip(SERVERS, split.seeds, (one, two), (two, one), strict=True):
            check_tag(server, seed, mine.arrays, other.tag)
        first, second = one.values, two.values
        if (first.bits, first.shape) != (second.bits, second.shape):
            raise RemoteProtocolError(
                f"the servers' results are no shares of one value: {first.bits}, {second.bits} bits"
            )
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
        out_of_range = None
        if one.out_of_range is not None and two.out_of_range is not None:
            found = ring.unpack_bits(one.out_of_range ^ two.out_of_range, (size.batch, HASH_BITS))
            out_of_range = found.bool().any(1).tolist()
            if not accept:
                values[torch.tensor(out_of_range)] = torch.nan
        reports = one.report, two.report
        waited_s = min(float(one.report["seconds_queued"]), ready - queued)
        return Answer(values, out_of_range, reports, queued - start, waited_s, ready - queued - waited_s, done - ready)


@dataclass(frozen=True, slots=True, repr=False)
class _Result:
    """One server's share of the result and of the audit's bits, and its report.

    `tag` is that of the other server's share, b"" if no replica looks at that server.
    """

    values: Shared
    out_of_range: Tensor | None
    report: dict[str, Any]
    arrays: Sequence[Bytes]
    tag: bytes


async def _result(peer: Peer, node: Node, size: Size) -> _Result:
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
    return _Result(share, out_of_range, report, arrays, tag)
