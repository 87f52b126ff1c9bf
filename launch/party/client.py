"""The client: shares its tokens between the servers, and asks over connections that outlast a request."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from mpcnet.aio.backoff import Backoff
from mpcnet.aio.tasks import end_tasks, together
from mpcnet.arrays import ring
from mpcnet.errors import ChannelError, ChannelTimeout, LocalInputError, MpcError, RemoteAbort
from mpcnet.launch.party import frames, sharing
from mpcnet.launch.party.answer import Answer, joined, receive_result
from mpcnet.launch.party.client_model import Table
from mpcnet.launch.party.control_frames import FETCH, OTHERS, QUEUED, READY, REQUEST, SHARES, TAKEN
from mpcnet.launch.party.node import Node, end
from mpcnet.launch.party.request import PICKUP_S
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.float_model.inputs import check_tokens
from mpcnet.models.private.parameters import encode_tokens
from mpcnet.models.private.program import Size, wanted_answer, wanted_extent
from mpcnet.models.texts.tokens import Tokens
from mpcnet.rounds import Part
from mpcnet.runtime.record import digest
from mpcnet.transport.handshake import Peer
from mpcnet.transport.rendezvous import SERVERS

WAIT_S = 600.0  # how long a request may take, if its caller does not say


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
                opened = await self._open_again(left_s)
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

    async def _open_again(self, left_s: float) -> Connection:
        """New connections to both; none are left open if a server says meanwhile that there will be no answer.

        :raises MpcError: it says so, or a server cannot be reached in time, or refuses.
        """
        opened: list[Connection] = []

        async def opening() -> None:
            opened.append(await Connection.open(self.node, left_s))

        try:
            await together(opening(), *map(_told, self.peers))
        except BaseException as error:
            for connection in opened:
                await end(connection.peers, self.node.role, error)
            raise
        return opened[0]

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
                one, two = await asyncio.gather(*(receive_result(peer, self.node, size) for peer in self.peers))
                break
            except ChannelError as error:
                await self._come_back(name, start + wait_s, error)
        for peer in self.peers:
            with suppress(MpcError):  # we have the answer; a server that does not hear it forgets it in a while
                await frames.send(peer, TAKEN)
        done = time.perf_counter()
        values, out_of_range = joined(config, tokens, size, split.seeds, (one, two), accept=accept)
        reports = one.report, two.report
        waited_s = min(float(one.report["seconds_queued"]), ready - queued)
        return Answer(values, out_of_range, reports, queued - start, waited_s, ready - queued - waited_s, done - ready)


async def _told(peer: Peer) -> None:
    """Until a server parts from us.

    :raises RemoteAbort: it says that the request will have no answer, so there is nothing to come back for.
    """
    error = await peer.channel.gone()
    if isinstance(error, RemoteAbort) and (error.lost or error.final):
        raise error
