"""The audit's checks: what is surely found, what is never flagged, at no more than the cost that is stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Build, Run, Session, oracle, plain, plan, same_cost
from torch import Tensor

from mpcnet import ring
from protocols.arith import lift
from protocols.audit import Audit, outside
from protocols.division import RowRange
from protocols.layernorm import layer_norm
from protocols.party import Party
from protocols.rowmax import Window
from protocols.share import Bits, Shared
from protocols.softmax import exponentials, squares

WINDOW = Window(7)
Looked = Callable[..., Any]


def audited(build: Looked, keep: Tensor) -> Build:
    """The program under an audit; the result is the verdict."""

    async def run(p: Party, *inputs: Shared) -> Bits:
        watching = Audit(keep)
        await build(replace(p, audit=watching), *inputs)
        return await watching.verdict(p)

    return run


def bits_of(first: Bits, second: Bits) -> list[int]:
    return [int(bit) for bit in ring.unpack_bits(first.packed ^ second.packed, first.shape)]


def verdict(build: Looked, keep: Tensor, *inputs: tuple[Tensor, int, int], seed: int = 0) -> tuple[list[int], Run]:
    """Of two servers, beside that of the oracle; the cost is the plan's. `inputs` are values, bits, fraction bits."""
    session, program = Session(seed), audited(build, keep)
    shares = [session.share(*given) for given in inputs]
    run = session.run(program, *shares)
    same_cost(run, plan(program, *shares))
    whole = oracle(program, *(plain(*given) for given in inputs))
    found = bits_of(run.results[0], run.results[1])
    assert [int(bit) for bit in ring.unpack_bits(whole.packed, whole.shape)] == found
    return found, run


def flagged(words: Tensor, bits: int, limit: int, centre: int, seed: int = 0) -> Tensor:
    """For each word, whether any of the bits that are read of its opening is 1."""

    async def build(p: Party, x: Shared) -> list[Bits]:
        return list(outside(p, await p.open_one(x), limit, centre))

    session = Session(seed)
    shares = session.share(words.to(torch.float64), bits, 0)
    run = session.run(build, shares)
    same_cost(run, plan(build, shares))
    pairs = zip(run.results[0], run.results[1], strict=True)
    return torch.stack([ring.unpack_bits(a.packed ^ b.packed, a.shape) for a, b in pairs]).any(0)


@few
@given(st.integers(8, 48), st.data())
def test_every_residue_outside_is_found_and_none_well_inside(bits: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(9, 1 << min(bits - 2, 40)))
    centre = data.draw(st.integers(-(1 << (bits - 3)), 1 << (bits - 3)))
    unit = 1 << max(ring.ceil_log2(limit) - 4, 0)
    inside = (limit // unit - 2) * unit
    half = 1 << (bits - 1)
    edges = [limit, -limit - 1, limit + unit, -limit - unit, 3 * limit, -3 * limit, half - 1, -half]
    offsets = [*edges, *data.draw(st.lists(st.integers(-half, half - 1), min_size=5, max_size=40))]
    offsets = [offset for offset in offsets if -half <= offset < half]
    near = [-inside, 0, inside - 1, *data.draw(st.lists(st.integers(-inside, inside), min_size=3, max_size=20))]
    words = torch.tensor([offset + centre for offset in [*offsets, *near]])
    found = flagged(words, bits, limit, centre, data.draw(st.integers(0, 2**31)))
    for offset, bit in zip([*offsets, *near], found.tolist(), strict=True):
        if not -limit <= offset < limit:
            assert bit, (bits, limit, centre, offset)
        if -inside <= offset <= inside:
            assert not bit, (bits, limit, centre, offset)


def test_exactly_every_residue_of_a_small_ring() -> None:
    """All words of 9 bits, many masks: outside always, inside never, next to the limit by chance."""
    words = torch.arange(-256, 256)
    counts = sum(flagged(words, 9, 48, 20, seed).to(torch.int64) for seed in range(40))
    offset = words - 20
    offset = torch.where(offset < -256, offset + 512, offset)
    assert (counts[(offset >= 48) | (offset < -48)] == 40).all()
    assert (counts[(offset >= -44) & (offset < 40)] == 0).all()
    assert {int(n) for n in counts} - {0, 40} != set()


@pytest.mark.parametrize("limit", [8, 1 << 19])
def test_limits_that_no_table_shows_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=r"want a limit of 9 to 2\^18 in a ring of 20 bits"):
        flagged(torch.zeros(1), 20, limit, 0)


