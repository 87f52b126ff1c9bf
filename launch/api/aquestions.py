"""What can be asked of models whose answers are parts of a text, from asyncio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal, Unpack, cast, overload

from mpcnet.errors import MpcError
from mpcnet.launch.api.batches import Item, texts_of
from mpcnet.launch.api.call import How, OnError, Value
from mpcnet.launch.api.results import Ranked, ranked
from mpcnet.launch.requests import answers, entities
from mpcnet.launch.requests.asked import Check, anything
from mpcnet.launch.requests.entities import Entity
from mpcnet.launch.requests.fills import Fill, fills
from mpcnet.launch.requests.spans import Span, best_span, check_pair
from mpcnet.launch.requests.view import Aggregation, check_aggregation, check_count
from mpcnet.models.families.config import AnswerKind, Config
from mpcnet.models.private.program import wanted_answer
from mpcnet.models.texts.tokens import Text


class AsyncQuestions(ABC):
    """The methods of :class:`mpcnet.AsyncClient` that are documented at :class:`mpcnet.Client`."""

    @abstractmethod
    async def _asked(self, method: str) -> Config:
        """The program, if it can be asked so."""

    @abstractmethod
    async def _call(
        self, what: str, answer: AnswerKind, texts: Iterable[Item], on_error: OnError, how: How,
        check: Check = anything, extent: int = 0,
    ) -> list[Value | MpcError]:  # fmt: skip
        """One entry for each text."""

    @overload
    async def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[list[Entity]]: ...  # fmt: skip

    @overload
    async def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[list[Entity] | MpcError]: ...  # fmt: skip

    @overload
    async def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: OnError, **how: Unpack[How],
    ) -> list[list[Entity]] | list[list[Entity] | MpcError]: ...  # fmt: skip

    async def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[list[Entity]] | list[list[Entity] | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.questions.Questions.tag`."""
        config = await self._asked("tag")
        check_aggregation(aggregation)
        kind: AnswerKind = "logits" if scores else "label"
        wanted_answer(config, kind)
        names = answers.names(config)
        found = await self._call("tag", kind, texts, on_error, how, entities.check_one)
        return [
            entities.entities(names, entry.row, entry.known, aggregation, labels=not scores)
            if isinstance(entry, Value)
            else entry
            for entry in found
        ]

    @overload
    async def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[Span]: ...  # fmt: skip

    @overload
    async def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[Span | MpcError]: ...  # fmt: skip

    @overload
    async def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: OnError, **how: Unpack[How],
    ) -> list[Span] | list[Span | MpcError]: ...  # fmt: skip

    async def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[Span] | list[Span | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.questions.Questions.answer`."""
        await self._asked("answer")
        check_count("max_answer_len", max_answer_len)
        found = await self._call("answer", "logits", pairs, on_error, how, check_pair)
        return [
            best_span(entry.row, entry.known, max_answer_len, impossible=impossible)
            if isinstance(entry, Value)
            else entry
            for entry in found
        ]

    @overload
    async def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[Ranked]: ...  # fmt: skip

    @overload
    async def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[Ranked | MpcError]: ...  # fmt: skip

    @overload
    async def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: OnError, **how: Unpack[How],
    ) -> list[Ranked] | list[Ranked | MpcError]: ...  # fmt: skip

    async def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[Ranked] | list[Ranked | MpcError]:  # fmt: skip
        """See :meth:`mpcnet.launch.api.questions.Questions.rerank`."""
        config = await self._asked("rerank")
        check_count("top_k", 1 if top_k is None else top_k)
        given = cast(list[str], texts_of(documents))
        pairs = [(query, text) for text in given]
        entries = await self._call("rerank", "logits", pairs, on_error, how)
        found = [
            ranked(config, place, entry.row, given[place], entry.out_of_range)
            for place, entry in enumerate(entries)
            if isinstance(entry, Value)
        ]
        best: list[Ranked | MpcError] = [*sorted(found, key=lambda one: -one.score)[:top_k]]
        return best + [entry for entry in entries if isinstance(entry, MpcError)]

    @overload
    async def fill(
        self, texts: Iterable[Text], *, top_k: int = 5, on_error: Literal["raise"] = "raise", **how: Unpack[How]
    ) -> list[list[list[Fill]]]: ...

    @overload
    async def fill(
        self, texts: Iterable[Text], *, top_k: int = 5, on_error: Literal["return"], **how: Unpack[How]
    ) -> list[list[list[Fill]] | MpcError]: ...

    @overload
    async def fill(
        self, texts: Iterable[Text], *, top_k: int = 5, on_error: OnError, **how: Unpack[How]
    ) -> list[list[list[Fill]]] | list[list[list[Fill]] | MpcError]: ...

    async def fill(
        self, texts: Iterable[Text], *, top_k: int = 5, on_error: OnError = "raise", **how: Unpack[How]
    ) -> list[list[list[Fill]]] | list[list[list[Fill]] | MpcError]:
        """See :meth:`mpcnet.launch.api.questions.Questions.fill`."""
        await self._asked("fill")
        check_count("top_k", top_k)
        found = await self._call("fill", "logits", texts, on_error, how)
        return [fills(entry.row, entry.known, top_k) if isinstance(entry, Value) else entry for entry in found]
