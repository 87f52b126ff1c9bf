"""What can be asked of models whose answers are parts of a text; :class:`mpcnet.Client` has these methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Unpack, overload

from mpcnet.errors import MpcError
from mpcnet.launch.api.aquestions import AsyncQuestions
from mpcnet.launch.api.call import How, OnError
from mpcnet.launch.api.loop import LoopThread
from mpcnet.launch.api.results import Ranked
from mpcnet.launch.requests.entities import Entity
from mpcnet.launch.requests.spans import Span
from mpcnet.launch.requests.view import Aggregation


class Questions:
    """Asks a client of asyncio on a loop of its own."""

    _client: AsyncQuestions
    _loop: LoopThread

    @overload
    def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[list[Entity]]: ...  # fmt: skip

    @overload
    def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[list[Entity] | MpcError]: ...  # fmt: skip

    def tag(
        self, texts: Iterable[str], *, aggregation: Aggregation = "simple", scores: bool = True,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[list[Entity]] | list[list[Entity] | MpcError]:  # fmt: skip
        """The entities of each text, as transformers' `pipeline("token-classification")` finds them.

        `aggregation` is its `aggregation_strategy`: none, simple, first, average or max. Without `scores` this client
        learns the label of each token and no logit. Other arguments as of `embed`.

        :raises LocalInputError: a text cannot be asked or is a pair, or the model has no labels of tokens.
        :raises MpcError: as `embed`.
        """
        asked = self._client.tag(texts, aggregation=aggregation, scores=scores, on_error=on_error, **how)
        return self._loop.call(asked)

    @overload
    def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[Span]: ...  # fmt: skip

    @overload
    def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[Span | MpcError]: ...  # fmt: skip

    def answer(
        self, pairs: Iterable[tuple[str, str]], *, max_answer_len: int = 15, impossible: bool = False,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[Span] | list[Span | MpcError]:  # fmt: skip
        """The answer to each (question, context): the likeliest part of the context, of at most so many tokens.

        With `impossible` there may be none: a :class:`Span` with an empty text then. Other arguments as of `embed`.

        :raises LocalInputError: a pair cannot be asked, or the model answers no questions.
        :raises MpcError: as `embed`.
        """
        asked = self._client.answer(
            pairs, max_answer_len=max_answer_len, impossible=impossible, on_error=on_error, **how
        )
        return self._loop.call(asked)

    @overload
    def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: Literal["raise"] = "raise", **how: Unpack[How],
    ) -> list[Ranked]: ...  # fmt: skip

    @overload
    def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: Literal["return"], **how: Unpack[How],
    ) -> list[Ranked | MpcError]: ...  # fmt: skip

    def rerank(
        self, query: str, documents: Iterable[str], *, top_k: int | None = None,
        on_error: OnError = "raise", **how: Unpack[How],
    ) -> list[Ranked] | list[Ranked | MpcError]:  # fmt: skip
        """The documents by a cross-encoder's score for the query, best first, and `top_k` of them at most.

        With `on_error="return"` errors come behind the ranked documents. Other arguments as of `embed`.

        :raises LocalInputError: a document cannot be asked, or the model is no classifier of one label.
        :raises MpcError: as `embed`.
        """
        return self._loop.call(self._client.rerank(query, documents, top_k=top_k, on_error=on_error, **how))
