"""The audit's checks: what is surely found, what is never flagged, at no more than the cost that is stated."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
import torch
from checks import Input, chi_square, few, told, under_audit, watched
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Run, Session, plan, same_cost
from torch import Tensor

from mpcnet import ring
from protocols import audit as A
from protocols import cells, division
from protocols.argmax import one_hot_argmax
from protocols.arith import lift
from protocols.audit import outside
from protocols.division import RowRange
from protocols.gelu import gelu, pi_gelu, pi_gelu_polynomial
from protocols.layernorm import layer_norm
from protocols.party import Party
from protocols.quad import quad
from protocols.share import Bits, Shared
from protocols.softmax import Window, exponentials, relus, squares

Looked = Callable[..., Any]


def verdict(build: Looked, keep: Tensor, *inputs: tuple[Tensor, int, int], seed: int = 0) -> tuple[list[int], Run]:
    """Of two servers, beside that of the oracle; the cost is the plan's. `inputs` are values, bits, fraction bits."""
    done = watched(build, keep, *(Input(*given) for given in inputs), seed=seed)
    found = [int(bit) for bit in done.flagged]
    assert [int(bit) for bit in done.oracle_flagged] == found
    return found, done.run


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
    """A check of 28 bits costs 64 bits an element and no byte online; the verdict a round and 5 bytes a sentence."""
    keep = torch.ones(2, 2)

    async def look(p: Party, x: Shared) -> None:
        lift(p, await p.open_one(x), 40)

    async def no_look(p: Party, x: Shared) -> Shared:
        return lift(p, await p.open_one(x), 40).shared()

    given = (torch.zeros(2, 2, 4), 28, 14)
    _, run = verdict(look, keep, given)
    session = Session(0)
    bare = session.run(no_look, session.share(*given)).ledger.total()
    total, audit = run.ledger.total(), run.ledger.operations["audit"]
    assert (audit.rounds, audit.sent_bytes) == (1, 2 * 5)
    assert (total.rounds, total.sent_bytes) == (bare.rounds + 1, bare.sent_bytes + 10)
    assert sum(audit.dealt_bytes) == 16 * 8 + 10  # tables, and rho times the hash's mask
    assert sum(total.dealt_bytes) == sum(bare.dealt_bytes) + 16 * 8 + 10


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


def test_what_is_proved_is_not_looked_at() -> None:
    """`sure`: nothing is dealt for the audit, nothing is flagged, whatever the values."""
    x, wide = rows(8.0, 2, 0), torch.zeros(SENTENCES, 1, TOKENS, WIDTH, dtype=torch.float64)
    kept = torch.ones(WIDTH, dtype=torch.int64)
    positive = RowRange(2.0, 1000.0)
    cases: list[tuple[Looked, Tensor, int, int]] = [
        (lambda p, x, sure: grown(p, x, sure), x, 24, 12),
        (lambda p, x, sure: gelu(p, x, 40, sure), x, 24, 12),
        (lambda p, x, sure: pi_gelu(p, x, 64, sure), x, 24, 12),
        (lambda p, x, sure: pi_gelu_polynomial(p, x, 64, sure), x, 24, 12),
        (lambda p, x, sure: quad(p, x, 40, sure=sure), x, 24, 12),
        (lambda p, x, sure: squares(p, x, kept, 48, 12, sure=sure), wide, 22, 12),
        (lambda p, x, sure: relus(p, x, kept, 48, sure=sure), wide, 22, 12),
        (lambda p, x, sure: layer_norm(p, x, 1e-5, positive, 14, 12, free_root, sure=sure), x, 28, 14),
        (lambda p, x, sure: one_hot_argmax(p, x, sure=sure), x[:, 0, :3], 38, 16),
    ]
    for program, values, bits, frac in cases:
        costs = []
        for sure in (True, False):

            async def build(p: Party, x: Shared, sure: bool = sure, program: Looked = program) -> None:
                await program(p, x, sure)

            found, run = verdict(build, torch.ones(SENTENCES, TOKENS), (values, bits, frac))
            assert found == [0, 0, 0]
            costs.append(run.ledger.total())
        session = Session(0)
        bare = session.run(lambda p, x, program=program: program(p, x, True), session.share(values, bits, frac))
        verdict_dealt, total = SENTENCES * 5, bare.ledger.total()
        assert sum(costs[0].dealt_bytes) == sum(total.dealt_bytes) + verdict_dealt
        assert costs[0].sent_bytes == total.sent_bytes + SENTENCES * 5
        assert sum(costs[1].dealt_bytes) > sum(costs[0].dealt_bytes)


async def grown(p: Party, x: Shared, sure: bool) -> Shared:
    return lift(p, await p.open_one(x), 40, sure=sure).shared()


async def free_root(p: Party, x: Shared, rows: RowRange, factor: float) -> Shared:
    """One that no audit looks at."""
    return await cells.rsqrt(Party(p.source, p.label), x, rows, factor)


