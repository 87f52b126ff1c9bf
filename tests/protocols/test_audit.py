"""The audit's checks: what is surely found, what is never flagged, at no more than the cost that is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from audits import SENTENCES, TOKENS, WIDTH, Looked, grow, rows, verdict
from checks import few
from hypothesis import given
from hypothesis import strategies as st
from lockstep import Session
from torch import Tensor

from mpcnet.arrays import ring
from mpcnet.protocols import cells, division
from mpcnet.protocols.argmax import one_hot_argmax
from mpcnet.protocols.arith import lift
from mpcnet.protocols.audit import out_of_range
from mpcnet.protocols.division import RowRange
from mpcnet.protocols.gelu import gelu, pi_gelu, pi_gelu_polynomial
from mpcnet.protocols.layernorm import layer_norm
from mpcnet.protocols.lockstep_session import check_cost, plan
from mpcnet.protocols.party import Party
from mpcnet.protocols.quad import quad
from mpcnet.protocols.share import Bits, Shared
from mpcnet.protocols.softmax import Window, exponentials, relus, squares


def flagged(words: Tensor, bits: int, limit: int, centre: int, seed: int = 0) -> Tensor:
    """For each word, whether any of the bits that are read of its opening is 1."""

    async def build(p: Party, x: Shared) -> list[Bits]:
        return list(out_of_range(p, await p.open_one(x), limit, centre))

    session = Session(seed)
    shares = session.share(words.to(torch.float64), bits, 0)
    run = session.run(build, shares)
    check_cost(run.ledger, plan(build, shares))
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
    counts = torch.stack([flagged(words, 9, 48, 20, seed) for seed in range(40)]).sum(0)
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


@pytest.mark.parametrize(
    ("value", "left"), [(900.0, 0), (-950.0, 0), (1024.0, 1), (-1025.0, 1), (2047.0, 1)]
)  # -1025 is what 3071 looks like in this ring
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
    [
        (1.0, 0.0, 0),
        (1.0, 0.003, 0),
        (90.0, -0.003, 0),
        (1.0, 0.01, 1),
        (90.0, -0.01, 1),
        (90.0, 0.2, 1),
        (3.0, 1.0, 1),
    ],
)
@pytest.mark.parametrize("target", [1.0, 1.05, 1.98, 384.0])
def test_inverses(value: float, error: float, left: int, target: float) -> None:
    """x y = target, for x from 1 to 100, to one part in 128, whatever the target."""

    async def build(p: Party, x: Shared, y: Shared) -> None:
        p.audit.inverse(p, x, y, 1.0, 100.0, target)

    x = torch.full((SENTENCES, TOKENS, 1), value, dtype=torch.float64)
    y = torch.round((target / x) * 2**20) / 2**20
    y[1, 2] *= 1 + error
    assert verdict(build, torch.ones(SENTENCES, TOKENS), (x, 40, 16), (y, 40, 20))[0] == [0, left, 0]


@pytest.mark.parametrize(("high", "most"), [(6.0, 8.0), (100.0, 300.0), (128.0, 2e5)])
def test_iterations_beyond_their_range(high: float, most: float) -> None:
    """They converge up to 2.7 times its end; what the row sum divides was planned for the range."""
    x = torch.cat([torch.linspace(0.02, high, 60), torch.linspace(9 / 7 * high + 0.01, most, 60)]).to(torch.float64)

    async def build(p: Party, x: Shared) -> Shared:
        return (await division.reciprocal(p, x, RowRange(0.0174, high)))[0]

    found, _ = verdict(build, torch.ones(120, 1), (torch.round(x * 2**16).unsqueeze(-1) * 2.0**-16, 40, 16))
    assert found == [0] * 60 + [1] * 60
