"""Rounds as values: advance, and parallel merging the k-th exchanges of its branches."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from mpcnet.rounds import Done, Exchange, Part, Piggyback, Program, advance, parallel


async def count(name: int, rounds: int) -> list[int]:
    """Await `rounds` exchanges of one part each; return what came back."""
    seen = []
    for step in range(rounds):
        (reply,) = await Exchange((Part(8, (), f"{name}.{step}"),), (torch.tensor(10 * name + step),))
        seen.append(int(reply))
    return seen


def drive(program: Program[Any]) -> tuple[Any, list[Exchange]]:
    """Answer every exchange with what was sent, plus 100."""
    exchanges: list[Exchange] = []
    reply: list[Tensor] | None = None
    while True:
        step = advance(program, reply)
        if isinstance(step, Done):
            return step.value, exchanges
        exchanges.append(step)
        reply = [value + 100 for value in step.mine]


def test_advance_returns_exchanges_then_the_result() -> None:
    program = count(1, 2)
    first = advance(program, None)
    assert isinstance(first, Exchange)
    assert first.parts == (Part(8, (), "1.0"),)
    assert isinstance(advance(program, [torch.tensor(5)]), Exchange)
    assert advance(program, [torch.tensor(6)]) == Done([5, 6])


def test_a_protocol_may_await_exchanges_only() -> None:
    class Other:
        def __await__(self) -> Any:
            yield "not an exchange"

    async def program() -> None:
        await Other()

    with pytest.raises(TypeError, match="may await exchanges only, got str"):
        advance(program(), None)


def test_branches_beside_one_that_raises_are_closed() -> None:
    async def raises() -> None:
        raise ValueError("ring too narrow")

    begun, not_begun = count(1, 2), count(2, 1)
    with pytest.raises(ValueError, match="ring too narrow"):
        drive(parallel(begun, raises(), not_begun))
    assert inspect.getcoroutinestate(begun) == inspect.getcoroutinestate(not_begun) == inspect.CORO_CLOSED


def test_an_exception_of_the_protocol_passes_through() -> None:
    async def program() -> None:
        await count(1, 1)
        raise ValueError("ring too narrow")

    with pytest.raises(ValueError, match="ring too narrow"):
        drive(program())


@pytest.mark.parametrize("lengths", [[3], [2, 2], [1, 4, 2], [0, 3], [0, 0], [5, 0, 1]])
def test_parallel_takes_the_rounds_of_its_longest_branch(lengths: list[int]) -> None:
    results, exchanges = drive(parallel(*(count(i, n) for i, n in enumerate(lengths))))
    assert len(exchanges) == max(lengths)
    assert results == [[100 + 10 * i + step for step in range(n)] for i, n in enumerate(lengths)]
    for step, exchange in enumerate(exchanges):
        assert [part.label for part in exchange.parts] == [f"{i}.{step}" for i, n in enumerate(lengths) if n > step]
        assert len(exchange.mine) == len(exchange.parts)


def test_parallel_of_nothing_takes_no_round() -> None:
    assert drive(parallel()) == ([], [])


def test_parallel_splits_replies_of_several_parts() -> None:
    async def pair(base: int) -> int:
        part = Part(16, (), "pair")
        a, b = await Exchange((part, part), (torch.tensor(base), torch.tensor(base + 1)))
        return int(a) * 1000 + int(b)

    results, exchanges = drive(parallel(pair(1), count(5, 1), pair(7)))
    assert results == [101102, [150], 107108]
    assert len(exchanges) == 1
    assert len(exchanges[0].parts) == 5


def test_parallel_nests() -> None:
    async def two_then_one() -> list[Any]:
        return [await parallel(count(1, 1), count(2, 2)), await count(3, 1)]

    results, exchanges = drive(parallel(two_then_one(), count(4, 1)))
    assert results == [[[[110], [120, 121]], [130]], [140]]
    assert [len(exchange.parts) for exchange in exchanges] == [3, 1, 1]


@pytest.mark.parametrize(
    ("bits", "shape", "nbytes"),
    [(1, (8,), 1), (1, (9,), 2), (1, (0,), 0), (1, (), 1), (2, (3,), 3), (8, (3,), 3), (9, (3,), 6), (17, (2, 2), 12),
     (24, (), 3), (40, (2,), 10), (64, (2, 0), 0), (64, (3,), 24)],
)  # fmt: skip
def test_bytes_on_the_wire(bits: int, shape: tuple[int, ...], nbytes: int) -> None:
    assert Part(bits, shape).nbytes == nbytes


def test_piggybacked_exchanges_travel_along_and_finish_alone() -> None:
    """Two that start at different times: their exchanges come behind the main one's, in order; the rest in the end."""
    seen: dict[int, list[int]] = {}

    async def passenger(name: int, rounds: int) -> None:
        seen[name] = await count(name, rounds)

    async def main() -> list[int]:
        beside = Piggyback()
        beside.start(passenger(2, 1))
        part, value = Part(8, (), "main"), torch.tensor(5)
        (first,) = await beside.exchange((part,), (value,))
        beside.start(passenger(3, 3))
        (second,) = await beside.exchange((part,), (value + 1,))
        await beside.finish()
        return [int(first), int(second)]

    result, exchanges = drive(main())
    assert result == [105, 106]
    assert seen == {2: [120], 3: [130, 131, 132]}
    labels = [[part.label for part in exchange.parts] for exchange in exchanges]
    assert labels == [["main", "2.0"], ["main", "3.0"], ["3.1"], ["3.2"]]