def test_any_single_bit_is_found() -> None:
    """Whatever is flagged before and after it, and wherever it stands."""
    count = 9

    async def build(p: Party, x: Shared) -> None:
        assert p.audit is not None
        bit = Bits.of(x.value & 1, x.party)
        ones = Bits.of(torch.zeros_like(x.value), x.party)
        for turn in range(count):
            only = bit.map(lambda b, turn=turn: b * (torch.arange(count) == turn).reshape(-1, 1))  # type: ignore[misc]
            p.audit.flag(only)
            p.audit.flag(ones)

    x = torch.eye(count, dtype=torch.float64).repeat(1, 3)
    assert verdict(build, torch.ones(count, 1), (x, 8, 0))[0] == [1] * count
    assert verdict(build, torch.ones(count, 1), (0 * x, 8, 0))[0] == [0] * count


def test_many_are_as_one() -> None:
    """Any number of bits is found: no two cancel. Every sentence has its own."""
    for seed in range(30):
        chosen = torch.rand(SENTENCES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed)) < 0.5
        chosen[seed % SENTENCES] = False
        x = torch.where(chosen, 2000.0, 1.0).to(torch.float64)
        found, _ = verdict(grow, torch.ones(SENTENCES, TOKENS), (x, 24, 12), seed=seed)
        assert found == [int(sentence != seed % SENTENCES) for sentence in range(SENTENCES)]


@pytest.mark.parametrize("root", [division.rsqrt, cells.rsqrt], ids=["iterations", "cells"])
@pytest.mark.parametrize(
    ("scale", "left"),
    [(1.0, 0), (0.51, 0), (3.9, 0), (0.01, 1), (60.0, 1), (900.0, 1)],
)
def test_roots(scale: float, left: int, root: Any) -> None:
    """LayerNorm's square sums from 2 to 130: far below and above them the root is not what it should be."""

    async def norm(p: Party, x: Shared) -> None:
        await layer_norm(p, x, 1e-5, RowRange(2.0, 130.0, 2.0**24), 14, 12, root)

    x = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).expand(SENTENCES, TOKENS, WIDTH).clone()
    x[1, 3] *= scale
    assert verdict(norm, torch.ones(SENTENCES, TOKENS), (x, 28, 14))[0] == [0, left, 0]


def scores(value: float, key: int = 4) -> Tensor:
    x = torch.linspace(-3, 3, 2 * TOKENS * TOKENS, dtype=torch.float64).reshape(1, 2, TOKENS, TOKENS).clone()
    x[0, 1, 0, key] = value
    return torch.cat([x * 0, x, x * 0])


@pytest.mark.parametrize("softmax", ["exact", "2quad"])
def test_scores_of_padding_do_not_count(softmax: str) -> None:
    """Of padded keys, whatever the row; and of padded queries."""
    mask = torch.ones(SENTENCES, TOKENS, dtype=torch.int64)
    mask[:, 4] = 0
    kept = mask[:, None, None, :]

    async def build(p: Party, x: Shared) -> None:
        if softmax == "exact":
            await exponentials(p, x, kept, 16, [Window(7, 10, False, (0, 1), (0.0, 0.0))])
        else:
            await squares(p, x, kept, 48, 12)

    assert verdict(build, mask, (scores(300.0), 22, 12))[0] == [0, 0, 0]
    assert verdict(build, mask, (scores(300.0, key=3), 22, 12))[0] == [0, 1, 0]


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(("norm", "left"), [(17.0, 0), (20.0, 1), (1e3, 1), (1e5, 1), (1e6, 1)])
def test_norms(norm: float, left: int, turn: int) -> None:
    """Squares of norms of rows [B, heads, n, width], at 11 fraction bits in 32, below 384; of either operand."""

    async def build(p: Party, *x: Shared) -> None:
        assert p.audit is not None
        p.audit.norms(p, 384.0, *await p.open(*x))

    x = torch.full((SENTENCES, 2, TOKENS, WIDTH), 1.0, dtype=torch.float64)
    other = x.clone()
    x[2, 1, 3, :] = norm / WIDTH**0.5
    found, run = verdict(build, torch.ones(SENTENCES, TOKENS), *(((x, 32, 11), (other, 32, 11))[:: 1 - 2 * turn]))
    assert found == [0, 0, left]
    rows = 2 * SENTENCES * 2 * TOKENS
    assert run.ledger.operations["audit"].sent_bytes == rows * 6 + SENTENCES * 5


@pytest.mark.parametrize(
    ("value", "error", "left"),
    [(1.0, 0.0, 0), (1.0, 0.01, 0), (90.0, 0.01, 0), (1.0, 0.2, 1), (90.0, -0.2, 1), (3.0, 1.0, 1)],
)
def test_inverses(value: float, error: float, left: int) -> None:
    """x y = 1, for x from 1 to 100, to a sixteenth."""

    async def build(p: Party, x: Shared, y: Shared) -> None:
        assert p.audit is not None
        p.audit.inverse(p, x, y, RowRange(1.0, 100.0), 1.0)

    x = torch.full((SENTENCES, TOKENS, 1), value, dtype=torch.float64)
    y = torch.round((1 / x) * 2**20) / 2**20
    y[1, 2] *= 1 + error
    assert verdict(build, torch.ones(SENTENCES, TOKENS), (x, 40, 16), (y, 40, 20))[0] == [0, left, 0]


