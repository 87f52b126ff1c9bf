"""Rounds as values: a protocol is a coroutine that awaits requests, and a driver answers them.

A protocol never touches a socket, a loop or a clock. It awaits an :class:`Exchange`; whoever drives it
(:func:`advance`) sees the request, moves the bytes, and sends the opened values back. :func:`parallel` merges
the k-th exchange of each branch into one round, so independent protocols share their latency.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Generic, TypeAlias, TypeVar, cast

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """The public description of one packed array: ring width, shape, and the operation it belongs to."""

    bits: int
    shape: tuple[int, ...]
    label: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes on the wire: single bits are packed eight to a byte, wider values take whole bytes."""
        count = prod(self.shape)
        return (count + 7) // 8 if self.bits == 1 else count * ((self.bits + 7) // 8)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round: each server sends its masked shares `mine`; the reply is their sums mod 2^bits."""

    parts: tuple[Part, ...]
    mine: tuple[Tensor, ...]

    def __await__(self) -> Generator[Exchange, list[Tensor], list[Tensor]]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a protocol returned."""

    value: T


Program: TypeAlias = Coroutine[Any, Any, T]


def advance(program: Program[T], reply: list[Tensor] | None) -> Exchange | Done[T]:
    """Send `reply` (None to start) and return the next exchange or the result.

    :raises TypeError: the program awaited something that is not an :class:`Exchange`.
    """
    try:
        request = program.send(reply)
    except StopIteration as stop:
        return Done(cast(T, stop.value))
    if not isinstance(request, Exchange):
        raise TypeError(f"a protocol may await exchanges only, got {type(request).__name__}")
    return request


async def parallel(*branches: Program[Any]) -> list[Any]:
    """Run independent protocols side by side: the k-th exchanges of all branches travel as one round.

    Rounds   those of the longest branch
    Sends    the sum over the branches
    """
    try:
        return await _side_by_side(branches)
    finally:
        for branch in branches:  # where one raised, others have not ended, or not begun
            branch.close()


async def _side_by_side(branches: Sequence[Program[Any]]) -> list[Any]:
    results: list[Any] = [None] * len(branches)
    replies: dict[int, list[Tensor] | None] = {index: None for index in range(len(branches))}
    while replies:
        waiting: dict[int, Exchange] = {}
        for index, reply in replies.items():
            step = advance(branches[index], reply)
            if isinstance(step, Done):
                results[index] = step.value
            else:
                waiting[index] = step
        if not waiting:
            break
        opened = await Exchange(
            tuple(part for step in waiting.values() for part in step.parts),
            tuple(value for step in waiting.values() for value in step.mine),
        )
        replies, start = {}, 0
        for index, step in waiting.items():
            replies[index] = opened[start : start + len(step.parts)]
            start += len(step.parts)
    return results


@dataclass(slots=True)
class Piggyback:
    """Programs whose exchanges travel in another one's rounds: they cost bytes, and few rounds at the end."""

    _waiting: list[tuple[Program[None], Exchange]] = field(default_factory=list)

    def start(self, program: Program[None]) -> None:
        """Run it up to its first exchange, which waits for the next round of whoever calls :meth:`exchange`."""
        self._go(program, None)

    async def exchange(self, parts: Sequence[Part], mine: Sequence[Tensor]) -> list[Tensor]:
        """An exchange of these parts and all that wait. Their programs go on as soon as it is answered."""
        waiting, self._waiting = self._waiting, []
        opened = await Exchange(
            (*parts, *(part for _, step in waiting for part in step.parts)),
            (*mine, *(value for _, step in waiting for value in step.mine)),
        )
        start = len(parts)
        for program, step in waiting:
            end = start + len(step.parts)
            self._go(program, opened[start:end])
            start = end
        return opened[: len(parts)]

    async def finish(self) -> None:
        """Rounds of their own, until all have ended."""
        while self._waiting:
            await self.exchange((), ())

    def _go(self, program: Program[None], reply: list[Tensor] | None) -> None:
        step = advance(program, reply)
        if isinstance(step, Exchange):
            self._waiting.append((program, step))
