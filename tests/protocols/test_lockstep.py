"""Protocols in one process: what a run tells, that it is planned, and what is said of protocols that are not sound."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from mpcnet.errors import LocalInputError
from mpcnet.protocols.arith import own_ring, pi_mul, product, square
from mpcnet.protocols.compare import at_least
from mpcnet.protocols.lockstep import Input, Session, run
from mpcnet.protocols.oracle import evaluate
from mpcnet.protocols.party import Party
from mpcnet.protocols.share import Bits, Shared
from mpcnet.randomness.dealer import DealerSource
from mpcnet.randomness.source import PlainSource
from mpcnet.rounds import Part

X = torch.linspace(-2, 2, 9)


async def squared(p: Party, x: Shared) -> Shared:
    return square(p, own_ring(await p.open_one(x)))


def test_a_protocol_of_two_lines() -> None:
    result = run(squared, X, expected=torch.square)
    assert torch.equal(result.value, torch.square(X).to(torch.float64))
    assert (result.rounds, result.sent_bytes, result.dealt_bytes) == (1, 9 * 8, (0, 9 * 8))
    assert result.error == result.oracle_error == 0.0


def test_several_inputs_in_rings_of_their_own() -> None:
    """Pi_Mul of the product, by name: rounds and bytes of each operation, and the products' rounding."""

    async def cubed(p: Party, x: Shared, y: Shared) -> Shared:
        narrow = p.rescale(await pi_mul(p.at("first"), x, y), 12)
        return product(p, *(own_ring(v.reduce(48)) for v in await p.at("second").open(narrow, y)))

    result = run(cubed, Input(X / 3, 64, 14), Input(X, 64, 14), expected=lambda x, y: x * y * y)
    assert {name: cost.rounds for name, cost in result.operations.items()} == {"first": 1, "second": 1, "": 0}
    assert result.error is not None
    assert 0 < result.error <= 2 * (2.0**-12 + 4 * 2.0**-15)
    assert result.oracle_error <= 2 * 2.0**-12


def test_bits() -> None:
    async def negative(p: Party, x: Shared) -> Bits:
        return (await at_least(p, await p.open_one(x), [0.0]))[0].flip()

    result = run(negative, Input(X, 24, 12), expected=lambda x: x < 0)
    assert result.value.tolist() == [1.0] * 4 + [0.0] * 5
    assert result.error == 0.0


def test_printed_by_operation() -> None:
    lines = str(run(squared, X, expected=torch.square)).splitlines()
    assert [line.split() for line in lines[1:3]] == [["squared", "1", "72", "0", "72"], ["total", "1", "72", "0", "72"]]
    assert lines[3] == "squared: within 0 of the fixed-point oracle, 0 of what was expected"
    assert str(run(squared, X)).splitlines()[3] == "squared: within 0 of the fixed-point oracle"


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_empty_and_scalar(shape: tuple[int, ...]) -> None:
    result = run(squared, torch.full(shape, 1.5), expected=torch.square)
    assert result.value.shape == shape
    assert result.error == result.oracle_error == 0.0


def shares(session: Session | None) -> list[Tensor]:
    """Both servers' shares of a result and the oracle's value."""
    result = run(squared, X, session=session)
    return [share.value for share in result.run.results[:2]]


def test_only_a_seed_makes_runs_alike() -> None:
    first, again, other, fresh = (shares(s) for s in (Session(1), Session(1), Session(2), None))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any((a == b).any() for a, b in zip(first, other, strict=True))
    assert not any((a == b).any() for a, b in zip(fresh, shares(None), strict=True))
    session = Session(1)
    assert torch.equal(shares(session)[0], first[0])
    assert not (shares(session)[0] == first[0]).any(), "a session's runs share no mask"


def test_a_watch_sees_what_is_sent_and_may_lie() -> None:
    session, seen = Session(1), []

    def watch(parts: tuple[Part, ...], first: list[Tensor], second: list[Tensor]) -> None:
        seen.append((parts, first[0].clone(), second[0].clone()))
        first[0] = first[0] + (1 << 16)

    x = session.share(torch.zeros(4))
    done = session.run(squared, x, watch=watch)
    ((parts, *sent),) = seen
    assert parts == (Part(64, (4,)),)
    assert not any(torch.equal(words, share.value) for words, share in zip(sent, x, strict=False)), "unmasked"
    assert torch.equal(done.value(), torch.ones(4, dtype=torch.float64)), "the square of the 1 that was added"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: Input(torch.tensor([8.0]), 16, 12), "lock-step, input: want numbers from -8 to 8, got others"),
        (lambda: Input(torch.tensor([float("nan")])), "share them in a wider ring"),
        (lambda: Input(torch.zeros(1), 1, 0), "want a ring of 2 to 64 bits, got 1"),
        (lambda: run(squared, X, expected=torch.sum), r"expected: want a shape \[9\], got \[\]"),
    ],
)
def test_inputs_that_are_refused(given: Callable[[], Any], message: str) -> None:
    with pytest.raises(LocalInputError, match=message):
        given()