# The verdict.


def told_early(turns: int) -> Looked:
    """Grows `turns` values, and tells what was found after each but the last; ends with other rounds."""

    async def build(p: Party, *x: Shared) -> Shared:
        assert p.audit is not None
        for value in x[:turns]:
            lift(p, await p.open_one(value), 40)
            p.audit.tell(p)
        return (await p.open_one(x[-1])).shared()

    return build


def test_what_was_told_costs_no_round() -> None:
    """The verdict rides in the last opening; told twice, in two; bits found later make a round."""
    keep, good, bad = torch.ones(SENTENCES, TOKENS), rows(1.0, 0, 0), rows(2000.0, 1, 2)
    for turns in (1, 2, 3):
        for which in range(turns + 1):
            inputs = [(bad if which == i else good, 24, 12) for i in range(turns)]
            found, run = verdict(told_early(turns), keep, *inputs, (good, 24, 12))
            assert found == [0, int(which < turns), 0]
            assert run.ledger.total().rounds == turns + 1
            assert run.ledger.operations["audit"].sent_bytes == 5 * SENTENCES * turns

    async def later(p: Party, x: Shared, y: Shared) -> None:
        assert p.audit is not None
        lift(p, await p.open_one(x), 40)
        p.audit.tell(p)
        lift(p, await p.open_one(y), 40)

    other = rows(-2000.0, 1, 4)  # the oracle's rho is 0: two hashes that are equal would cancel there, and only there
    for inputs, want in (((good, bad), 1), ((bad, good), 1), ((bad, other), 1), ((good, good), 0)):
        found, run = verdict(later, keep, *((x, 24, 12) for x in inputs))
        assert found == [0, want, 0]
        assert run.ledger.total().rounds == 3


def test_nothing_at_all_is_a_verdict_of_0() -> None:
    async def nothing(p: Party, x: Shared) -> None:
        await p.open_one(x)

    assert verdict(nothing, torch.ones(SENTENCES, TOKENS), (rows(2000.0, 1, 2), 24, 12))[0] == [0, 0, 0]


def test_a_verdict_tells_one_bit_only() -> None:
    """Any share of it, the opened hash, and a verdict that is not 0 are uniform, whatever was found."""
    count = 3000
    program = under_audit(grow, torch.ones(count, 1))
    for found in (0, 1, 3):
        x = torch.ones(count, 1, 4, dtype=torch.float64)
        x[..., :found] = 2000.0
        session = Session(5)
        run = session.run(program, session.share(x, 24, 12))
        (_, first), (_, second), _ = run.results
        assert bool(told(first, second).all()) == bool(found)
        (hashed,) = (value for part, value in run.opened if part.label == "audit")
        seen = [first.packed, second.packed, hashed, *([first.packed ^ second.packed] if found else [])]
        for packed in seen:
            bits = ring.unpack_bits(packed, (count, A.HASH_BITS)).to(torch.int64)
            for start in range(0, A.HASH_BITS - 5, 5):
                digits = (bits[:, start : start + 6] << torch.arange(6)).sum(1)
                assert abs(chi_square(digits, 64)) < 5
            assert ((bits.to(torch.float64).mean(0) - 0.5).abs() < 5 / (2 * sqrt(count))).all()


def slow_times(a: int, b: int) -> int:
    """In GF(2^40), bit by bit."""
    total = 0
    for place in range(A.HASH_BITS):
        if b >> place & 1:
            total ^= a << place
    for place in reversed(range(A.HASH_BITS, 2 * A.HASH_BITS)):
        if total >> place & 1:
            total ^= A.MODULUS << place - A.HASH_BITS
    return total


def elements(values: list[int]) -> Tensor:
    return ring.pack_bits(torch.tensor([[v >> i & 1 for i in range(A.HASH_BITS)] for v in values], dtype=torch.uint8))


@few
@given(st.lists(st.tuples(*[st.integers(0, 2**40 - 1)] * 2), min_size=1, max_size=20))
def test_products_of_the_field(pairs: list[tuple[int, int]]) -> None:
    pairs = [*pairs, (0, 1), (1, 2**40 - 1), (2**39, 2), (2**40 - 1, 2**40 - 1)]
    shape = (len(pairs), A.HASH_BITS)
    got = A._times(elements([a for a, _ in pairs]), elements([b for _, b in pairs]), shape)
    assert torch.equal(got, elements([slow_times(a, b) for a, b in pairs]))


def test_the_modulus_is_irreducible() -> None:
    """Rabin's test: x^(2^40) = x, and x^(2^(40 / q)) - x has no factor in common with it, for q = 2 and 5."""

    def powers(count: int) -> int:
        x = 2
        for _ in range(count):
            x = slow_times(x, x)
        return x

    def common(a: int, b: int) -> int:
        while b:
            while a and a.bit_length() >= b.bit_length():
                a ^= b << a.bit_length() - b.bit_length()
            a, b = b, a
        return a

    assert powers(40) == 2
    assert common(A.MODULUS, powers(20) ^ 2) == 1
    assert common(A.MODULUS, powers(8) ^ 2) == 1
