"""One call of a caller: texts in; in the place of each its row of values, or what is wrong with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from torch import Tensor

from mpcnet.errors import ChannelTimeout, LocalInputError, LocalRangeError, MpcError
from mpcnet.launch.api import batches
from mpcnet.launch.api.batches import Item
from mpcnet.launch.api.progress import shown
from mpcnet.launch.api.results import Usage, usage
from mpcnet.launch.api.session import Session
from mpcnet.launch.party import client
from mpcnet.launch.party.answer import Answer
from mpcnet.launch.requests import answers
from mpcnet.launch.requests.asked import Check, anything, listed
from mpcnet.launch.requests.view import Known
from mpcnet.models.families.config import AnswerKind
from mpcnet.models.texts.tokens import Reader, Row

OnError = Literal["raise", "return"]
BATCH_SIZE = 32


class How(TypedDict, total=False):
    """What every call may say."""

    accept_out_of_range: bool  # default False
    batch_size: int  # texts to a request: default 32, most 256
    timeout: float | None  # seconds, of the whole call; default: the client's


@dataclass(frozen=True, slots=True)
class Value:
    """A text's answer, [columns] or [n, columns]; `out_of_range` if it was accepted although a value left its range."""

    row: Tensor
    out_of_range: bool
    known: Known = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """How to ask, and what to do about texts that cannot be answered."""

    what: str  # the method's name, for errors
    answer: AnswerKind
    audit: bool
    on_error: OnError
    accept_out_of_range: bool = False
    batch_size: int = BATCH_SIZE
    timeout: float | None = None
    progress: bool = True
    extent: int = 0  # of each answer; see mpcnet.models.private.program.Size

    def __post_init__(self) -> None:
        """:raises LocalInputError: an argument is none that there is."""
        if self.on_error not in ("raise", "return"):
            raise LocalInputError(f'on_error: want "raise" or "return", got {str(self.on_error)[:20]!r}')
        if self.timeout is not None and not self.timeout > 0:
            raise LocalInputError(f"timeout: want more than 0 s, got {self.timeout:g}")

    async def run(
        self, session: Session, reader: Reader, texts: Iterable[Item], check: Check = anything
    ) -> tuple[list[Value | MpcError], Usage]:
        """One entry for each text, in the order of the texts; requests go one after the other.

        `check` refuses a text that the method cannot take, by a LocalInputError.

        :raises LocalInputError: a text cannot be asked (nothing is sent then), or left its range, and `on_error` is
            "raise".
        :raises ChannelTimeout: not all was answered in time.
        :raises MpcError: a server is gone, refused, or the two disagree.
        """
        start = time.perf_counter()
        given = batches.texts_of(texts)
        rows = await asyncio.to_thread(batches.read, reader, given, check)
        known = [
            Known(batches.as_given(reader, item), row, reader.tokenizer) if isinstance(row, Row) else None
            for item, row in zip(given, rows, strict=True)
        ]
        places = batches.requests(rows, self.batch_size)
        wrong = [str(row) for row in rows if isinstance(row, LocalInputError)]
        if wrong and self.on_error == "raise":
            raise LocalInputError(listed(wrong, "; "))
        if cut := batches.cuts(rows, reader.preprocessing.max_tokens if reader.preprocessing else 0):
            session.node.say(cut, "warning")
        found: list[Value | MpcError | None] = [row if isinstance(row, LocalInputError) else None for row in rows]
        replies: list[Answer] = []
        try:
            async with asyncio.timeout(self.timeout):
                with shown(f"{self.what}: {len(given)} {reader.noun}s", len(given), enabled=self.progress) as step:
                    for chosen in places:
                        for answer in await self._ask(session, reader, rows, chosen):
                            replies.append(answer)
                            self._place(found, chosen[: len(answer.values)], answer, known, reader.noun)
                            chosen = chosen[len(answer.values) :]
                            step.advance(len(answer.values))
        except TimeoutError:
            done = sum(entry is not None for entry in found)
            raise ChannelTimeout(
                f"{self.what}: want all answers within {self.timeout:g} s, got {done} of {len(given)}; "
                "give it more time (timeout=), or fewer texts"
            ) from None
        out_of_range = [place for place, entry in enumerate(found) if _left_its_range(entry)]
        entries = [entry for entry in found if entry is not None]
        assert len(entries) == len(given), "an entry for each text"
        return entries, usage(replies, time.perf_counter() - start, out_of_range)

    async def _ask(
        self, session: Session, reader: Reader, rows: Sequence[Row | LocalInputError], chosen: Sequence[int]
    ) -> list[Answer]:
        tokens = reader.pad([row for place in chosen if isinstance(row := rows[place], Row)])
        return await session.ask_all(tokens, self.answer, self.audit, self.timeout or client.WAIT_S, self.extent)

    def _place(
        self,
        found: list[Value | MpcError | None],
        chosen: Sequence[int],
        reply: Answer,
        known: Sequence[Known | None],
        noun: str,
    ) -> None:
        """:raises LocalRangeError: values left their ranges, which is neither accepted nor returned."""
        out_of_range = reply.out_of_range or [False] * len(chosen)
        names = [f"{noun} {place + 1}" for place, left in zip(chosen, out_of_range, strict=True) if left]
        hint = f"{answers.LEFT_RANGE}; accept_out_of_range=True shows the answer all the same"
        if names and not self.accept_out_of_range and self.on_error == "raise":
            raise LocalRangeError(f"{listed(names)}: {hint}")
        for place, row, left in zip(chosen, reply.values, out_of_range, strict=True):
            hidden, about = left and not self.accept_out_of_range, known[place]
            assert about is not None
            found[place] = LocalRangeError(f"{noun} {place + 1}: {hint}") if hidden else Value(row, left, about)


def _left_its_range(entry: Value | MpcError | None) -> bool:
    return entry.out_of_range if isinstance(entry, Value) else isinstance(entry, LocalRangeError)
