"""Requests over kept connections, tried again if that was asked for: what `Client`, `infer` and `simulate` share."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from mpcnet.errors import ChannelError, LocalStateError, RemoteAbort
from mpcnet.launch.party import client
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.party.client import Connection
from mpcnet.launch.party.client_model import Table
from mpcnet.launch.party.node import Node
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.private.program import Size
from mpcnet.models.texts.tokens import Tokens

MOST_CONNECTIONS = 8  # to each server: calls beyond that wait for one that is free

# One request over a kept connection in four steps, and what ends the connection:
#
#   client                                   server (each of the two)
#   dial, hello                      --->    hello; waits for the first request for as long as for any frame
#   request, then what it shares     --->    into the queue when it is whole
#                                    <---    queued, at once
#                                    <---    ready, when its run begins
#                                    <---    result, when the run has ended
#   taken                            --->    forgets the answer; now the connection is idle
#   request (fresh id and shares)    --->    ... or leave, or say nothing for KEPT_S: the server parts from us
#
# A call that is cancelled, times out or fails ends its connection: the servers drop what they have queued of it, and a
# run that has begun goes on to its end. The next call dials.


class Session:
    """A client's way to the servers. Connections that are free are used again, the newest first."""

    def __init__(self, node: Node, table: Table = None, *, attempts: int = 1) -> None:
        """`table` is the model's public embedding, where the program leaves the lookup to its clients."""
        self.node = node
        self._table, self._attempts = table, attempts
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect now, rather than with the first request.

        :raises MpcError: a server cannot be reached in time, or refuses.
        """
        self._free.append(await Connection.open(self.node))

    async def ask_all(
        self, tokens: Tokens, answer: AnswerKind = "logits", audit: bool = True, wait_s: float = client.WAIT_S,
        extent: int = 0,
    ) -> list[Answer]:  # fmt: skip
        """As :meth:`ask`, in as many requests as servers need that have no memory for one: answers of rows in order."""
        try:
            return [await self.ask(tokens, answer, audit, wait_s, extent)]
        except RemoteAbort as error:
            rows = len(tokens.ids)
            if not error.largest or error.largest >= rows:
                raise
            self.node.say(f"the servers take {error.largest} of these at a time, not {rows}")
            found: list[Answer] = []
            for start in range(0, rows, error.largest):
                rest = tokens.part(slice(start, start + error.largest))
                found += await self.ask_all(rest, answer, audit, wait_s, extent)
            return found

    async def ask(
        self, tokens: Tokens, answer: AnswerKind = "logits", audit: bool = True, wait_s: float = client.WAIT_S,
        extent: int = 0,
    ) -> Answer:  # fmt: skip
        """One request; each attempt is one of its own, with fresh shares. Values out of range are in the answer.

        :raises LocalInputError: the tokens are none of this model's, or it has no such answer.
        :raises ChannelTimeout: there is no answer within `wait_s`.
        :raises MpcError: a server is gone, refused, or the two disagree, in each attempt.
        """
        if self._closed:
            raise LocalStateError("client: want an open one, got one that was closed; make another")
        size = client.size_of(self.node, tokens, answer, audit, extent)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        async with self._places:
            for left in range(self._attempts - 1, -1, -1):
                try:
                    return await self._once(tokens, size, end_s - loop.time())
                except (ChannelError, RemoteAbort) as error:
                    if not left or loop.time() >= end_s or (isinstance(error, RemoteAbort) and error.final):
                        raise
                    self.node.say(f"{error}; asking again ({left} attempt(s) left)", "warning")
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, tokens: Tokens, size: Size, wait_s: float) -> Answer:
        """Over a kept connection, if there is one; one that turns out to have ended does not count as an attempt."""
        while self._free:
            connection = self._free.pop()
            if not await connection.alive():
                await connection.close()
                continue
            try:
                return await self._over(connection, tokens, size, wait_s)
            except (ChannelError, RemoteAbort):
                if connection.queued:  # they had it, so this is no parting that we had not heard of yet
                    raise
        return await self._over(await Connection.open(self.node), tokens, size, wait_s)

    async def _over(self, connection: Connection, tokens: Tokens, size: Size, wait_s: float) -> Answer:
        answer = await connection.ask(tokens, size, self._table, accept=True, wait_s=wait_s)
        if self._closed:
            await connection.close()
        else:
            self._free.append(connection)
        return answer

    async def close(self) -> None:
        """Part from the servers, in order. What is asked after this is refused."""
        self._closed = True
        while self._free:
            await self._free.pop().close()