def test_cost() -> None:
    """A check of 28 bits costs 64 bits an element and no byte online; the verdict two rounds and 10 bytes."""
    keep = torch.ones(1, 2)

    async def look(p: Party, x: Shared) -> None:
        lift(p, await p.open_one(x), 40)

    async def no_look(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 40).shared()

    given = (torch.zeros(1, 2, 4), 28, 14)
    _, run = verdict(look, keep, given)
    session = Session(0)
    bare = session.run(no_look, session.share(*given)).ledger.total()
    total, audit = run.ledger.total(), run.ledger.operations["audit"]
    assert (audit.rounds, audit.sent_bytes) == (2, 5 + 5)
    assert (total.rounds, total.sent_bytes) == (bare.rounds + 2, bare.sent_bytes + 10)
    assert sum(audit.dealt_bytes) == 8 * 8 + 5 * 256 // 8 + 26 + 1


SENTENCES, TOKENS, WIDTH = 3, 5, 8


def rows(value: float, sentence: int, token: int) -> Tensor:
    """Values of 1, and one that is another."""
    x = torch.ones(SENTENCES, TOKENS, WIDTH, dtype=torch.float64)
    x[sentence, token, 3] = value
    return x


async def grow(p: Party, x: Shared) -> None:
    lift(p, await p.open_one(x), 40)


@pytest.mark.parametrize(
    ("value", "left"), [(900.0, 0), (-950.0, 0), (1024.0, 1), (-1025.0, 1), (2047.0, 1), (3071.0, 1)]
)
def test_what_grows_must_fit(value: float, left: int) -> None:
    found, _ = verdict(grow, torch.ones(SENTENCES, TOKENS), (rows(value, 1, 2), 24, 12))
    assert found == [0, left, 0]


def test_padding_does_not_count() -> None:
    keep = torch.ones(SENTENCES, TOKENS, dtype=torch.int64)
    keep[1, 2:] = 0
    assert verdict(grow, keep, (rows(2000.0, 1, 2), 24, 12))[0] == [0, 0, 0]
    assert verdict(grow, keep, (rows(2000.0, 1, 1), 24, 12))[0] == [0, 1, 0]


def test_what_may_be_anything_is_not_looked_at() -> None:
    async def free(p: Party, x: Shared) -> None:
        lift(p, await p.open_one(x), 40, limit=0)

    async def tight(p: Party, x: Shared) -> None:
        lift(p, await p.open_one(x), 40, limit=1 << 15)

    keep, given = torch.ones(SENTENCES, TOKENS), (rows(8.0, 2, 0), 24, 12)
    assert verdict(free, keep, (rows(2000.0, 1, 1), 24, 12))[0] == [0, 0, 0]
    assert verdict(tight, keep, given)[0] == [0, 0, 1]
    assert verdict(grow, keep, given)[0] == [0, 0, 0]


def test_many_are_as_one() -> None:
    """Any number of bits is found: no two cancel. Every sentence has its own."""
    for seed in range(30):
        chosen = torch.rand(SENTENCES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed)) < 0.5
        chosen[seed % SENTENCES] = False
        x = torch.where(chosen, 2000.0, 1.0).to(torch.float64)
        found, _ = verdict(grow, torch.ones(SENTENCES, TOKENS), (x, 24, 12), seed=seed)
        assert found == [int(sentence != seed % SENTENCES) for sentence in range(SENTENCES)]


@pytest.mark.parametrize(
    ("scale", "left"),
    [(1.0, 0), (0.51, 0), (3.9, 0), (0.01, 1), (60.0, 1), (900.0, 1)],
)
def test_roots(scale: float, left: int) -> None:
    """LayerNorm's square sums from 2 to 130: far below and above them the root is not what it should be."""

    async def norm(p: Party, x: Shared) -> None:
        await layer_norm(p, x, 1e-5, RowRange(2.0, 130.0), 14, 12)

    x = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).expand(SENTENCES, TOKENS, WIDTH).clone()
    x[1, 3] *= scale
    assert verdict(norm, torch.ones(SENTENCES, TOKENS), (x, 28, 14))[0] == [0, left, 0]