async def returns_opened(p: Party, x: Shared) -> Any:
    return await p.open_one(x)


async def by_party(p: Party, x: Shared) -> Shared:
    return (await p.open_one(x.reduce(32 - p.source.party))).shared()


async def rings_by_party(p: Party, x: Shared) -> Shared:
    return (await p.open_one(x)).shared().reduce(32 - p.source.party)


def longer(kind: type) -> Callable[..., Any]:
    """A protocol with a second round for one kind of party."""

    async def build(p: Party, x: Shared) -> Shared:
        opened = await p.open_one(x)
        return (await p.open_one(x) if isinstance(p.source, kind) else opened).shared()

    return build


def shorter() -> Callable[..., Any]:
    """A protocol of two rounds for all but the dealer."""

    async def build(p: Party, x: Shared) -> Shared:
        opened = await p.open_one(x)
        return (opened if isinstance(p.source, DealerSource) else await p.open_one(x)).shared()

    return build


async def ends_by_party(p: Party, x: Shared) -> Shared:
    opened = await p.open_one(x)
    return (await p.open_one(x) if p.source.party else opened).shared()


async def by_value(p: Party, x: Shared) -> Shared:
    opened = await p.open_one(x)
    return opened.shared() if int(x.value[0]) % 2 else (await p.open_one(x)).shared()


def by_turn() -> Callable[..., Any]:
    """Opens more each time it is run: the meter's plan was of less."""
    turn = count(8)

    async def build(p: Party, x: Shared) -> Shared:
        return (await p.open_one(x.reduce(8 * (1 + (next(turn) > 8))))).shared().reduce(8)

    return build


async def by_oracle(p: Party, x: Shared) -> Shared:
    return (await p.open_one(x)).shared().reduce(32 if isinstance(p.source, PlainSource) else 64)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (returns_opened, "want a protocol to return a Shared or Bits, got Masked"),
        (
            by_party,
            r"server1: want to open 32 bits x \[9\], got 31 bits x \[9\]; a protocol may depend on shapes alone",
        ),
        (rings_by_party, "results: want .* in 32 bits, .* got .* in 31 bits"),
        (ends_by_party, "want all three to end together, got another round of some"),
        (longer(DealerSource), "want all three to end together, got another round of some"),
        (shorter(), "want the servers to end with the dealer, got one more round"),
        (by_turn(), r"lock-step, cost: want 1 rounds, 9 bytes each way, \[0, 0\] dealt as planned, got 1 rounds, 18"),
        (by_oracle, "results: want .* in 64 bits, .* got .* in 32 bits"),
    ],
)
def test_protocols_that_are_refused(protocol: Callable[..., Any], message: str) -> None:
    with pytest.raises(LocalInputError, match=message):
        run(protocol, X)


def test_a_protocol_that_looks_at_shares_is_refused() -> None:
    with pytest.raises(TypeError, match="a program must not depend on one"):
        run(by_value, X)


def test_the_oracle_opens_what_the_look_says() -> None:
    """Each word with how many of its label and width came before it; the program computes on what is opened."""
    seen = []

    def look(part: Part, number: int, word: Tensor) -> Tensor:
        seen.append((part.label, part.bits, number, word.tolist()))
        return word + 1 if part.label == "b" else word

    async def build(p: Party) -> Shared:
        x = Shared(torch.tensor([3]), 64, 0, 0)
        first, _ = await p.at("a").open(x, x.reduce(8))
        second = await p.at("a").open_one(x + 1.0)
        third = await p.at("b").open_one(x + 2.0)
        return first.shared() + second.shared() + third.shared()

    assert evaluate(build, look).value.tolist() == [3 + 4 + 6]
    assert seen == [("a", 64, 0, [3]), ("a", 8, 0, [3]), ("a", 64, 1, [4]), ("b", 64, 0, [5])]
