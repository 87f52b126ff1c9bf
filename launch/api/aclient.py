"""The client for asyncio; :class:`mpcnet.launch.api.client.Client` is the same without it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack, overload

import numpy as np

from mpcnet.errors import LocalInputError, LocalStateError, MpcError
from mpcnet.launch.api.aquestions import AsyncQuestions
from mpcnet.launch.api.batches import Item
from mpcnet.launch.api.call import Call, How, OnError, Value
from mpcnet.launch.api.methods import check_method
from mpcnet.launch.api.progress import shown
from mpcnet.launch.api.results import Classification, Usage, Vectors, classification, vector
from mpcnet.launch.api.session import Session
from mpcnet.launch.api.sources import Opened, Source, elsewhere, here
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.requests import answers
from mpcnet.launch.requests.asked import Check, anything
from mpcnet.models.families.config import AnswerKind, Config, Embedding
from mpcnet.models.private.program import wanted_answer, wanted_extent
from mpcnet.models.shape import Softmax
from mpcnet.models.texts.tokens import Reader, Tokens


class AsyncClient(AsyncQuestions):
    """Private inference from asyncio. Make one with :meth:`connect` or :meth:`local`; close it, or use `async with`.

    It opens when it is entered or first asked, and may then be used by any tasks of that event loop. `last` is what the
    call cost that returned last.
    """

    def __init__(
        self, source: Source, *, timeout: float | None = None, attempts: int = 1, audit: bool = True,
        progress: bool = True,
    ) -> None:  # fmt: skip
        """Use :meth:`connect` or :meth:`local`."""
        if attempts < 1:
            raise LocalInputError(f"attempts: want 1 or more, got {attempts}")
        self.last = Usage()
        self._source, self._timeout, self._attempts = source, timeout, attempts
        self._audit, self._progress = audit, progress
        self._opening = asyncio.Lock()
        self._opened: tuple[Opened, Session] | None = None
        self._reader: Reader | None = None
        self._closed = False
        weakref.finalize(self, source.stop)  # also at the interpreter's end

    @classmethod
    def connect(
        cls,
        path: str | Path,
        *,
        model: str | Path | None = None,
        timeout: float | None = None,
        attempts: int = 1,
        audit: bool = True,
        progress: bool = True,
    ) -> Self:
        """See :func:`mpcnet.connect`."""
        return cls(elsewhere(path, model), timeout=timeout, attempts=attempts, audit=audit, progress=progress)

    @classmethod
    def local(
        cls,
        model: str | Path = "demo",
        *,
        suite: str = "fast",
        softmax: Softmax | None = None,
        embedding: Embedding = "private",
        net: str = "none",
        threads: int = 1,
        streams: int = 1,
        device: str = "cpu",
        calibration: str | Path | None = None,
        keep: str | Path | None = None,
        timeout: float | None = None,
        attempts: int = 1,
        audit: bool = True,
        progress: bool = True,
    ) -> Self:
        """See :func:`mpcnet.local`."""
        source = here(model, suite, softmax, embedding, net, threads, streams, device, calibration, keep)
        return cls(source, timeout=timeout, attempts=attempts, audit=audit, progress=progress)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._opened else "not open yet"
        return f"{type(self).__name__}({self._source}, {state})"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect now rather than with the first call; a local client starts its processes.

        :raises MpcError: a setting, a file or the model cannot be used, or a server cannot be reached in time.
        """
        await self._open()

    async def close(self) -> None:
        """Part from the servers; a local client's processes end. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            if self._opened is not None:
                await self._opened[1].close()
            await asyncio.to_thread(self._source.stop)

    # --- questions --------------------------------------------------------------------------------------------

    @overload
    async def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> Vectors: ...  # fmt: skip

    @overload
    async def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[Vectors | MpcError]: ...  # fmt: skip

    @overload
    async def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: OnError, **how: Unpack[How]
    ) -> Vectors | list[Vectors | MpcError]: ...

    async def embed(
        self, texts: Iterable[Item], *, dim: int = 0, on_error: OnError = "raise", **how: Unpack[How]
    ) -> Vectors | list[Vectors | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.client.Client.embed`."""
        config = await self._asked("embed")
        extent = wanted_extent(config, dim)
        entries = await self._call("embed", "logits", texts, on_error, how, extent=extent)
        found = [vector(entry.row) if isinstance(entry, Value) else entry for entry in entries]
        if on_error == "return":
            return found
        vectors = [row for row in found if not isinstance(row, MpcError)]
        if vectors:
            return np.stack(vectors)
        size = config.preprocessing.truncate_dim if config.preprocessing else 0
        return np.zeros((0, extent or config.shape.columns), np.float32)[:, : size or None]

    @overload
    async def classify(
        self, texts: Iterable[Item], *, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> list[Classification]: ...  # fmt: skip

    @overload
    async def classify(
        self, texts: Iterable[Item], *, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[Classification | MpcError]: ...  # fmt: skip

    @overload
    async def classify(
        self, texts: Iterable[Item], *, on_error: OnError, **how: Unpack[How]
    ) -> list[Classification] | list[Classification | MpcError]: ...

    async def classify(
        self, texts: Iterable[Item], *, on_error: OnError = "raise", **how: Unpack[How]
    ) -> list[Classification] | list[Classification | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.client.Client.classify`."""
        config = await self._asked("classify")
        entries = await self._call("classify", "logits", texts, on_error, how)
        return [
            classification(config, entry.row, entry.out_of_range) if isinstance(entry, Value) else entry
            for entry in entries
        ]

    @overload
    async def labels(
        self, texts: Iterable[Item], *, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> list[str]: ...  # fmt: skip

    @overload
    async def labels(
        self, texts: Iterable[Item], *, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[str | MpcError]: ...  # fmt: skip

    @overload
    async def labels(
        self, texts: Iterable[Item], *, on_error: OnError, **how: Unpack[How]
    ) -> list[str] | list[str | MpcError]: ...

    async def labels(
        self, texts: Iterable[Item], *, on_error: OnError = "raise", **how: Unpack[How]
    ) -> list[str] | list[str | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.client.Client.labels`."""
        config = await self._asked("labels")
        wanted_answer(config, "label")
        names = answers.names(config)
        entries = await self._call("labels", "label", texts, on_error, how)
        return [names[int(entry.row.argmax())] if isinstance(entry, Value) else entry for entry in entries]

    async def ask_tokens(
        self, tokens: Tokens, answer: AnswerKind = "logits", audit: bool = True, extent: int = 0
    ) -> Answer:
        """One request of token ids as they are, for who measures: values, reports and seconds.

        :raises MpcError: as :meth:`mpcnet.launch.api.session.Session.ask`.
        """
        _, session = await self._open()
        return await self._source.guard(session.ask(tokens, answer, audit, extent=extent))

    # --- within -----------------------------------------------------------------------------------------------

    async def _open(self) -> tuple[Opened, Session]:
        async with self._opening:
            if self._closed:
                raise LocalStateError("client: want an open one, got one that was closed; make another")
            if self._opened is None:
                try:
                    self._opened = await self._connected()
                except BaseException:
                    await asyncio.to_thread(self._source.stop)
                    raise
            return self._opened

    async def _connected(self) -> tuple[Opened, Session]:
        with shown("connecting", enabled=self._progress) as step:
            opened = await self._source.open(step)
            session = Session(opened.node, opened.table, attempts=self._attempts)
            await self._source.guard(session.open())
            return opened, session

    async def _asked(self, method: str) -> Config:
        opened, _ = await self._open()
        check_method(method, opened.node.config.shape)
        return opened.node.config

    async def _call(
        self, what: str, answer: AnswerKind, texts: Iterable[Item], on_error: OnError, how: How,
        check: Check = anything, extent: int = 0,
    ) -> list[Value | MpcError]:  # fmt: skip
        opened, session = await self._open()
        how = How(**{"timeout": self._timeout, **how})
        call = Call(what, answer, self._audit, on_error, progress=self._progress, extent=extent, **how)
        if self._reader is None:
            self._reader = await asyncio.to_thread(opened.reader)
        found, self.last = await self._source.guard(call.run(session, self._reader, texts, check))
        return found