def scores(value: float, key: int = 4) -> Tensor:
    x = torch.linspace(-3, 3, 2 * TOKENS * TOKENS, dtype=torch.float64).reshape(1, 2, TOKENS, TOKENS).clone()
    x[0, 1, 0, key] = value
    return torch.cat([x * 0, x, x * 0])


@pytest.mark.parametrize(
    ("bits", "centre", "value", "left"),
    [
        (7, 0, 45.0, 0), (7, 0, -50.0, 0), (7, 0, 63.0, 1), (7, 0, -63.1, 1), (7, 0, 130.0, 1), (7, 0, -130.0, 1),
        (7, 0, 200.0, 1), (7, 0, -300.0, 1), (7, 0, 448.0, 1), (7, 0, -448.0, 1), (7, 9, 64.0, 0), (7, 9, -47.0, 0),
        (7, 9, 72.0, 1), (6, -6, 21.0, 0), (6, -6, -34.0, 0), (6, -6, 25.0, 1), (6, -6, -37.1, 1), (6, -6, 448.0, 1),
    ],
)  # fmt: skip
def test_scores_of_exact_softmax(bits: int, centre: float, value: float, left: int) -> None:
    async def exact(p: Party, x: Shared) -> None:
        await exponentials(p, x, torch.ones(TOKENS, dtype=torch.int64), 16, Window(bits, centre))

    assert verdict(exact, torch.ones(SENTENCES, TOKENS), (scores(value), 22, 12))[0] == [0, left, 0]


def test_a_row_of_exact_softmax_may_not_span_more_than_its_exponential() -> None:
    """Both ends have buckets, and are not flagged themselves; only their distance is too large."""

    async def exact(p: Party, x: Shared) -> None:
        await exponentials(p, x, torch.ones(TOKENS, dtype=torch.int64), 16, Window(6))

    for low, left in ((-15.0, 0), (-27.9, 1)):
        x = scores(27.9)
        x[1, 1, 0, 0] = low
        for seed in range(4):
            assert verdict(exact, torch.ones(SENTENCES, TOKENS), (x, 22, 12), seed=seed)[0][1] == left


@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_scores_of_padding_do_not_count(softmax: str) -> None:
    """Of padded keys, whatever the row; and of padded queries."""
    mask = torch.ones(SENTENCES, TOKENS, dtype=torch.int64)
    mask[:, 4] = 0
    kept = mask[:, None, None, :]

    async def build(p: Party, x: Shared) -> None:
        if softmax == "exact":
            await exponentials(p, x, kept, 16, WINDOW)
        else:
            await squares(p, x, kept, 48, 12)

    assert verdict(build, mask, (scores(300.0), 22, 12))[0] == [0, 0, 0]
    assert verdict(build, mask, (scores(300.0, key=3), 22, 12))[0] == [0, 1, 0]


@pytest.mark.parametrize(("norm", "left"), [(17.0, 0), (20.0, 1), (1e3, 1), (1e5, 1), (1e6, 1)])
def test_norms(norm: float, left: int) -> None:
    """Of rows [B, heads, n, width] at 11 fraction bits in 32: the whole ring but its last sixteenth."""

    async def build(p: Party, x: Shared) -> None:
        assert p.audit is not None
        p.audit.norms(p, await p.open_one(x))

    x = torch.full((SENTENCES, 2, TOKENS, WIDTH), 1.0, dtype=torch.float64)
    x[2, 1, 3, :] = norm / WIDTH**0.5
    assert verdict(build, torch.ones(SENTENCES, TOKENS), (x, 32, 11))[0] == [0, 0, left]


def test_a_verdict_is_fresh() -> None:
    """Either server's bit is a coin, whatever the verdict, and so is all that is opened on the way to it."""
    shown, first, session = [], [], Session(3)
    program = audited(grow, torch.ones(SENTENCES, TOKENS))
    for turn in range(200):
        x = rows(2000.0 if turn % 2 else 1.0, 1, 2)
        run = session.run(program, session.share(x, 24, 12))
        assert bits_of(*run.results[:2]) == [0, turn % 2, 0]
        first.append(int(run.results[0].packed[0]) >> 1 & 1)
        shown.append([int(value.reshape(-1)[0]) >> 1 & 1 for part, value in run.opened if part.label == "audit"])
    for parity in (0, 1):
        for column in (first[parity::2], *zip(*shown[parity::2], strict=True)):
            assert 25 < sum(column) < 75
